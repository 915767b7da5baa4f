"""Settings of dataset-svc: environment variables with the prefix ``ASSAY_``."""

from dataclasses import dataclass

from pydantic import AliasChoices, Field, SecretStr, field_validator

from assay_chassis.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class HubSettings:
    """The settings of imports; see ``Settings``."""

    endpoint: str | None
    token: SecretStr | None
    offline: bool
    slots: int
    attempts: int
    max_rows: int
    max_bytes: int
    memory_bytes: int
    patience_s: float
    lease_s: float
    sweep_s: float


class Settings(ServiceSettings):
    """What dataset-svc needs beside the settings of every service.

    Attributes:
        host: address that ``python -m dataset_svc`` listens on.
        dataset_port: port that it listens on.
        max_upload_bytes: largest upload.
        max_line_bytes: longest line of an upload, without its line end.
        max_nesting: deepest lists and objects inside a row; the row itself is the first level.
        max_columns: most columns, counting the fields of nested objects.
        concurrent_ingests: uploads that are parsed at the same time; others wait.
        eval_url: base URL of eval-svc, which knows the runs.
        deletion_grace_s: seconds between a deletion and the removal of the files that nothing else needs.
        deletion_sweep_s: seconds between two looks for such files.
        hf_endpoint: base URL of the Hugging Face Hub (also ``HF_ENDPOINT``); the public one if not set.
        hf_token: token for gated and private repositories (also ``HF_TOKEN``).
        hf_hub_offline: whether imports only read what is cached (also ``HF_HUB_OFFLINE``).
        ingest_slots: imports at the same time.
        ingest_attempts: how often the process of an import may die before the import has failed.
        max_hub_rows: most rows of a split.
        max_hub_bytes: most bytes of the files of an import.
        hub_memory_bytes: most resident memory of the process of an import.
        ingest_patience_s: how long an import waits altogether while the Hub asks it to come back later.
        ingest_lease_s: seconds until a dead service's import may be taken by another.
        ingest_sweep_s: longest time between two looks for imports that wait.
    """

    host: str = "127.0.0.1"
    dataset_port: int = 8101
    max_upload_bytes: int = Field(default=512 << 20, ge=1)
    max_line_bytes: int = Field(default=8 << 20, ge=1)
    max_nesting: int = Field(default=32, ge=1, le=200)
    max_columns: int = Field(default=500, ge=1)
    concurrent_ingests: int = Field(default=2, ge=1)
    eval_url: str = "http://127.0.0.1:8003"
    deletion_grace_s: float = Field(default=900.0, gt=0)
    deletion_sweep_s: float = Field(default=60.0, gt=0)
    hf_endpoint: str = Field(default="", validation_alias=AliasChoices("ASSAY_HF_ENDPOINT", "hf_endpoint"))
    hf_token: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("ASSAY_HF_TOKEN", "hf_token")
    )
    hf_hub_offline: bool = Field(
        default=False, validation_alias=AliasChoices("ASSAY_HF_HUB_OFFLINE", "hf_hub_offline")
    )
    ingest_slots: int = Field(default=2, ge=1)
    ingest_attempts: int = Field(default=3, ge=1)
    max_hub_rows: int = Field(default=20_000_000, ge=1)
    max_hub_bytes: int = Field(default=8 << 30, ge=1)
    hub_memory_bytes: int = Field(default=4 << 30, ge=1 << 28)
    ingest_patience_s: float = Field(default=600.0, ge=0)
    ingest_lease_s: float = Field(default=10.0, gt=0)
    ingest_sweep_s: float = Field(default=5.0, gt=0)

    @field_validator("hf_hub_offline", mode="before")
    @classmethod
    def _empty_is_no(cls, value: object) -> object:
        """As the Hub's libraries read it."""
        return False if value == "" else value

    @property
    def hub(self) -> HubSettings:
        """The settings of imports."""
        # An empty variable, as a compose file passes on one that is not set, is none.
        token = self.hf_token if self.hf_token and self.hf_token.get_secret_value() else None
        return HubSettings(
            endpoint=self.hf_endpoint or None,
            token=token,
            offline=self.hf_hub_offline,
            slots=self.ingest_slots,
            attempts=self.ingest_attempts,
            max_rows=self.max_hub_rows,
            max_bytes=self.max_hub_bytes,
            memory_bytes=self.hub_memory_bytes,
            patience_s=self.ingest_patience_s,
            lease_s=self.ingest_lease_s,
            sweep_s=self.ingest_sweep_s,
        )

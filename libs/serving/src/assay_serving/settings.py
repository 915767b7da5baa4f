"""What the operator of an adapter can set, read once from the environment."""

import hashlib
import os
import shlex
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, SecretStr, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from assay_serving.launchers.kubernetes.settings import KubernetesSettings

# What an engine's process may see of the adapter's environment.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "OMP_PROC_BIND")


def engine_environment() -> dict[str, str]:
    """The environment of an engine's process: paths and locale, no secrets."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


class _VariablesOfTheMachine(PydanticBaseSettingsSource):
    """Variables that mean the same to several programs, for fields whose own variable is not set."""

    def __init__(self, settings_class: type[BaseSettings], variables: Mapping[str, str]) -> None:
        super().__init__(settings_class)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """See PydanticBaseSettingsSource."""
        return os.environ.get(self._variables.get(field_name, "")), field_name, False

    def __call__(self) -> dict[str, Any]:
        """The values by the names of their fields."""
        values = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in values.items() if value}


class AdapterSettings(BaseSettings):
    """Settings that every adapter has; each is the variable ``<the adapter's prefix><NAME>``.

    A field that `machine_variables` names may also be set by that variable, for all programs at once.
    """

    machine_variables: ClassVar[Mapping[str, str]] = {
        "home": "ASSAY_HOME",
        "otlp_endpoint": "ASSAY_OTLP_ENDPOINT",
    }
    name: ClassVar[str] = ""
    """Short name of the adapter, used in its file names: ``cpu``."""

    model_config = SettingsConfigDict(populate_by_name=True)

    listen: str = Field(default="127.0.0.1:0", description="host:port; port 0 takes any free one")
    address_file: Path | None = Field(
        default=None, description="written with the bound host:port once the adapter serves"
    )
    home: Path = Field(default=Path(".assay"), description="directory for logs and cached artifacts")
    artifact_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="directories that file:// artifacts may come from, separated by ':'"
    )
    otlp_endpoint: str | None = Field(
        default=None, description="OTLP/HTTP base URL for traces; nothing is exported if not set"
    )
    uvloop: bool = Field(default=True, description="run on uvloop's event loop where it is installed")
    prefer_adapter: bool = Field(
        default=True, description="run before other processes of this machine where the system allows it"
    )
    max_instances: int = Field(default=4, ge=1)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The adapter's own variables come before those of the machine."""
        return (init_settings, env_settings, _VariablesOfTheMachine(settings_cls, cls.machine_variables))

    @field_validator("artifact_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @field_validator("home", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def label(self) -> str:
        """Names this adapter in all its lives, on all that it starts, so that a later life finds it."""
        home = hashlib.sha256(str(self.home).encode()).hexdigest()[:12]
        return f"adapter-{self.name}-{home}"

    @property
    def cache_directory(self) -> Path:
        """Where artifacts that an adapter made are kept, by content."""
        return self.home / "cache" / "artifacts"

    @property
    def log_directory(self) -> Path:
        """One log per engine."""
        return self.home / "logs" / f"adapter-{self.name}"

    @property
    def run_directory(self) -> Path:
        """Files that exist only while an engine runs."""
        return self.home / "run" / f"adapter-{self.name}"


class LauncherKind(StrEnum):
    """Where an adapter starts its model servers; `ENDPOINT` starts none and only connects to others'."""

    PROCESS = "process"
    KUBERNETES = "kubernetes"
    ENDPOINT = "endpoint"


class ModelServerSettings(AdapterSettings):
    """Settings of adapters that start an HTTP model server, or connect to one."""

    machine_variables: ClassVar[Mapping[str, str]] = {
        **AdapterSettings.machine_variables,
        "hub_endpoint": "HF_ENDPOINT",
        "hub_token": "HF_TOKEN",
        "hub_offline": "HF_HUB_OFFLINE",
        "hub_cache": "HF_HUB_CACHE",
    }

    model_config = SettingsConfigDict(env_nested_delimiter="__")

    launcher: LauncherKind = LauncherKind.PROCESS
    command: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="the server's program and first arguments, as in a shell"
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="more variables for the server's process, as JSON; not secret"
    )
    devices: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="ids of the devices that this adapter may use, by ','; all if not set"
    )
    allow_cpu: bool = Field(
        default=False, description="start the server without any accelerator, for builds that compute on CPUs"
    )
    endpoint_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="host names that artifacts of the format 'endpoint' may lead to, by ','"
    )
    endpoint_ca_file: str = Field(default="", description="PEM file of authorities that sign endpoints")
    exporter_url: str = Field(
        default="", description="metrics URL of the cluster's power exporter (DCGM, furiosa-metrics-exporter)"
    )
    hub_endpoint: str = Field(default="", description="base URL of the model hub; the public one if not set")
    hub_token: SecretStr = Field(default=SecretStr(""), description="for gated and private repositories")
    hub_offline: bool = Field(default=False, description="use only what the hub's cache has")
    hub_cache: Path | None = Field(default=None, description="the hub's cache; below home if not set")
    default_context_tokens: int = Field(
        default=0, ge=0, description="where a request names none; 0 leaves it to the model"
    )
    max_context_tokens: int = Field(default=0, ge=0, description="most that may be asked for; 0: any")
    max_concurrency: int = Field(default=256, ge=1, description="most requests in flight of one instance")
    kubernetes: KubernetesSettings = Field(default_factory=KubernetesSettings)

    @field_validator("command", mode="before")
    @classmethod
    def _split_command(cls, value: object) -> object:
        return tuple(shlex.split(value)) if isinstance(value, str) else value

    @field_validator("endpoint_hosts", "devices", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("endpoint_hosts", mode="after")
    @classmethod
    def _lower_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(host.lower() for host in value)

    @field_validator("exporter_url", "hub_endpoint", mode="after")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must be an http:// or https:// URL")
        return value

    @property
    def hub_cache_directory(self) -> Path:
        """Where downloaded repositories are kept."""
        return self.hub_cache or self.home / "cache" / "hub"


# What the process that talks to the hub may see of the adapter's environment in addition.
_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE")


def hub_environment(cache: Path, *, offline: bool) -> dict[str, str]:
    """The environment of a process that uses the hub's library; the token is not in it."""
    return {
        **engine_environment(),
        **{name: os.environ[name] for name in _NETWORK if name in os.environ},
        "HF_HOME": str(cache.parent),
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_SHARED_BLOBS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    }

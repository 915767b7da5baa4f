"""What an operator can set, read once from the environment."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

# What the engine's process may see of the adapter's environment.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "OMP_PROC_BIND")


class CpuAdapterSettings(BaseSettings):
    """Settings of the CPU adapter; each is the environment variable ASSAY_CPU_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="ASSAY_CPU_", populate_by_name=True)

    listen: str = Field(default="127.0.0.1:0", description="host:port; port 0 takes any free one")
    address_file: Path | None = Field(
        default=None, description="written with the bound host:port once the adapter serves"
    )
    home: Path = Field(
        default=Path(".assay"),
        validation_alias=AliasChoices("ASSAY_CPU_HOME", "ASSAY_HOME"),
        description="directory for logs and cached artifacts",
    )
    artifact_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="directories that file:// artifacts may come from, separated by ':'"
    )
    otlp_endpoint: str | None = Field(
        default=None,
        validation_alias=AliasChoices("ASSAY_CPU_OTLP_ENDPOINT", "ASSAY_OTLP_ENDPOINT"),
        description="OTLP/HTTP base URL for traces; nothing is exported if not set",
    )
    max_instances: int = Field(default=4, ge=1)
    max_concurrency: int = Field(default=16, ge=1, description="most sequences of one instance")
    default_context_tokens: int = Field(default=2048, ge=64, description="per sequence")
    max_context_tokens: int = Field(default=8192, ge=64, description="per sequence")

    @field_validator("artifact_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @field_validator("home", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def cache_directory(self) -> Path:
        """Where artifacts that this adapter made are kept, by content."""
        return self.home / "cache" / "artifacts"

    @property
    def log_directory(self) -> Path:
        """One log per engine."""
        return self.home / "logs" / "adapter-cpu"

    @property
    def run_directory(self) -> Path:
        """Files that exist only while an engine runs."""
        return self.home / "run" / "adapter-cpu"


def engine_environment() -> dict[str, str]:
    """The environment of an engine's process: paths and locale, no secrets."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}

"""What an operator can set, read once from the environment."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from assay_serving.power.host import POWERCAP
from assay_serving.settings import AdapterSettings


class CpuAdapterSettings(AdapterSettings):
    """Settings of the CPU adapter; each is the environment variable ASSAY_CPU_<NAME>."""

    name: ClassVar[str] = "cpu"
    model_config = SettingsConfigDict(env_prefix="ASSAY_CPU_")

    max_concurrency: int = Field(default=16, ge=1, description="most sequences of one instance")
    default_context_tokens: int = Field(default=2048, ge=64, description="per sequence")
    max_context_tokens: int = Field(default=8192, ge=64, description="per sequence")
    powercap_directory: Path = Field(
        default=POWERCAP, description="where Linux shows the processor's energy counters, as in a container"
    )

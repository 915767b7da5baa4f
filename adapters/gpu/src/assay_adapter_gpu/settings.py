"""What an operator can set, read once from the environment."""

from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from assay_serving.settings import ModelServerSettings


class GpuAdapterSettings(ModelServerSettings):
    """Settings of the GPU adapter; each is the environment variable ASSAY_GPU_<NAME>."""

    name: ClassVar[str] = "gpu"
    model_config = SettingsConfigDict(env_prefix="ASSAY_GPU_")

    allow_remote_code: bool = Field(
        default=False, description="whether artifacts may ask for code of their repository to be run"
    )

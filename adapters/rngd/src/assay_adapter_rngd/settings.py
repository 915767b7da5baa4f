"""What an operator can set, read once from the environment."""

from typing import ClassVar

from pydantic_settings import SettingsConfigDict

from assay_serving.settings import ModelServerSettings


class RngdAdapterSettings(ModelServerSettings):
    """Settings of the RNGD adapter; each is the environment variable ASSAY_RNGD_<NAME>."""

    name: ClassVar[str] = "rngd"
    model_config = SettingsConfigDict(env_prefix="ASSAY_RNGD_")

"""Settings of the console: environment variables with the prefix ``ASSAY_CONSOLE_``."""

from pydantic import Field, HttpUrl
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What the console needs.

    Attributes:
        host, port: where ``python -m assay_console`` listens.
        gateway_url: the gateway whose API the pages show, as this process reaches it.
        timeout_s: seconds that one call of the API may take.
        page_size: rows of one page of a list.
    """

    model_config = SettingsConfigDict(env_prefix="ASSAY_CONSOLE_", extra="ignore", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8110, ge=1, le=65535)
    gateway_url: HttpUrl = HttpUrl("http://127.0.0.1:8080")
    timeout_s: float = Field(default=180.0, gt=0)
    page_size: int = Field(default=50, ge=1, le=200)

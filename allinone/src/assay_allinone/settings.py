"""What the user may set for the platform on one machine. Read once, at the start."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class PlatformSettings(BaseSettings):
    """Environment variables with the prefix ``ASSAY_``.

    Attributes:
        home: directory of everything the platform keeps: data, keys, logs.
        mongo_uri: a MongoDB to use; the embedded server runs if not set.
        gateway_port: port of the gateway; 8080 or, where that is taken, a free one if not set.
        adapters: serving adapters that run elsewhere, ``gpu=10.0.0.5:7001,...``; each takes the place of this
            machine's own for its backend.
        up_adapters: backends whose adapters run on this machine: ``cpu``, ``gpu``, ``rngd``.
        no_proxy: hosts that the user's own environment exempts from its HTTP proxy (``NO_PROXY``).
    """

    model_config = SettingsConfigDict(env_prefix="ASSAY_", extra="ignore", frozen=True)

    home: Path = Path(".assay")
    mongo_uri: SecretStr | None = None
    gateway_port: int | None = Field(default=None, ge=1, le=65535)
    adapters: str = ""
    up_adapters: Annotated[tuple[Literal["cpu", "gpu", "rngd"], ...], NoDecode] = ("cpu",)
    no_proxy: str = Field(default="", validation_alias=AliasChoices("no_proxy", "NO_PROXY"))

    @field_validator("up_adapters", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(dict.fromkeys(filter(None, re.split(r"[\s,]+", value))))
            if isinstance(value, str)
            else value
        )


class GatewaySettings(BaseSettings):
    """What the gateway's configuration for a container is rendered from; prefix ``ASSAY_``.

    Attributes:
        gateway_listen: ``host:port`` that Envoy binds.
        dataset_address: ``host:port`` of dataset-svc; likewise the other services and the console.
    """

    model_config = SettingsConfigDict(env_prefix="ASSAY_", extra="ignore", frozen=True)

    gateway_listen: str = "0.0.0.0:8080"
    dataset_address: str = "dataset-svc:8001"
    method_address: str = "method-svc:8002"
    eval_address: str = "eval-svc:8003"
    metrics_address: str = "metrics-svc:8004"
    access_address: str = "access-svc:8006"
    console_address: str = "console:8005"

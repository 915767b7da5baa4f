"""Settings that every service has. Read once, in ``wiring``; passed down by keyword."""

from pathlib import Path

from pydantic import SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from assay_chassis.identity import checked_internal_key


class ServiceSettings(BaseSettings):
    """Environment variables with the prefix ``ASSAY_``.

    Attributes:
        home: directory for this platform's caches and logs.
        cache_dir: directory for what several platforms of one user share; the user's cache directory if not
            set.
        nats_url: NATS server, ``nats://host:port``.
        mongo_uri: MongoDB connection string.
        database_prefix: put before the names of the databases, so that several platforms share a MongoDB.
        internal_key: secret with which the services sign who calls, at least 32 bytes.
        streams_file: JSON file with replicas, age and size of the streams; built-in limits if not set.
        otlp_endpoint: OTLP/HTTP base URL for traces and metrics; nothing is exported if not set.
        store_patience_s: seconds for which an operation is tried again while the store does not answer.
    """

    model_config = SettingsConfigDict(env_prefix="ASSAY_", extra="ignore", frozen=True)

    home: Path = Path(".assay")
    cache_dir: Path | None = None
    nats_url: str = "nats://127.0.0.1:4222"
    mongo_uri: str = "mongodb://127.0.0.1:27017/?retryWrites=false"
    database_prefix: str = ""
    internal_key: SecretStr
    streams_file: Path | None = None
    otlp_endpoint: str | None = None
    store_patience_s: float = 15.0

    @field_validator("internal_key")
    @classmethod
    def _long_enough(cls, key: SecretStr) -> SecretStr:
        checked_internal_key(key.get_secret_value())
        return key

"""Settings of access-svc: environment variables with the prefix ``ASSAY_``."""

from pydantic import Field, SecretStr

from assay_chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """What access-svc needs beside the settings of every service.

    Attributes:
        host: address that the web server binds.
        access_port: port that the web server binds.
        api_key: the first admin's key. It is not in the store: it is valid for as long as it is set.
        api_client: who its holder is to the services.
        accepted_for_s: seconds for which an accepted key is not looked up again; a key that was revoked at
            another instance of this service ends within this time.
    """

    host: str = "127.0.0.1"
    access_port: int = 8006
    api_key: SecretStr = Field(min_length=1)
    api_client: str = Field(default="owner", min_length=1)
    accepted_for_s: float = Field(default=5.0, ge=0)

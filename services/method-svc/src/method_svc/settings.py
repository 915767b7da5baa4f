"""Settings of method-svc: environment variables with the prefix ``ASSAY_``."""

from pydantic import Field

from assay_chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """What method-svc needs beside the settings of every service.

    Attributes:
        host: address that ``python -m method_svc`` listens on.
        method_port: port that it listens on.
        dataset_url: base URL of dataset-svc.
        concurrent_previews: previews that are rendered at the same time; others wait.
        preview_timeout_s: seconds after which a preview is given up.
    """

    host: str = "127.0.0.1"
    method_port: int = 8102
    dataset_url: str = "http://127.0.0.1:8101"
    concurrent_previews: int = Field(default=2, ge=1)
    preview_timeout_s: float = Field(default=120.0, gt=0)

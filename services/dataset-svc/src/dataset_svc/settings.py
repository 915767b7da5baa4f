"""Settings of dataset-svc: environment variables with the prefix ``ASSAY_``."""

from pydantic import Field

from assay_chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """What dataset-svc needs beside the settings of every service.

    Attributes:
        host: address that ``python -m dataset_svc`` listens on.
        dataset_port: port that it listens on.
        max_upload_bytes: largest upload.
        max_line_bytes: longest line of an upload, without its line end.
        max_nesting: deepest lists and objects inside a row; the row itself is the first level.
        max_columns: most columns, counting the fields of nested objects.
        concurrent_ingests: uploads that are parsed at the same time; others wait.
        eval_url: base URL of eval-svc, which knows the runs.
        deletion_grace_s: seconds between a deletion and the removal of the files that nothing else needs.
        deletion_sweep_s: seconds between two looks for such files.
    """

    host: str = "127.0.0.1"
    dataset_port: int = 8101
    max_upload_bytes: int = Field(default=512 << 20, ge=1)
    max_line_bytes: int = Field(default=8 << 20, ge=1)
    max_nesting: int = Field(default=32, ge=1, le=200)
    max_columns: int = Field(default=500, ge=1)
    concurrent_ingests: int = Field(default=2, ge=1)
    eval_url: str = "http://127.0.0.1:8003"
    deletion_grace_s: float = Field(default=900.0, gt=0)
    deletion_sweep_s: float = Field(default=60.0, gt=0)

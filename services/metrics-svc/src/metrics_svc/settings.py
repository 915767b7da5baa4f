"""Settings of metrics-svc, read once."""

from pathlib import Path

from pydantic import Field

from assay_chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """Environment variables with the prefix ``ASSAY_``.

    Attributes:
        host: address that the web server binds.
        metrics_port: port that the web server binds.
        dataset_url: base URL of dataset-svc.
        eval_url: base URL of eval-svc.
        scoring_slots: runs that are scored at the same time; each has a harness process.
        scoring_lease_s: seconds after which the run of a dead scorer is taken by another.
        scoring_sweep_s: seconds between two looks for blocks that no event told of.
        scoring_idle_s: seconds without a new block after which a run gives its slot back.
        scoring_tries: unexpected failures in a row, without a new block in between, before a run is given up.
        live_interval_s: seconds between two updates of the live metrics of a run.
    """

    host: str = "127.0.0.1"
    metrics_port: int = 8004
    dataset_url: str = "http://127.0.0.1:8001"
    eval_url: str = "http://127.0.0.1:8003"
    scoring_slots: int = Field(default=2, ge=1)
    scoring_lease_s: float = Field(default=15.0, gt=0)
    scoring_sweep_s: float = Field(default=1.0, gt=0)
    scoring_idle_s: float = Field(default=15.0, gt=0)
    scoring_tries: int = Field(default=5, ge=1)
    live_interval_s: float = Field(default=1.0, ge=0)

    @property
    def snapshot_cache(self) -> Path:
        """Where row files are kept."""
        return self.home / "cache" / "snapshots"

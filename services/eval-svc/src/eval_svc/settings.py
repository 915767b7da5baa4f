"""Settings of eval-svc, read once."""

from pathlib import Path

from pydantic import Field, field_validator

from assay_chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """Environment variables with the prefix ``ASSAY_``.

    Attributes:
        host: address that the web server binds.
        eval_port: port that the web server binds.
        dataset_url: base URL of dataset-svc.
        method_url: base URL of method-svc.
        adapters: serving adapters, ``cpu=127.0.0.1:7001,gpu=10.0.0.5:7001``; one per backend.
        worker_slots: runs that one worker executes at the same time.
        lease_s: seconds after which the run of a dead worker is taken by another.
        sweep_interval_s: seconds between two looks for runs that nobody works on.
        serving_lease_s: seconds after which an adapter releases an instance that nobody keeps alive.
        serving_ready_timeout_s: seconds that a serving instance may take to become ready.
        calibrate_serving: adapters measure their own timing errors before and after a run's requests, which
            takes about a second each time.
        serving_attempts: serving instances that a run may lose, one after the other, without a single new
            sample in between, before it fails.
        block_samples: samples in a block of the sample log, at most.
        block_interval_s: seconds after which a block is written even if it is not full.
    """

    host: str = "127.0.0.1"
    eval_port: int = 8003
    dataset_url: str = "http://127.0.0.1:8001"
    method_url: str = "http://127.0.0.1:8002"
    adapters: str = ""
    worker_slots: int = Field(default=1, ge=1)
    lease_s: float = Field(default=10.0, gt=0)
    sweep_interval_s: float = Field(default=2.0, gt=0)
    serving_lease_s: float = Field(default=30.0, gt=0)
    serving_ready_timeout_s: float = Field(default=600.0, gt=0)
    calibrate_serving: bool = True
    serving_attempts: int = Field(default=5, ge=1)
    block_samples: int = Field(default=64, ge=1, le=64)
    block_interval_s: float = Field(default=1.0, gt=0)

    @field_validator("adapters")
    @classmethod
    def _well_formed(cls, text: str) -> str:
        parse_adapters(text)
        return text

    @property
    def adapter_addresses(self) -> dict[str, str]:
        """Backend name to ``host:port``."""
        return parse_adapters(self.adapters)

    @property
    def snapshot_cache(self) -> Path:
        """Directory of downloaded snapshots, named by digest."""
        return self.home / "cache" / "snapshots"


def parse_adapters(text: str) -> dict[str, str]:
    """Parse ``backend=host:port,...``.

    Raises:
        ValueError: an entry has another shape, or a backend is named twice.
    """
    addresses: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        backend, separator, address = entry.partition("=")
        if not separator or ":" not in address:
            raise ValueError(f"{entry!r} is not of the form backend=host:port")
        if backend in addresses:
            raise ValueError(f"backend {backend!r} has two addresses")
        addresses[backend] = address
    return addresses

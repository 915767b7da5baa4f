"""``python -m assay_adapter_rngd``: serve until SIGTERM or SIGINT."""

from assay_adapter_rngd.backend import RngdBackend
from assay_adapter_rngd.settings import RngdAdapterSettings
from assay_serving.adapter_process import run_adapter


def main() -> None:
    """Entry point; see `run_adapter`."""
    run_adapter(RngdAdapterSettings, RngdBackend)


if __name__ == "__main__":
    main()

"""``python -m assay_adapter_cpu``: serve until SIGTERM or SIGINT."""

from assay_adapter_cpu.backend import CpuBackend
from assay_adapter_cpu.settings import CpuAdapterSettings
from assay_serving.adapter_process import run_adapter


def main() -> None:
    """Entry point; see `run_adapter`."""
    run_adapter(CpuAdapterSettings, CpuBackend)


if __name__ == "__main__":
    main()

"""``python -m assay_adapter_gpu``: serve until SIGTERM or SIGINT."""

from assay_adapter_gpu.backend import GpuBackend
from assay_adapter_gpu.settings import GpuAdapterSettings
from assay_serving.adapter_process import run_adapter


def main() -> None:
    """Entry point; see `run_adapter`."""
    run_adapter(GpuAdapterSettings, GpuBackend)


if __name__ == "__main__":
    main()

"""The GPU backend: vLLM servers on NVIDIA cards."""

from collections.abc import Mapping, Sequence

from assay_adapter_gpu.settings import GpuAdapterSettings
from assay_adapter_gpu.vllm import SOFTWARE, accelerators_of, vllm_command
from assay_serving.http_backend import HttpServerBackend
from assay_serving.power.exporters import DcgmExporter, Workload
from assay_serving.power.nvml import NvmlSource, list_devices
from assay_serving.power.source import FoundDevices, PowerSource
from assay_serving.server_software import ServerCommand
from assay_serving.types import Device, ProvisionSpec


class GpuBackend(HttpServerBackend):
    """Runs vLLM on this machine's cards or a cluster's, or talks to somebody else's."""

    def __init__(self, settings: GpuAdapterSettings) -> None:
        super().__init__(settings, SOFTWARE)
        self._allow_remote_code = settings.allow_remote_code

    def find_devices(self) -> FoundDevices:
        """The cards that the driver knows."""
        return list_devices()

    def accelerators_of(self, spec: ProvisionSpec) -> int:
        """Cards that all ranks of the model need together."""
        return accelerators_of(spec)

    def command(
        self, spec: ProvisionSpec, *, model: str, revision: str, devices: Sequence[Device]
    ) -> ServerCommand:
        """See HttpServerBackend. Cards are named by their UUIDs, which no renumbering changes."""
        command = vllm_command(
            spec,
            model=model,
            revision=revision,
            context_tokens=self.context_tokens_of(spec),
            allow_remote_code=self._allow_remote_code,
        )
        if not devices:
            return command
        visible = ",".join(each.id for each in devices)
        return ServerCommand(
            arguments=command.arguments,
            environment={**command.environment, "CUDA_VISIBLE_DEVICES": visible},
        )

    def device_power(self, devices: Sequence[Device]) -> tuple[PowerSource, ...]:
        """The driver's energy counters of the cards."""
        return (NvmlSource([each.id for each in devices]),)

    def exporter_power(self, url: str, place: Mapping[str, str]) -> tuple[PowerSource, ...]:
        """NVIDIA's dcgm-exporter."""
        return (DcgmExporter(url, Workload(namespace=place.get("namespace", ""), pod=place.get("pod", ""))),)

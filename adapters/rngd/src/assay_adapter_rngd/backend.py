"""The RNGD backend: furiosa-llm servers on Furiosa's cards."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from assay_adapter_rngd.cards import engine_names
from assay_adapter_rngd.furiosa_llm import SOFTWARE, furiosa_command
from assay_adapter_rngd.settings import RngdAdapterSettings
from assay_serving.errors import ArtifactNotFound
from assay_serving.http_backend import HttpServerBackend
from assay_serving.power.exporters import FuriosaExporter, Workload
from assay_serving.power.furiosa import FuriosaSource, list_devices
from assay_serving.power.source import FoundDevices, PowerSource
from assay_serving.server_software import ServerCommand
from assay_serving.types import Device, ProvisionSpec


class RngdBackend(HttpServerBackend):
    """Runs furiosa-llm on this machine's cards or a cluster's, or talks to somebody else's."""

    def __init__(self, settings: RngdAdapterSettings) -> None:
        super().__init__(settings, SOFTWARE)

    def find_devices(self) -> FoundDevices:
        """The cards that the driver knows."""
        return list_devices()

    def accelerators_of(self, spec: ProvisionSpec) -> int:
        """Whole cards: as many as are asked for, or one.

        How many cores the model needs stands in its compiled bundle, which only the server reads.
        """
        return spec.resources.accelerators or 1

    def further_files(self, spec: ProvisionSpec) -> tuple[Path, ...]:
        """The compiled bundle, where one is named."""
        name = spec.serving_parameters.get("fxb")
        if not name:
            return ()
        bundle = Path(name)
        self.models.check_allowed(bundle, field="serving_parameters.fxb")
        if bundle.suffix != ".fxb" or not bundle.is_file():
            raise ArtifactNotFound(f"serving_parameters.fxb {name!r}: no such .fxb file")
        return (bundle,)

    def command(
        self, spec: ProvisionSpec, *, model: str, revision: str, devices: Sequence[Device]
    ) -> ServerCommand:
        """See HttpServerBackend."""
        return furiosa_command(
            spec,
            model=model,
            revision=revision,
            context_tokens=self.context_tokens_of(spec),
            devices=engine_names(devices),
        )

    def device_power(self, devices: Sequence[Device]) -> tuple[PowerSource, ...]:
        """The driver's power readings of the cards."""
        return (FuriosaSource([each.id for each in devices]),)

    def exporter_power(self, url: str, place: Mapping[str, str]) -> tuple[PowerSource, ...]:
        """furiosa-metrics-exporter."""
        workload = Workload(namespace=place.get("namespace", ""), pod=place.get("pod", ""))
        return (FuriosaExporter(url, workload),)

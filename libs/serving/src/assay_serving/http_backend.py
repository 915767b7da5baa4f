"""A backend over HTTP model servers: started on this machine or in a cluster, or run by somebody else."""

import shutil
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from assay_serving.backend import PreparedArtifact, ServingBackend
from assay_serving.device_pool import DevicePool
from assay_serving.errors import InvalidRequest, NoCapacity
from assay_serving.launchers.kubernetes.launcher import KubernetesLauncher
from assay_serving.launchers.process_server import ProcessLauncher
from assay_serving.launchers.server import (
    Progress,
    RunningServer,
    ServerLauncher,
    ServerPlan,
)
from assay_serving.models import HubAccess, ModelStore, parse_model_uri, without_files
from assay_serving.openai.endpoint_artifacts import (
    ENDPOINT_FORMAT,
    MODEL_FORMAT,
    SERVED_MODEL,
    EndpointArtifacts,
    is_endpoint,
)
from assay_serving.openai.engine import EnginePlan, OpenAIEngine
from assay_serving.power.host import RaplMeter
from assay_serving.power.source import FoundDevices, PowerSource
from assay_serving.server_software import ServerCommand, ServerSoftware
from assay_serving.settings import LauncherKind, ModelServerSettings, engine_environment, hub_environment
from assay_serving.types import (
    AdapterDescription,
    Artifact,
    Device,
    InstanceState,
    ProvisionSpec,
    SensorKind,
)


class HttpServerBackend(ServingBackend):
    """What backends over OpenAI-compatible model servers have in common. Make it on the event loop."""

    def __init__(self, settings: ModelServerSettings, software: ServerSoftware) -> None:
        self._settings = settings
        self._prefix = str(settings.model_config.get("env_prefix", ""))
        if settings.command:
            conventions = replace(software.conventions, program=settings.command)
            software = replace(software, conventions=conventions)
        self._software = software
        self.models = ModelStore(
            hub=HubAccess(
                cache=settings.hub_cache_directory,
                environment=hub_environment(settings.hub_cache_directory, offline=settings.hub_offline),
                endpoint=settings.hub_endpoint,
                token=settings.hub_token.get_secret_value(),
                offline=settings.hub_offline,
            ),
            roots=settings.artifact_roots,
            run_directory=settings.run_directory,
            variables=self._prefix,
        )
        found = FoundDevices((), ())
        if settings.launcher is LauncherKind.PROCESS and not settings.allow_cpu:
            found = self.find_devices()
        self._found = found
        self._pool = DevicePool(self._allowed(found.devices))
        self._launcher = self._make_launcher()
        self._sensors = self._known_sensors()
        self._endpoints = EndpointArtifacts(
            engine=software.engine,
            capabilities=software.capabilities,
            health_path=software.conventions.health_path,
            allowed_hosts=settings.endpoint_hosts,
            ca_file=settings.endpoint_ca_file,
            variables=self._prefix,
        )

    @abstractmethod
    def find_devices(self) -> FoundDevices:
        """Accelerators of this machine."""

    @abstractmethod
    def accelerators_of(self, spec: ProvisionSpec) -> int:
        """How many a server of this specification needs; raises InvalidRequest for a wrong parameter."""

    @abstractmethod
    def command(
        self, spec: ProvisionSpec, *, model: str, revision: str, devices: Sequence[Device]
    ) -> ServerCommand:
        """How to start the server of a specification.

        Args:
            spec: what is asked for.
            model: a local directory or a repository of the hub.
            revision: of the repository; empty for a directory.
            devices: accelerators of this machine that it gets; empty where its place chooses.

        Raises:
            InvalidRequest: a serving parameter is wrong.
        """

    @abstractmethod
    def device_power(self, devices: Sequence[Device]) -> tuple[PowerSource, ...]:
        """Sensors of accelerators of this machine."""

    @abstractmethod
    def exporter_power(self, url: str, place: Mapping[str, str]) -> tuple[PowerSource, ...]:
        """Sensors of the accelerators of a Pod, by the cluster's exporter."""

    def further_files(self, spec: ProvisionSpec) -> tuple[Path, ...]:
        """Local files beside the model that a specification names; raises ArtifactNotFound."""
        return ()

    async def describe(self) -> AdapterDescription:
        """See ServingBackend."""
        software, problem = self._software, self._problem()
        return AdapterDescription(
            adapter=f"assay-adapter-{self._settings.name}",
            adapter_version=version(f"assay-adapter-{self._settings.name}"),
            backend=software.backend,
            engine=software.engine,
            engine_version=self._installed_version(),
            devices=self._listed_devices(),
            capabilities=replace(
                software.capabilities,
                max_context_tokens=self._settings.max_context_tokens,
                max_concurrency=self._settings.max_concurrency,
                power_sensors=self._sensors,
            ),
            artifact_formats=(MODEL_FORMAT, ENDPOINT_FORMAT),
            healthy=not problem or bool(self._settings.endpoint_hosts),
            unhealthy_reason=problem,
            serving_parameters=(*software.parameters, SERVED_MODEL),
        )

    def check(self, spec: ProvisionSpec) -> None:
        """Refuse at once what cannot work: wrong parameters, missing directories, too few devices."""
        if is_endpoint(spec.artifact):
            self._endpoints.check(spec)
            return
        if spec.endpoint_key:
            raise InvalidRequest("endpoint_key: only artifacts of the format 'endpoint' have one")
        if SERVED_MODEL.name in spec.serving_parameters:
            raise InvalidRequest(f"serving_parameters.{SERVED_MODEL.name}: only for the format 'endpoint'")
        accelerators = self._accelerators(spec)
        self.command(spec, model="", revision="", devices=())
        if problem := self._problem():
            raise NoCapacity(problem, retryable=False)
        if self._settings.launcher is LauncherKind.KUBERNETES:
            parse_model_uri(spec.artifact.uri)
            return
        self.models.directory_of(spec.artifact.uri)
        self.further_files(spec)
        self._pool.next_free(accelerators)

    def idle_sources(self, spec: ProvisionSpec) -> tuple[PowerSource, ...]:
        """See ServingBackend: known where the server will be started on this machine."""
        if self._settings.launcher is not LauncherKind.PROCESS or is_endpoint(spec.artifact):
            return ()
        try:
            return self._local_power(self._pool.next_free(self._accelerators(spec)))
        except (InvalidRequest, NoCapacity):
            return ()

    async def prepare(self, spec: ProvisionSpec, *, progress: Progress) -> PreparedArtifact:
        """See ServingBackend. For a cluster the model is only identified: its Pod fetches it."""
        artifact = spec.artifact
        if is_endpoint(artifact):
            return self._endpoints.prepare(spec)
        if self._settings.launcher is LauncherKind.KUBERNETES:
            return await self._identify(artifact)
        progress(InstanceState.PULLING, "fetching and checking the model")
        return await self.models.prepare(artifact, download=True, files=self.further_files(spec))

    async def launch(
        self, spec: ProvisionSpec, prepared: PreparedArtifact, *, instance_id: str, progress: Progress
    ) -> OpenAIEngine:
        """See ServingBackend."""
        if is_endpoint(spec.artifact):
            return await self._endpoints.connect(spec, prepared, progress=progress)
        assert self._launcher is not None, "check has refused it"
        count = self._accelerators(spec)
        devices = self._pool.take(count) if self._settings.launcher is LauncherKind.PROCESS else ()
        try:
            command = self.command(
                spec,
                model=str(prepared.path) if prepared.path != Path() else prepared.repository,
                revision=prepared.revision if prepared.path == Path() else "",
                devices=devices,
            )
            server = await self._launcher.launch(
                self._plan(spec, prepared, command, instance_id=instance_id, devices=devices, count=count),
                progress=progress,
            )
        except BaseException:
            self._pool.give_back(devices)
            raise
        return OpenAIEngine(
            server,
            EnginePlan(
                engine=self._software.engine,
                artifact=prepared,
                capabilities=replace(self._software.capabilities, power_sensors=self._sensors),
                concurrency=spec.max_concurrency,
                context_tokens=self.context_tokens_of(spec),
                launcher=self._launcher.name,
                devices=devices or self._listed_devices(),
                accelerators=count,
                command_line=(*self._software.conventions.program, *command.arguments),
                settings=_recorded(spec, prepared, command),
                power_sources=lambda: self._power_sources(devices, server),
                on_stop=lambda: self._pool.give_back(devices),
            ),
        )

    async def reap(self, living: Collection[str]) -> list[str]:
        """See ServingBackend."""
        self.models.remove_leftovers()
        return [] if self._launcher is None else await self._launcher.reap(living)

    def _allowed(self, found: Sequence[Device]) -> Sequence[Device]:
        """Those of the found devices that the operator names, in that order; all where none is named."""
        by_id = {each.id: each for each in found}
        names = self._settings.devices or tuple(by_id)
        if missing := [name for name in names if name not in by_id]:
            known = ", ".join(by_id) or "none"
            raise ValueError(f"{self._prefix}DEVICES: no {', '.join(missing)} here; there are: {known}")
        return [by_id[name] for name in names]

    def _make_launcher(self) -> ServerLauncher | None:
        settings, conventions = self._settings, self._software.conventions
        match settings.launcher:
            case LauncherKind.PROCESS:
                return ProcessLauncher(
                    conventions=conventions,
                    log_directory=settings.log_directory,
                    run_directory=settings.run_directory,
                    label=settings.label,
                    environment=self._server_environment(),
                )
            case LauncherKind.KUBERNETES:
                return KubernetesLauncher(
                    conventions=conventions, settings=settings.kubernetes, adapter=settings.name
                )
            case LauncherKind.ENDPOINT:
                return None

    def _server_environment(self) -> dict[str, str]:
        # The model is here by then: nothing is to be fetched, and nobody to be told.
        offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(self._settings.hub_cache_directory.parent)}
        return {**engine_environment(), **offline, **self._settings.environment}

    def _problem(self) -> str:
        """Why no server can be started here; empty if one can."""
        settings, program = self._settings, self._software.conventions.program[0]
        if settings.launcher is LauncherKind.ENDPOINT:
            return f"{self._prefix}LAUNCHER is 'endpoint': nothing is started here"
        if settings.launcher is LauncherKind.KUBERNETES:
            return ""
        if shutil.which(program, path=self._server_environment().get("PATH")) is None:
            return f"no program {program!r} here; install it, or name another by {self._prefix}COMMAND"
        if not self._pool.devices and not settings.allow_cpu:
            return (
                f"no accelerator here ({'; '.join(self._found.unavailable) or 'none found'}); set "
                f"{self._prefix}LAUNCHER=kubernetes to use a cluster's, or {self._prefix}ALLOW_CPU=true "
                "for a server that computes on the processor"
            )
        return ""

    def _listed_devices(self) -> tuple[Device, ...]:
        match self._settings.launcher:
            case LauncherKind.KUBERNETES:
                resource = (
                    self._settings.kubernetes.accelerator_resource
                    or self._software.conventions.accelerator_resource
                )
                return (Device(id="cluster", product=resource),)
            case LauncherKind.ENDPOINT:
                return (Device(id="endpoint", product="servers that others run"),)
            case LauncherKind.PROCESS if self._settings.allow_cpu:
                return (Device(id="cpu", product="this machine's processor"),)
            case LauncherKind.PROCESS:
                return self._pool.devices

    def _known_sensors(self) -> tuple[SensorKind, ...]:
        if self._settings.launcher is LauncherKind.KUBERNETES and self._settings.exporter_url:
            return self._software.exporter_sensors
        if self._settings.launcher is not LauncherKind.PROCESS:
            return ()
        sources = self._local_power(self._pool.devices)
        found = tuple(kind for source in sources for kind in source.sensors)
        for source in sources:
            source.close()
        return found

    def _local_power(self, devices: Sequence[Device]) -> tuple[PowerSource, ...]:
        if self._settings.allow_cpu:
            return (RaplMeter(),)
        return self.device_power(devices) if devices else ()

    def _power_sources(self, devices: Sequence[Device], server: RunningServer) -> tuple[PowerSource, ...]:
        if self._settings.launcher is LauncherKind.PROCESS:
            return self._local_power(devices)
        if self._settings.exporter_url:
            node = server.place.get("node", "")
            return self.exporter_power(self._settings.exporter_url.replace("{node}", node), server.place)
        return ()

    def _installed_version(self) -> str:
        try:
            return version(self._software.distribution)
        except PackageNotFoundError:
            return "told by each instance"

    def _accelerators(self, spec: ProvisionSpec) -> int:
        needed, asked = self.accelerators_of(spec), spec.resources.accelerators
        if self._settings.allow_cpu and self._settings.launcher is LauncherKind.PROCESS:
            if asked:
                raise InvalidRequest(
                    f"resources.accelerators: there are none ({self._prefix}ALLOW_CPU is set); leave it 0"
                )
            return 0
        if asked and asked != needed:
            raise InvalidRequest(
                f"resources.accelerators {asked}: the serving parameters need {needed}; let them agree"
            )
        return needed

    def context_tokens_of(self, spec: ProvisionSpec) -> int:
        """Tokens that one sequence is to have room for; 0 leaves it to the model."""
        return spec.max_context_tokens or self._settings.default_context_tokens

    async def _identify(self, artifact: Artifact) -> PreparedArtifact:
        """The model by its digest, where it can be read from here; a Pod's own directory cannot."""
        directory = parse_model_uri(artifact.uri).directory
        if directory is None:
            return await self.models.prepare(artifact, download=False)
        volume = self._settings.kubernetes.model_volume
        if volume is None or not directory.is_relative_to(volume.mount_path):
            raise InvalidRequest(
                f"artifact.uri {artifact.uri!r}: Pods see no such directory; its operator sets "
                f"{self._prefix}KUBERNETES__MODEL_VOLUME"
            )
        if directory.is_dir():
            return await self.models.prepare(artifact, download=False)
        return replace(without_files(artifact, name=directory.name), path=directory)

    def _plan(
        self,
        spec: ProvisionSpec,
        prepared: PreparedArtifact,
        command: ServerCommand,
        *,
        instance_id: str,
        devices: Sequence[Device],
        count: int,
    ) -> ServerPlan:
        settings, secrets, environment = self._settings, {}, dict(command.environment)
        if settings.launcher is LauncherKind.KUBERNETES and prepared.path == Path():
            if settings.hub_endpoint:
                environment["HF_ENDPOINT"] = settings.hub_endpoint
            token = settings.hub_token.get_secret_value()
            if token and settings.kubernetes.hub_token is None:
                secrets["HF_TOKEN"] = token
        return ServerPlan(
            instance_id=instance_id,
            arguments=command.arguments,
            environment=environment,
            secrets=secrets,
            resources=replace(spec.resources, accelerators=count),
            devices=tuple(each.id for each in devices),
            owner=spec.owner,
            fencing_token=spec.fencing_token,
            lease=spec.lease,
            labels=spec.labels,
        )


def _recorded(spec: ProvisionSpec, prepared: PreparedArtifact, command: ServerCommand) -> dict[str, str]:
    """What may change a number, for provenance."""
    return {
        **spec.serving_parameters,
        **command.environment,
        **({"revision": prepared.revision} if prepared.revision else {}),
        **{f"sha256 of {Path(name).name}": digest for name, digest in prepared.file_sha256.items()},
    }

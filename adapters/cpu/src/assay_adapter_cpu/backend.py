"""The CPU backend: llama.cpp engines for GGUF files."""

import asyncio
import math
import os
import platform
from collections.abc import Collection
from importlib.metadata import version

import psutil

from assay_adapter_cpu.artifacts import ArtifactStore
from assay_adapter_cpu.llama_engine import EnginePlan, LlamaEngine
from assay_adapter_cpu.requantize import CHOICES
from assay_adapter_cpu.settings import CpuAdapterSettings
from assay_serving.backend import PreparedArtifact, ServingBackend
from assay_serving.errors import InvalidRequest
from assay_serving.launchers.orphans import end_orphans
from assay_serving.launchers.server import Progress
from assay_serving.power.host import RaplMeter
from assay_serving.power.source import PowerSource
from assay_serving.types import (
    AdapterDescription,
    Backend,
    Capabilities,
    Determinism,
    Device,
    InstanceState,
    ProvisionSpec,
    ScoreMethod,
    ServingParameter,
    Support,
)


class CpuBackend(ServingBackend):
    """Runs llama.cpp on this machine's processor."""

    def __init__(self, settings: CpuAdapterSettings) -> None:
        self._settings = settings
        self._artifacts = ArtifactStore(
            cache=settings.cache_directory, logs=settings.log_directory, roots=settings.artifact_roots
        )
        self._capabilities = Capabilities(
            generate=Support.YES,
            score=Support.YES,
            score_method=ScoreMethod.FORCED_DECODE,
            seed=Support.YES,
            top_k=Support.YES,
            min_p=Support.YES,
            repetition_penalty=Support.YES,
            # llama.cpp counts the prompt's tokens too, other engines only the answer's: not the same field.
            presence_penalty=Support.REFUSED,
            frequency_penalty=Support.REFUSED,
            chat=Support.YES,
            ignore_eos=Support.YES,
            greedy_determinism=Determinism.REPEATABLE_ANY_BATCH,
            max_context_tokens=settings.max_context_tokens,
            max_concurrency=settings.max_concurrency,
            power_sensors=RaplMeter(settings.powercap_directory).sensors,
        )
        self._devices = (
            Device(
                id="cpu",
                product=_processor_name(),
                memory_bytes=psutil.virtual_memory().total,
                driver=platform.release(),
            ),
        )

    async def describe(self) -> AdapterDescription:
        """See ServingBackend."""
        return AdapterDescription(
            adapter="assay-adapter-cpu",
            adapter_version=version("assay-adapter-cpu"),
            backend=Backend.CPU,
            engine="llama.cpp (xllamacpp)",
            engine_version=version("xllamacpp"),
            devices=self._devices,
            capabilities=self._capabilities,
            artifact_formats=("gguf",),
            serving_parameters=(
                ServingParameter(
                    name="requantize",
                    description="serve a variant made from the artifact, with every matrix in this type",
                    choices=CHOICES,
                ),
            ),
        )

    def check(self, spec: ProvisionSpec) -> None:
        """Refuse missing artifacts and accelerators at once."""
        if spec.resources.accelerators:
            raise InvalidRequest("resources.accelerators: this backend has none; leave it 0")
        if spec.resources.cpus > _usable_cpus():
            raise InvalidRequest(f"resources.cpus {spec.resources.cpus:g}: {_usable_cpus()} are usable here")
        if spec.resources.memory_bytes > psutil.virtual_memory().total:
            raise InvalidRequest("resources.memory_bytes: more than this machine has")
        self._artifacts.resolve(spec.artifact)

    def idle_sources(self, spec: ProvisionSpec) -> tuple[PowerSource, ...]:
        """The processor's energy counters."""
        return (RaplMeter(self._settings.powercap_directory),)

    async def prepare(self, spec: ProvisionSpec, *, progress: Progress) -> PreparedArtifact:
        """See ServingBackend."""
        progress(InstanceState.PULLING, "fetching and checking the artifact")
        return await self._artifacts.prepare(
            spec.artifact, requantize=spec.serving_parameters.get("requantize", "")
        )

    async def launch(
        self, spec: ProvisionSpec, prepared: PreparedArtifact, *, instance_id: str, progress: Progress
    ) -> LlamaEngine:
        """See ServingBackend.

        One processor is left to those who ask the questions unless the caller says otherwise: the engine's
        threads wait for each other, so one that shares its core slows all of them down several times.
        """
        settings = self._settings
        progress(InstanceState.STARTING, "starting the engine")
        return await LlamaEngine.launch(
            EnginePlan(
                instance_id=instance_id,
                label=settings.label,
                artifact=prepared,
                concurrency=spec.max_concurrency,
                context_tokens=spec.max_context_tokens or settings.default_context_tokens,
                prompt_threads=math.ceil(spec.resources.cpus) or max(1, _usable_cpus() - 1),
                run_directory=settings.run_directory / instance_id,
                log_path=settings.log_directory / f"{instance_id}.log",
                powercap_directory=settings.powercap_directory,
                devices=self._devices,
                capabilities=self._capabilities,
            )
        )

    async def reap(self, living: Collection[str]) -> list[str]:
        """See ServingBackend."""
        return await asyncio.to_thread(end_orphans, self._settings.label, is_living=living.__contains__)


def _usable_cpus() -> int:
    """Processors that this process may use, which in a container is fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

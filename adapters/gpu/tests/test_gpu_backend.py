"""What the gpu adapter says of itself and refuses, with and without cards."""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from engines.fixtures import VLLM_PROGRAM, script_environment

from assay_adapter_gpu.backend import GpuBackend
from assay_adapter_gpu.settings import GpuAdapterSettings
from assay_serving.adapter import serve_adapter
from assay_serving.adapter_process import run_adapter
from assay_serving.backend import PreparedArtifact
from assay_serving.client import ModelServer
from assay_serving.errors import (
    ArtifactMismatch,
    ArtifactNotFound,
    InvalidRequest,
    NoCapacity,
    ServingError,
    StartFailed,
)
from assay_serving.power.source import FoundDevices
from assay_serving.types import Artifact, Device, ProvisionSpec, Resources, SensorKind

COMMAND = (sys.executable, *VLLM_PROGRAM[1:], "serve")
CARDS = tuple(Device(id=f"GPU-{number}", product="NVIDIA H100 80GB HBM3") for number in range(2))


def settings_at(home: Path, model: Path, **changes: Any) -> GpuAdapterSettings:
    found: dict[str, Any] = {
        "home": home,
        "command": COMMAND,
        "artifact_roots": (model.parent,),
        "environment": script_environment(),
        "endpoint_hosts": ("127.0.0.1",),
    }
    return GpuAdapterSettings(**(found | changes))


def spec(model: Path, **changes: Any) -> ProvisionSpec:
    found: dict[str, Any] = {
        "idempotency_key": "k",
        "artifact": Artifact(uri=f"file://{model}"),
        "max_concurrency": 2,
    }
    return ProvisionSpec(**(found | changes))


async def test_a_machine_without_a_card_says_what_to_do(tmp_path: Path, model_directory: Path) -> None:
    described = await GpuBackend(settings_at(tmp_path, model_directory, endpoint_hosts=())).describe()
    assert not described.healthy
    for words in ("nvml: ", "ASSAY_GPU_LAUNCHER=kubernetes", "ASSAY_GPU_ALLOW_CPU=true"):
        assert words in described.unhealthy_reason
    with_endpoints = GpuBackend(settings_at(tmp_path, model_directory))
    assert (await with_endpoints.describe()).healthy, "it can still talk to others' servers"
    with pytest.raises(NoCapacity, match="ASSAY_GPU_ALLOW_CPU") as refused:
        with_endpoints.check(spec(model_directory))
    assert not refused.value.retryable

    absent = GpuBackend(
        settings_at(tmp_path, model_directory, command=("no-such-vllm", "serve"), allow_cpu=True)
    )
    with pytest.raises(NoCapacity, match=r"'no-such-vllm'.*ASSAY_GPU_COMMAND"):
        absent.check(spec(model_directory))
    only_endpoints = GpuBackend(settings_at(tmp_path, model_directory, launcher="endpoint"))
    with pytest.raises(NoCapacity, match="nothing is started here"):
        only_endpoints.check(spec(model_directory))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"serving_parameters": {"tensor_parallel": "x"}},
            InvalidRequest,
            "serving_parameters.tensor_parallel",
        ),
        ({"serving_parameters": {"served_model": "m"}}, InvalidRequest, "only for the format 'endpoint'"),
        ({"resources": Resources(accelerators=1)}, InvalidRequest, "ALLOW_CPU is set"),
        ({"endpoint_key": "secret"}, InvalidRequest, "endpoint_key"),
        ({"artifact": Artifact(uri="file:///etc")}, ArtifactNotFound, "ASSAY_GPU_ARTIFACT_ROOTS"),
        ({"artifact": Artifact(uri="s3://bucket/m")}, ArtifactNotFound, "hf://"),
        ({"artifact": Artifact(uri="hf://a/b", format="endpoint")}, InvalidRequest, "artifact.format"),
        ({"artifact": Artifact(uri="http://10.0.0.1:8000")}, InvalidRequest, "ASSAY_GPU_ENDPOINT_HOSTS"),
        (
            {"artifact": Artifact(uri="http://127.0.0.1:1"), "serving_parameters": {"dtype": "auto"}},
            InvalidRequest,
            "runs already",
        ),
        (
            {"artifact": Artifact(uri="http://127.0.0.1:1"), "resources": Resources(cpus=1)},
            InvalidRequest,
            "resources",
        ),
    ],
)
async def test_what_cannot_work_is_refused_before_anything_starts(
    tmp_path: Path, model_directory: Path, changes: dict[str, Any], error: type[ServingError], message: str
) -> None:
    backend = GpuBackend(settings_at(tmp_path, model_directory, allow_cpu=True))
    with pytest.raises(error, match=message):
        backend.check(spec(model_directory, **changes))


async def test_a_digest_of_an_endpoint_cannot_be_confirmed(tmp_path: Path, model_directory: Path) -> None:
    backend = GpuBackend(settings_at(tmp_path, model_directory))
    endpoint = spec(model_directory, artifact=Artifact(uri="http://127.0.0.1:1/v1", sha256="0" * 64))
    with pytest.raises(ArtifactMismatch, match="cannot be confirmed"):
        await backend.prepare(endpoint, progress=lambda state, message: None)


async def test_a_directory_of_the_cluster_need_not_be_here(tmp_path: Path, model_directory: Path) -> None:
    backend = GpuBackend(
        settings_at(
            tmp_path,
            model_directory,
            launcher="kubernetes",
            exporter_url="http://{node}:9400/metrics",
            kubernetes={
                "image": "vllm/vllm-openai:v0.32.0",
                "model_volume": {"claim": "models", "mount_path": "/models"},
            },
        )
    )
    described = await backend.describe()
    assert described.healthy
    assert described.capabilities.power_sensors == (SensorKind.DCGM_ENERGY, SensorKind.DCGM_POWER)

    async def prepare(**artifact: str) -> PreparedArtifact:
        asked = spec(model_directory, artifact=Artifact(**artifact))
        backend.check(asked)
        return await backend.prepare(asked, progress=lambda state, message: None)

    found = await prepare(uri="file:///models/small")
    assert (found.path, found.sha256) == (Path("/models/small"), "")
    with pytest.raises(ArtifactMismatch, match="cannot be confirmed"):
        await prepare(uri="file:///models/small", sha256="0" * 64)
    with pytest.raises(InvalidRequest, match="ASSAY_GPU_KUBERNETES__MODEL_VOLUME"):
        await prepare(uri="file:///elsewhere/small")


class TwoCards(GpuBackend):
    """The backend on a machine with two cards, which the faithful server does not need."""

    def find_devices(self) -> FoundDevices:
        return FoundDevices(CARDS, ())


async def test_an_operator_may_keep_cards_for_others(tmp_path: Path, model_directory: Path) -> None:
    second = TwoCards(settings_at(tmp_path, model_directory, devices=("GPU-1",)))
    assert [each.id for each in (await second.describe()).devices] == ["GPU-1"]
    with pytest.raises(ValueError, match="ASSAY_GPU_DEVICES: no GPU-9 here; there are: GPU-0, GPU-1"):
        TwoCards(settings_at(tmp_path, model_directory, devices=("GPU-9",)))


@pytest.fixture
async def two_cards(tmp_path: Path, model_directory: Path) -> AsyncIterator[ModelServer]:
    backend = TwoCards(settings_at(tmp_path, model_directory))
    async with (
        serve_adapter(backend, listen="127.0.0.1:0", max_instances=4) as address,
        ModelServer.connect(address) as server,
    ):
        yield server


async def test_cards_are_given_whole_and_come_back(two_cards: ModelServer, model_directory: Path) -> None:
    described = await two_cards.describe()
    assert described.healthy
    assert described.devices == CARDS

    async def start(key: str, **changes: Any) -> Any:
        accepted = await two_cards.provision(spec(model_directory, idempotency_key=key, **changes))
        return await two_cards.wait_ready(accepted.instance_id, timeout=60)

    first, second = await start("a"), await start("b")
    visible = [each.provenance.engine_settings["CUDA_VISIBLE_DEVICES"] for each in (first, second)]
    assert visible == ["GPU-0", "GPU-1"]
    assert [each.id for each in second.provenance.devices] == ["GPU-1"]
    assert (first.launcher, first.accelerators) == ("process", 1)
    with pytest.raises(NoCapacity, match="0 of 2 are free"):
        await start("c")
    with pytest.raises(InvalidRequest, match="this machine has 2"):
        await start("c", resources=Resources(accelerators=3))
    with pytest.raises(InvalidRequest, match="the serving parameters need 2"):
        await start("c", resources=Resources(accelerators=1), serving_parameters={"tensor_parallel": "2"})
    await two_cards.release(first.instance_id, reason="test")
    with pytest.raises(StartFailed, match="exit status 1") as failed:
        await start("c", max_context_tokens=10**6)
    assert "greater than the derived max_model_len" in failed.value.engine_detail
    third = await start("d")
    assert third.provenance.engine_settings["CUDA_VISIBLE_DEVICES"] == "GPU-0", "a failed start keeps no card"


def test_settings_come_from_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {
        "ASSAY_HOME": str(tmp_path),
        "HF_TOKEN": "hf_of-the-machine",
        "HF_HUB_OFFLINE": "1",
        "ASSAY_GPU_COMMAND": "'/opt/with blank/vllm' serve",
        "ASSAY_GPU_ENDPOINT_HOSTS": "One.example, two.example",
        "ASSAY_GPU_ENVIRONMENT": json.dumps({"VLLM_CPU_KVCACHE_SPACE": "1"}),
        "ASSAY_GPU_KUBERNETES__IMAGE": "vllm/vllm-openai:v0.32.0",
    }.items():
        monkeypatch.setenv(name, value)
    settings = GpuAdapterSettings()
    assert settings.home == tmp_path
    assert settings.command == ("/opt/with blank/vllm", "serve")
    assert settings.endpoint_hosts == ("one.example", "two.example")
    assert settings.environment == {"VLLM_CPU_KVCACHE_SPACE": "1"}
    assert settings.kubernetes.image == "vllm/vllm-openai:v0.32.0"
    assert settings.hub_offline
    assert "hf_of-the-machine" not in repr(settings)
    with pytest.raises(ValueError, match="exporter_url"):
        GpuAdapterSettings(exporter_url="dcgm:9400/metrics")
    monkeypatch.setenv("ASSAY_GPU_HUB_TOKEN", "hf_own")
    assert GpuAdapterSettings().hub_token.get_secret_value() == "hf_own", "the adapter's own variable counts"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LAUNCHER", "docker", "ASSAY_GPU_LAUNCHER: Input should be 'process'"),
        ("LAUNCHER", "kubernetes", "kubernetes.image: must name"),
        ("ENVIRONMENT", "A=1", "are JSON"),
    ],
)
def test_a_wrong_setting_ends_the_program_with_a_sentence(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path))
    monkeypatch.setenv(f"ASSAY_GPU_{name}", value)
    with pytest.raises(SystemExit) as ended:
        run_adapter(GpuAdapterSettings, GpuBackend)
    assert message in str(ended.value.code)

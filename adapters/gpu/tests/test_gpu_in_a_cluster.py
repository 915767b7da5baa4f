"""The adapter's program with its server in a Pod, of a cluster whose kubelets run the faithful vLLM."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cluster.containers import Image
from cluster.launching import GPU_CAPACITY
from cluster.machine import NAMESPACE, Cluster
from cluster.scheduler import Node
from engines.fixtures import TESTS, VLLM_PROGRAM
from hub_server import Hub, running_hub

from assay_serving.client import ModelServer
from assay_serving.testing.programs import running_adapter
from assay_serving.types import (
    Artifact,
    GenerateRequest,
    ProvisionSpec,
    Resources,
    SamplingParameters,
    ScoreRequest,
)

IMAGE = "vllm/vllm-openai:v0.32.0"
TOKEN = "hf_a-token-that-must-not-be-seen"
ROLE = TESTS.parent / "deploy" / "kubernetes" / "role.yaml"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        hub.add(
            "acme/small", {"config.json": "{}", "model.safetensors": b"weights"}, kind="model", gated=True
        )
        hub.allow(TOKEN, "acme/small")
        yield hub


@pytest.mark.slow
async def test_a_pod_serves_the_revision_that_the_hub_named(hub: Hub, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, role=yaml.safe_load(ROLE.read_text()))
    cluster.nodes = [Node("node-1", GPU_CAPACITY)]
    programs = {"vllm": (sys.executable, *VLLM_PROGRAM[1:])}
    cluster.images[IMAGE] = Image(programs=programs, environment={"PYTHONPATH": str(TESTS)})
    commit = hub.repositories["acme/small"].branches["main"]
    async with cluster.running():
        adapter = running_adapter(
            "assay_adapter_gpu",
            prefix="ASSAY_GPU_",
            home=tmp_path,
            launcher="kubernetes",
            hub_endpoint=hub.url,
            hub_token=TOKEN,
            kubernetes__image=IMAGE,
            kubernetes__namespace=NAMESPACE,
            kubernetes__kubeconfig=str(cluster.api.write_kubeconfig(tmp_path / "kubeconfig")),
        )
        with adapter as program:
            async with ModelServer.connect(program.address) as server:
                assert (await server.describe()).healthy
                accepted = await server.provision(
                    ProvisionSpec(
                        idempotency_key="k",
                        artifact=Artifact(uri="hf://acme/small", revision="main"),
                        serving_parameters={"tensor_parallel": "2"},
                        resources=Resources(cpus=1),
                        max_context_tokens=512,
                        max_concurrency=2,
                    )
                )
                instance = await server.wait_ready(accepted.instance_id, timeout=120)
                async with server.generate_session(instance.instance_id) as session:
                    request = GenerateRequest(text="The end", sampling=SamplingParameters(max_tokens=3))
                    assert (await session.generate(request)).completion_tokens == 3
                async with server.score_session(instance.instance_id) as scores:
                    assert (
                        await scores.score(ScoreRequest(context="", continuation="The end"))
                    ).log_probability < 0
                (pod,) = cluster.pods()
                await server.release(instance.instance_id, reason="test")
                assert not cluster.left()
    assert (instance.launcher, instance.accelerators) == ("kubernetes", 2)
    assert instance.provenance.host == "node-1"
    assert instance.provenance.engine_settings["revision"] == commit
    assert instance.provenance.artifact_sha256
    assert instance.provenance.engine_version
    assert not instance.provenance.engine_pid
    assert instance.phase_times.cold_start > 0
    (container,) = pod["spec"]["containers"]
    arguments = container["args"]
    assert arguments[0] == "acme/small"
    assert arguments[arguments.index("--revision") + 1] == commit
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    variables = {each["name"]: each for each in container["env"]}
    assert variables["HF_ENDPOINT"]["value"] == hub.url
    assert "secretKeyRef" in variables["HF_TOKEN"]["valueFrom"]
    assert TOKEN not in json.dumps(pod)
    assert TOKEN not in (tmp_path / "adapter.log").read_text()

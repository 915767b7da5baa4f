"""What tests of the launcher start in the cluster: a small model server under an image of its own."""

import sys
from pathlib import Path
from typing import Any

from assay_serving.launchers.kubernetes.launcher import KubernetesLauncher
from assay_serving.launchers.kubernetes.settings import KubernetesSettings
from assay_serving.launchers.server import ServerConventions, ServerPlan
from assay_serving.types import InstanceState, Resources
from cluster.containers import Image
from cluster.machine import NAMESPACE, Cluster

IMAGE = "registry.example/small-server:1"
_PROGRAM = str(Path(__file__).parent / "programs" / "small_server.py")

CONVENTIONS = ServerConventions(
    program=("small-server",),
    listen_arguments=lambda host, port: ("--host", host, "--port", str(port)),
    key_variable="SMALL_KEY",
    accelerator_resource="nvidia.com/gpu",
    wants_shared_memory=True,
)
GPU_CAPACITY = {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": "8"}


def small_image(*, error: str = "", **environment: str) -> Image:
    programs = {"small-server": (sys.executable, "-I", "-S", _PROGRAM)}
    return Image(programs=programs, environment=environment, error=error)


def settings_for(cluster: Cluster, folder: Path, **changes: Any) -> KubernetesSettings:
    """Settings with the patience of a test."""
    kubeconfig = cluster.api.write_kubeconfig(folder / "kubeconfig")
    found: dict[str, Any] = {
        "image": IMAGE,
        "namespace": NAMESPACE,
        "kubeconfig": kubeconfig,
        "default_memory_bytes": 1 << 30,
        "schedule_patience_s": 0.2,
        "image_patience_s": 0.3,
        "container_patience_s": 0.2,
        "reach_patience_s": 0.3,
        "api_patience_s": 3.0,
        "stop_patience_s": 3.0,
        "reap_margin_s": 0.0,
        "termination_grace_s": 1,
    }
    return KubernetesSettings.model_validate(found | changes)


def launcher_for(
    cluster: Cluster, folder: Path, *, conventions: ServerConventions = CONVENTIONS, **changes: Any
) -> KubernetesLauncher:
    return KubernetesLauncher(
        conventions=conventions, settings=settings_for(cluster, folder, **changes), adapter="gpu"
    )


def plan(instance_id: str = "a" * 32, **changes: Any) -> ServerPlan:
    found: dict[str, Any] = {
        "instance_id": instance_id,
        "arguments": ("serve", "some/model"),
        "resources": Resources(accelerators=1, cpus=1.0),
        "lease": 30.0,
    }
    return ServerPlan(**(found | changes))


class Steps:
    """Takes the launcher's progress."""

    def __init__(self) -> None:
        self.states: list[InstanceState] = []
        self.said: list[str] = []

    def __call__(self, state: InstanceState, message: str) -> None:
        self.states.append(state)
        self.said.append(message)

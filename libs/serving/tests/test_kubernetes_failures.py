"""States of Pods as clusters report them, and what is made of them."""

from typing import Any

import msgspec
import pytest
from lightkube.models.core_v1 import Event, Pod

from assay_serving.errors import NoCapacity, StartFailed
from assay_serving.launchers.kubernetes import failures
from assay_serving.launchers.kubernetes.settings import KubernetesSettings

SETTINGS = KubernetesSettings(image="vllm:1")


def pod(
    *,
    state: dict[str, Any] | None = None,
    last: dict[str, Any] | None = None,
    node: str = "node-7",
    deleted: bool = False,
    restarts: int = 0,
    **status: Any,
) -> Pod:
    content: dict[str, Any] = {
        "metadata": {"name": "assay-gpu-1", "uid": "1"},
        "spec": {
            "nodeName": node,
            "containers": [
                {"name": "server", "image": "vllm:1", "resources": {"limits": {"memory": str(48 << 30)}}}
            ],
        },
        "status": {"phase": "Pending"} | status,
    }
    if state is not None or last is not None:
        content["status"]["containerStatuses"] = [
            {
                "name": "server",
                "image": "vllm:1",
                "imageID": "",
                "ready": False,
                "restartCount": restarts,
                "state": state or {},
                "lastState": last or {},
            }
        ]
    if deleted:
        content["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    return msgspec.convert(content, Pod)


def event(reason: str, message: str, kind: str = "Warning") -> Event:
    return msgspec.convert(
        {"involvedObject": {}, "metadata": {}, "type": kind, "reason": reason, "message": message}, Event
    )


def ended(code: int, reason: str = "Error", **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason} | more}


def problem(found: Pod, *events: Event) -> failures.Problem:
    result = failures.why_not_starting(found, events, SETTINGS)
    assert result is not None
    return result


@pytest.mark.parametrize(
    "healthy",
    [
        pod(node=""),
        pod(),
        pod(state={"waiting": {"reason": "ContainerCreating"}}),
        pod(state={"running": {}}, phase="Running"),
        pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}], node=""),
    ],
)
def test_a_pod_that_takes_its_time_has_no_problem(healthy: Pod) -> None:
    assert failures.why_not_starting(healthy, (), SETTINGS) is None
    assert failures.why_ended(healthy, SETTINGS) is None


def test_back_off_is_explained_by_what_the_registry_said_before() -> None:
    found = problem(
        pod(state={"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}),
        event("Failed", 'Failed to pull image "vllm:1": 401 unauthorized'),
        event("BackOff", "Back-off pulling image"),
    )
    assert "401 unauthorized" in found.message
    assert found.patience == 0
    assert not found.retryable


def test_a_registry_that_times_out_is_waited_for() -> None:
    found = problem(pod(state={"waiting": {"reason": "ErrImagePull", "message": "i/o timeout"}}))
    assert found.patience == SETTINGS.image_patience_s
    assert found.retryable


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", NoCapacity),
        ("0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match node selector.", NoCapacity),
        ("no nodes available to schedule pods", NoCapacity),
        ("0/3 nodes are available: 3 node(s) had untolerated taint {furiosa.ai/npu: }.", StartFailed),
        ("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.", StartFailed),
    ],
)
def test_scheduling(said: str, error: type[Exception]) -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    found = problem(pod(node="", conditions=[condition]))
    assert found.error is error
    assert said in found.message
    assert found.retryable is (error is NoCapacity)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("UnexpectedAdmissionError", "Allocate failed due to requested number of devices unavailable"),
        ("OutOfcpu", "Node didn't have enough resource: cpu"),
        ("NodeShutdown", "Pod was rejected: node is shutting down"),
    ],
)
def test_a_node_that_turns_it_away(reason: str, message: str) -> None:
    found = problem(pod(phase="Failed", reason=reason, message=message))
    assert found.error is NoCapacity
    assert found.retryable
    assert message in found.message


def test_crash_loop_has_the_last_words_of_the_container_before() -> None:
    waiting = {
        "waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}
    }
    looping = pod(state=waiting, last=ended(1, message="CUDA error: out of memory"), restarts=3)
    found = problem(looping)
    assert "exit status 1" in found.message
    assert found.to_error().engine_detail == "CUDA error: out of memory"
    assert failures.restarted(looping)


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (ended(137, "OOMKilled"), "limit of 48.0 GiB"),
        (ended(139), "exit status 139 (SIGSEGV)"),
        (ended(1, startedAt="2030-01-01T00:00:00Z", finishedAt="2030-01-01T00:01:30Z"), "after 90 s"),
        (ended(0, "Completed"), "ended by itself with exit status 0"),
        (ended(128, "StartError", message='exec: "vllm": not found'), 'exec: "vllm": not found'),
    ],
)
def test_ends_of_a_container(state: dict[str, Any], sentence: str) -> None:
    found = pod(state=state, phase="Failed")
    assert sentence in (failures.why_ended(found, SETTINGS) or "")
    assert sentence in problem(found).message


def test_the_last_words_stand_in_for_a_log_that_is_gone() -> None:
    assert failures.last_words(pod(state=ended(1, message="Traceback"), phase="Failed")) == "Traceback"


def test_a_kubelet_that_lost_patience() -> None:
    found = problem(
        pod(state=ended(137), phase="Failed"),
        event("Unhealthy", "Startup probe failed: connection refused"),
        event("Killing", "Container server failed startup probe", "Normal"),
    )
    assert "Startup probe failed: connection refused" in found.message


def test_disruptions_are_no_fault_of_the_server() -> None:
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByTaintManager",
        "message": "deleting due to NoExecute taint",
    }
    found = pod(state=ended(143), phase="Failed", conditions=[condition], deleted=True)
    assert "node lost" in (failures.why_ended(found, SETTINGS) or "")
    assert problem(found).retryable


def test_deleted_by_somebody_else() -> None:
    assert "deleted by somebody else" in (
        failures.why_ended(pod(deleted=True, phase="Running", state={"running": {}}), SETTINGS) or ""
    )


def test_volumes_are_explained_by_events_only() -> None:
    found = problem(
        pod(state={"waiting": {"reason": "ContainerCreating"}}), event("FailedMount", 'claim "m" not found')
    )
    assert 'claim "m" not found' in found.message
    assert found.patience == SETTINGS.container_patience_s

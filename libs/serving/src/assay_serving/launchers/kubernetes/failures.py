"""What the state of a Pod means, in words for the person who has to do something about it. Pure functions."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from lightkube.models.core_v1 import (
    ContainerState,
    ContainerStateTerminated,
    ContainerStatus,
    Event,
    Pod,
    PodCondition,
)

from assay_serving.errors import NoCapacity, ServingError, StartFailed
from assay_serving.launchers.kubernetes.manifests import CONTAINER
from assay_serving.launchers.kubernetes.settings import KubernetesSettings

_IMAGE_WAITS = ("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable")
_IMAGE_NEVER = ("InvalidImageName", "ErrImageNeverPull", "SignatureValidationFailed")
_CONFIG_WAITS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
# What a registry says of an image that no waiting brings.
_HOPELESS_IMAGE = (
    "not found",
    "unauthorized",
    "authentication required",
    "denied",
    "manifest unknown",
    "no match for platform",
)
# Reasons of a whole Pod that its node turned away: there was no room after all.
_TURNED_AWAY = ("UnexpectedAdmissionError", "Preempting", "Preempted", "NodeShutdown", "Terminated")
_SETUP_EVENTS = (
    "FailedMount",
    "FailedAttachVolume",
    "FailedMapVolume",
    "FailedCreatePodSandBox",
    "FailedCreatePodContainer",
    "NetworkNotReady",
)
_CONFIG_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a Pod does not start.

    Attributes:
        kind: what it is about; patience is counted per kind.
        error: class of the error to raise.
        message: what is wrong and what to do.
        patience: seconds that it may last before it counts; 0: at once.
        retryable: whether another try may succeed.
        detail: what the cluster knows of the container's last output.
    """

    kind: str
    error: type[ServingError]
    message: str
    patience: float = 0.0
    retryable: bool = False
    detail: str = ""

    def to_error(self, log: str = "") -> ServingError:
        """The error to raise, with the log's end where there is one."""
        return self.error(self.message, retryable=self.retryable, engine_detail=log or self.detail)


def server_status(pod: Pod) -> ContainerStatus | None:
    """The state of the model server's container; None before the kubelet has reported any."""
    statuses = (pod.status.containerStatuses if pod.status else None) or []
    return next((status for status in statuses if status.name == CONTAINER), None)


def is_scheduled(pod: Pod) -> bool:
    """Whether a node was chosen."""
    return bool(pod.spec and pod.spec.nodeName)


def is_running(pod: Pod) -> bool:
    """Whether the model server's process was started and has not ended."""
    status = server_status(pod)
    return bool(status and status.state and status.state.running)


def is_ready(pod: Pod) -> bool:
    """Whether the kubelet found the server healthy."""
    status = server_status(pod)
    return bool(status and status.ready)


def why_not_starting(pod: Pod, events: Sequence[Event], settings: KubernetesSettings) -> Problem | None:
    """What keeps `pod` from running, or None where it only takes its time.

    `events` are those of the Pod, oldest first.
    """
    if (end := why_ended(pod, settings)) is not None:
        return _ended(pod, end, events)
    status = server_status(pod)
    if not is_scheduled(pod):
        return _unschedulable(pod, settings)
    state = status.state if status else None
    if state is not None and state.waiting is not None and (reason := state.waiting.reason or ""):
        problem = _waiting(pod, reason, state.waiting.message or "", events, settings)
        if problem is not None:
            return problem
    if state is None or state.waiting is not None:
        return _setup(events, settings)
    return None


def why_ended(pod: Pod, settings: KubernetesSettings) -> str | None:
    """A sentence on the end of a Pod that has ended or is being ended, or None while it lives."""
    if pod.status is not None and pod.status.reason and pod.status.phase in ("Failed", "Unknown"):
        return _pod_reason(pod, settings)
    if (terminated := _terminated(pod)) is not None:
        return _container_end(terminated, settings, pod)
    if pod.status is not None and pod.status.phase in ("Failed", "Succeeded"):
        return f"{_named(pod)} has ended: {pod.status.phase}"
    if pod.metadata is not None and pod.metadata.deletionTimestamp is not None:
        return _deletion(pod)
    return None


def why_gone(pod: Pod) -> str:
    """A sentence on a Pod that is not there any more; `pod` is its last known state."""
    return _deletion(pod) if pod.metadata and pod.metadata.deletionTimestamp else _by_somebody_else(pod)


def last_words(pod: Pod) -> str:
    """The last lines of the container's output as its status keeps them; empty where it ended well."""
    status = server_status(pod)
    for state in (status.state, status.lastState) if status else ():
        if state and state.terminated and state.terminated.message:
            return state.terminated.message
    return ""


def restarted(pod: Pod) -> bool:
    """Whether the container runs for a second time, so that the log of interest is the one before."""
    status = server_status(pod)
    return bool(status and status.restartCount)


def unreachable(pod: Pod, settings: KubernetesSettings, said: str) -> Problem:
    """The kubelet finds the server healthy, but this adapter does not: `said` is what its own check met."""
    address = pod.status.podIP if pod.status else ""
    return Problem(
        kind="reach",
        error=StartFailed,
        message=f"{_named(pod)} is ready for its kubelet, but this adapter cannot reach it at {address} "
        f"({said}); look for a NetworkPolicy, or for an adapter outside the cluster's network",
        patience=settings.reach_patience_s,
    )


def _ended(pod: Pod, sentence: str, events: Sequence[Event]) -> Problem:
    reason = (pod.status.reason if pod.status else "") or ""
    terminated = _terminated(pod)
    if reason.startswith("OutOf") or reason in _TURNED_AWAY:
        return Problem(kind="end", error=NoCapacity, message=sentence, retryable=True, detail=last_words(pod))
    unhealthy = _newest(events, ("Unhealthy",)) if _newest(events, ("Killing",)) else None
    if terminated is not None and terminated.exitCode and unhealthy is not None:
        sentence += f"; the kubelet ended it: {unhealthy.message}"
    # A deleted, evicted or lost Pod says nothing against the next one.
    passing = terminated is None or reason == "Evicted"
    if terminated is not None and _disruption(pod) is not None:
        passing = True
    is_deadline = reason == "DeadlineExceeded"
    return Problem(
        kind="end",
        error=StartFailed,
        message=sentence,
        retryable=passing and not is_deadline,
        detail=last_words(pod),
    )


def _unschedulable(pod: Pod, settings: KubernetesSettings) -> Problem | None:
    condition = _condition(pod, "PodScheduled")
    if condition is None or condition.status != "False" or condition.reason != "Unschedulable":
        return None
    said = condition.message or "the scheduler gave no reason"
    # Where at least one node lacks only room, another time may do. A selector or a taint that no node
    # matches, or a claim that is not bound, stays until somebody changes it.
    lacks_room = any(text in said for text in ("Insufficient", "Too many pods", "max volume count"))
    if lacks_room or said.startswith(("no nodes available", "0/0 nodes")):
        return Problem(
            kind="schedule",
            error=NoCapacity,
            message=f"no node has room: {said}",
            patience=settings.schedule_patience_s,
            retryable=True,
        )
    return Problem(
        kind="schedule",
        error=StartFailed,
        message=f"no node may run it: {said}; compare kubernetes.node_selector, kubernetes.tolerations and "
        "the volumes' claims with the cluster's nodes",
        patience=settings.schedule_patience_s,
    )


def _waiting(
    pod: Pod, reason: str, said: str, events: Sequence[Event], settings: KubernetesSettings
) -> Problem | None:
    image = _image(pod)
    if reason in _IMAGE_NEVER:
        return Problem(
            kind="image",
            error=StartFailed,
            message=f"image {image}: {reason}: {said}; correct kubernetes.image",
        )
    if reason in _IMAGE_WAITS:
        said = _registry_words(events) or said
        hopeless = any(text in said.lower() for text in _HOPELESS_IMAGE)
        return Problem(
            kind="image",
            error=StartFailed,
            message=f"image {image} cannot be pulled ({reason}): {said}; check kubernetes.image and "
            "kubernetes.image_pull_secrets",
            patience=0.0 if hopeless else settings.image_patience_s,
            retryable=not hopeless,
        )
    if reason in _CONFIG_WAITS:
        is_lookup = "not found" in said and reason == "CreateContainerConfigError"  # may be a stale cache
        return Problem(
            kind="container",
            error=StartFailed,
            message=f"the container cannot be created ({reason}): {said}",
            patience=min(_CONFIG_PATIENCE_SECONDS, settings.container_patience_s) if is_lookup else 0.0,
        )
    if reason == "CrashLoopBackOff":
        last = _last_end(pod)
        why = _container_end(last, settings, pod) if last else said
        return Problem(
            kind="end",
            error=StartFailed,
            message=f"the server ends again and again: {why}",
            detail=last_words(pod),
        )
    return None


def _setup(events: Sequence[Event], settings: KubernetesSettings) -> Problem | None:
    """Volumes and the sandbox have no place in the status: only events tell what is wrong with them."""
    event = _newest(events, _SETUP_EVENTS)
    if event is None:
        return None
    return Problem(
        kind="setup",
        error=StartFailed,
        message=f"the Pod cannot be set up ({event.reason}): {event.message}; check the volumes, "
        "kubernetes.runtime_class and the node",
        patience=settings.container_patience_s,
        retryable=True,
    )


def _registry_words(events: Sequence[Event]) -> str:
    """The registry's answer: the waiting reason alternates between it and "back-off"."""
    for event in reversed(events):
        if event.reason == "Failed" and (event.message or "").startswith("Failed to pull image"):
            return event.message or ""
    return ""


def _pod_reason(pod: Pod, settings: KubernetesSettings) -> str:
    reason = (pod.status.reason if pod.status else "") or ""
    said = (pod.status.message if pod.status else "") or ""
    match reason:
        case "Evicted":
            return f"{_named(pod)} was evicted: {said}"
        case "DeadlineExceeded":
            limit = settings.active_deadline_s
            return f"{_named(pod)} ran for {limit} s, as long as kubernetes.active_deadline_s lets it"
        case "NodeLost":
            return f"the node of {_named(pod)} was lost: {said}"
        case _:
            return f"{_named(pod)} was ended by its node ({reason}): {said}"


def _container_end(terminated: ContainerStateTerminated, settings: KubernetesSettings, pod: Pod) -> str:
    code = terminated.exitCode
    if terminated.reason == "OOMKilled":
        return (
            f"the server was killed for memory (OOMKilled): it reached the Pod's limit of {_memory(pod)}; "
            "ask for more memory, or for a shorter context or fewer parallel requests"
        )
    if terminated.reason in ("ContainerCannotRun", "StartError"):
        return f"the server's program cannot be started: {terminated.message or terminated.reason}"
    if disruption := _disruption(pod):
        return f"{_named(pod)} was ended by the cluster: {disruption}"
    if code == 0:
        return "the server ended by itself with exit status 0"
    number = terminated.signal or (code - 128 if code > 128 else 0)
    by_signal = f" ({_signal_name(number)})" if number else ""
    return f"the server ended with exit status {code}{by_signal}{_within(terminated, settings)}"


def _within(terminated: ContainerStateTerminated, settings: KubernetesSettings) -> str:
    if terminated.startedAt is None or terminated.finishedAt is None:
        return ""
    return f" after {(terminated.finishedAt - terminated.startedAt).total_seconds():.0f} s"


def _deletion(pod: Pod) -> str:
    if disruption := _disruption(pod):
        return f"{_named(pod)} was ended by the cluster: {disruption}"
    return _by_somebody_else(pod)


def _by_somebody_else(pod: Pod) -> str:
    return f"{_named(pod)} was deleted by somebody else"


def _disruption(pod: Pod) -> str | None:
    """Why the cluster ends a Pod that did nothing wrong: preemption, eviction by API, a lost node."""
    condition = _condition(pod, "DisruptionTarget")
    if condition is None or condition.status != "True":
        return None
    lost = "node lost: " if condition.reason in ("DeletionByTaintManager", "DeletionByPodGC") else ""
    return f"{lost}{condition.reason}: {condition.message}"


def _terminated(pod: Pod) -> ContainerStateTerminated | None:
    status = server_status(pod)
    return status.state.terminated if status and status.state else None


def _last_end(pod: Pod) -> ContainerStateTerminated | None:
    status = server_status(pod)
    state: ContainerState | None = status.lastState if status else None
    return state.terminated if state else None


def _condition(pod: Pod, kind: str) -> PodCondition | None:
    conditions = (pod.status.conditions if pod.status else None) or []
    return next((condition for condition in conditions if condition.type == kind), None)


def _newest(events: Sequence[Event], reasons: Sequence[str]) -> Event | None:
    return next((event for event in reversed(events) if event.reason in reasons), None)


def _named(pod: Pod) -> str:
    name = pod.metadata.name if pod.metadata else ""
    node = pod.spec.nodeName if pod.spec else ""
    return f"Pod {name} on node {node}" if node else f"Pod {name}"


def _image(pod: Pod) -> str:
    containers = pod.spec.containers if pod.spec else []
    return next((each.image or "" for each in containers if each.name == CONTAINER), "")


def _memory(pod: Pod) -> str:
    containers = pod.spec.containers if pod.spec else []
    limits = next(
        (each.resources.limits for each in containers if each.name == CONTAINER and each.resources), None
    )
    text = str((limits or {}).get("memory", "unknown"))
    return f"{int(text) / (1 << 30):.1f} GiB" if text.isdigit() else text


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

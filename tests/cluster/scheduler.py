"""Chooses nodes for Pods, and says why none fits in the scheduler's words."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.schemas import Object, quantity
from cluster.store import Store, now_text, set_condition


@dataclass
class Node:
    name: str
    capacity: dict[str, str] = field(default_factory=lambda: {"cpu": "64", "memory": "512Gi"})
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[str] = field(default_factory=list)  # keys, of effect NoSchedule
    is_lost: bool = False


def why_not(node: Node, pod: Object, store: Store) -> list[str]:
    """The reasons why `pod` cannot run on `node`; none if it can."""
    spec = pod["spec"]
    tolerated = {each.get("key", "") for each in spec.get("tolerations", [])}
    if node.is_lost:
        return ["node(s) had untolerated taint {node.kubernetes.io/unreachable: }"]
    for taint in node.taints:
        if taint not in tolerated and "" not in tolerated:
            return [f"node(s) had untolerated taint {{{taint}: }}"]
    if any(node.labels.get(name) != value for name, value in spec.get("nodeSelector", {}).items()):
        return ["node(s) didn't match Pod's node affinity/selector"]
    used: Counter[str] = Counter()
    for other in store.of_kind("pods"):
        if other["spec"].get("nodeName") == node.name and other["status"]["phase"] in ("Pending", "Running"):
            used.update(requests(other))
    return [
        f"Insufficient {name}"
        for name, wanted in requests(pod).items()
        if used[name] + wanted > quantity(node.capacity.get(name, "0"))
    ]


def requests(pod: Object) -> dict[str, float]:
    found: dict[str, float] = {}
    for container in pod["spec"]["containers"]:
        for name, text in container.get("resources", {}).get("requests", {}).items():
            found[name] = found.get(name, 0.0) + quantity(text)
    return found


def schedule(store: Store, nodes: list[Node]) -> list[tuple[Object, str]]:
    """Bind every Pod that fits somewhere; returns Pods that fit nowhere, with the scheduler's message."""
    unschedulable = []
    for pod in store.of_kind("pods"):
        spec, metadata = pod["spec"], pod["metadata"]
        if spec.get("nodeName") or spec.get("schedulingGates") or "deletionTimestamp" in metadata:
            continue
        reasons: Counter[str] = Counter()
        chosen = None
        for node in nodes:
            if not (found := why_not(node, pod, store)):
                chosen = node
                break
            reasons.update(found)
        if chosen is not None:
            store.change("pods", metadata["namespace"], metadata["name"], _bound_to(chosen.name))
            continue
        said = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        message = (
            f"0/{len(nodes)} nodes are available: {said}." if nodes else "no nodes available to schedule pods"
        )
        unschedulable.append((pod, message))
    return unschedulable


def _bound_to(node: str) -> Callable[[Object], None]:
    def edit(pod: Object) -> None:
        pod["spec"]["nodeName"] = node
        pod["status"]["startTime"] = now_text()
        set_condition(pod, "PodScheduled", "True")

    return edit

"""The whole cluster in one event loop."""

import asyncio
import contextlib
import copy
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from cluster.api_server import ApiServer
from cluster.containers import Image
from cluster.kubelet import Doom, PodWorker, read_log
from cluster.scheduler import Node, schedule
from cluster.schemas import Object
from cluster.store import ApiError, Store, now_text, set_condition

NAMESPACE = "evaluation"
_TICK_SECONDS = 0.02


class Cluster:
    """An API server, a scheduler, a garbage collector, and kubelets whose containers are local processes.

    `images` is what the registry has, `claims` the volume claims that are bound; `seconds` is how long a
    second of the kubelet's back-off and probing takes.
    """

    def __init__(self, folder: Path, *, role: Object | None = None, seconds: float = 0.05) -> None:
        self.store = Store()
        self.api = ApiServer(self.store, read_log=self._read_log, role=role)
        self.nodes = [Node("node-1")]
        self.images: dict[str, Image] = {}
        self.claims: set[str] = set()
        self.seconds = seconds
        self.unreachable: set[str] = set()  # images whose Pods only their kubelet reaches
        self._folder = folder
        self.workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Cluster"]:
        async with self.api.serving():
            ticking = asyncio.create_task(self._tick())
            try:
                yield self
            finally:
                ticking.cancel()
                for task in self._tasks.values():
                    task.cancel()
                await asyncio.gather(ticking, *self._tasks.values(), return_exceptions=True)

    def pods(self) -> list[Object]:
        return self.store.of_kind("pods", NAMESPACE)

    def left(self) -> list[str]:
        """Everything that somebody has created and nobody removed."""
        return [
            f"{kind}/{name}"
            for kind, _, name in sorted(self.store.objects)
            if kind in ("pods", "services", "secrets")
        ]

    def worker(self, pod: Object) -> PodWorker:
        return self.workers[pod["metadata"]["uid"]]

    def oom_kill(self, pod: Object) -> None:
        self.worker(pod).kill_container(Doom(reason="OOMKilled"))

    def evict(self, pod: Object, message: str) -> None:
        self.worker(pod).kill_container(Doom(pod_reason="Evicted", message=message))

    def crash(self, pod: Object) -> None:
        self.worker(pod).kill_container(Doom())

    def delete(self, pod: Object, *, by: str = "somebody", grace: int | None = None) -> None:
        options = {} if grace is None else {"gracePeriodSeconds": grace}
        self.store.delete("pods", NAMESPACE, pod["metadata"]["name"], options=options, by=by)

    def disrupt(self, pod: Object, reason: str, message: str) -> None:
        """End a Pod as the cluster itself does it, with the condition that says why."""

        def edit(each: Object) -> None:
            set_condition(each, "DisruptionTarget", "True", reason, message)

        self.store.change("pods", NAMESPACE, pod["metadata"]["name"], edit)
        self.delete(pod, by=reason)

    def lose_node(self, name: str) -> None:
        """The node falls silent, and its Pods are given up at once; they stay until somebody forces them."""
        next(node for node in self.nodes if node.name == name).is_lost = True
        for pod in self.pods():
            if pod["spec"].get("nodeName") == name:
                self.worker(pod).is_frozen = True
                self.disrupt(pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")

    def forget_node(self, name: str) -> None:
        """The node is taken out of the cluster: the Pods that it had are removed for good."""
        self.nodes = [node for node in self.nodes if node.name != name]
        for pod in self.pods():
            if pod["spec"].get("nodeName") == name:
                self.delete(pod, by="PodGC", grace=0)

    def add_pod(self, name: str, *, uid: str) -> None:
        """A Pod of somebody else, as the adapter's own is one; it never runs."""
        content = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "schedulingGates": [{"name": "example.com/never"}],
                "containers": [{"name": "adapter", "image": "adapter:1"}],
            },
        }
        self.store.create("pods", NAMESPACE, content)
        self.store.change("pods", NAMESPACE, name, lambda pod: pod["metadata"].update(uid=uid))

    def record(self, pod: Object, kind: str, reason: str, message: str) -> None:
        """An event; the same one again only counts up."""
        metadata = pod["metadata"]
        for event in self.store.events_of(metadata["uid"]):
            if (event["reason"], event["message"]) == (reason, message):
                fresh = copy.deepcopy(event)
                fresh |= {"count": event["count"] + 1, "lastTimestamp": now_text()}
                self.store.replace("events", fresh)
                return
        self.store.create(
            "events",
            metadata["namespace"],
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {
                    "name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}",
                    "namespace": metadata["namespace"],
                },
                "involvedObject": {"kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]},
                "type": kind,
                "reason": reason,
                "message": message,
                "count": 1,
                "firstTimestamp": now_text(),
                "lastTimestamp": now_text(),
            },
        )

    async def _tick(self) -> None:
        while True:
            for pod, message in schedule(self.store, self.nodes):
                self._unschedulable(pod, message)
            for pod in self.pods():
                if pod["spec"].get("nodeName") and pod["metadata"]["uid"] not in self.workers:
                    self._start_worker(pod)
            self.store.collect_garbage()
            await asyncio.sleep(_TICK_SECONDS)

    def _unschedulable(self, pod: Object, message: str) -> None:
        old = pod["status"].get("conditions", [])
        if not any(each.get("message") == message for each in old):
            name = pod["metadata"]["name"]
            self.record(pod, "Warning", "FailedScheduling", message)
            with contextlib.suppress(ApiError):
                self.store.change(
                    "pods",
                    NAMESPACE,
                    name,
                    lambda each: set_condition(each, "PodScheduled", "False", "Unschedulable", message),
                )

    def _start_worker(self, pod: Object) -> None:
        metadata = pod["metadata"]
        worker = PodWorker(
            store=self.store,
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            images=self.images,
            claims=self.claims,
            folder=self._folder,
            record=self.record,
            seconds=self.seconds,
            unreachable=self.unreachable,
        )
        self.workers[worker.uid] = worker
        self._tasks[worker.uid] = asyncio.create_task(worker.run())

    def _read_log(self, uid: str, container: str, previous: bool) -> bytes:
        return b"" if previous else read_log(iter(self.workers.values()), uid)

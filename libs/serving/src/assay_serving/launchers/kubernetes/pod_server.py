"""A model server that runs in a Pod."""

import asyncio
from collections.abc import Callable, Mapping

from lightkube.models.core_v1 import Pod

from assay_serving.launchers.kubernetes import failures
from assay_serving.launchers.kubernetes.api import ClusterApi
from assay_serving.launchers.kubernetes.heartbeat import Heartbeat
from assay_serving.launchers.kubernetes.manifests import Launch
from assay_serving.launchers.kubernetes.pod_log import PodLog
from assay_serving.launchers.kubernetes.pod_watch import PodWatch
from assay_serving.launchers.kubernetes.removal import remove
from assay_serving.launchers.server import RunningServer
from assay_serving.types import InstanceLog
from assay_serving.upstream import UpstreamAddress


class PodServer(RunningServer):
    """One instance's Pod, Service and Secret, from the Pod's creation to their removal.

    It answers its health check once the launcher has handed it out. `ended` is called when it was stopped,
    with whether everything of it is gone.
    """

    def __init__(
        self, api: ClusterApi, launch: Launch, pod: Pod, *, ended: Callable[["PodServer", bool], None]
    ) -> None:
        assert pod.metadata is not None
        self._api = api
        self._ended = ended
        self._ending: asyncio.Task[None] | None = None
        self.launch = launch
        self.watch = PodWatch(api, pod)
        self.log = PodLog(api, launch.name, max_bytes=launch.settings.log_bytes)
        self.heartbeat = Heartbeat(
            api, name=launch.name, uid=pod.metadata.uid or "", written=launch.lease_ends
        )
        self.watch.start()

    @property
    def address(self) -> UpstreamAddress:
        """The Pod's own address: what is measured passes no proxy."""
        status = self.watch.pod.status
        host = (status.podIP if status else None) or ""
        return UpstreamAddress(host=host, port=self.launch.conventions.container_port)

    @property
    def headers(self) -> Mapping[str, str]:
        """The server's key."""
        conventions = self.launch.conventions
        if not conventions.key_variable and conventions.key_arguments is None:
            return {}
        return {"Authorization": f"Bearer {self.launch.key}"}

    @property
    def process_id(self) -> int:
        """0: it runs elsewhere."""
        return 0

    @property
    def place(self) -> Mapping[str, str]:
        """``host`` (the node), ``namespace``, ``pod``, ``node``, ``image``, ``image_id``, ``pod_ip``."""
        pod = self.watch.pod
        status = failures.server_status(pod)
        node = (pod.spec.nodeName if pod.spec else None) or ""
        return {
            "host": node,
            "namespace": self.launch.settings.namespace,
            "pod": self.launch.name,
            "node": node,
            "image": self.launch.settings.image,
            "image_id": status.imageID if status else "",
            "pod_ip": self.address.host,
        }

    async def renew(self, lease: float) -> None:
        """The Pod's annotation follows in the background."""
        self.heartbeat.extend(lease)

    async def wait_dead(self) -> str:
        """A sentence on the Pod's end, in words of the cluster."""
        while True:
            if self._ending is not None:
                await asyncio.shield(self._ending)
                return f"Pod {self.launch.name} was stopped by this adapter"
            if self.watch.is_gone:
                return failures.why_gone(self.watch.pod)
            if (sentence := failures.why_ended(self.watch.pod, self.launch.settings)) is not None:
                await self.log.keep(self.watch.pod)
                return sentence
            await self.watch.changed()

    async def read_log(self, max_bytes: int) -> InstanceLog:
        """The container's output; what was read last where the Pod is gone."""
        if self._ending is None and not self.watch.is_gone:
            await self.log.keep(self.watch.pod)
        return self.log.end(max_bytes)

    async def stop(self) -> None:
        """Keep the log, delete, and wait until nothing is left or patience ends; the reaper does the rest."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        settings = self.launch.settings
        await self.heartbeat.stop()
        if not self.watch.is_gone:
            await self.log.keep(self.watch.pod)
        await self.watch.stop()
        is_gone = await remove(
            self._api,
            self.launch.name,
            grace=settings.termination_grace_s,
            patience=settings.stop_patience_s,
        )
        self._ended(self, is_gone)

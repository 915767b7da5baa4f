"""The newest state of one Pod, by a watch that outlives whatever happens to its connection."""

import asyncio
import contextlib
import logging
import time

from lightkube.models.core_v1 import Pod

from assay_serving.launchers.kubernetes.api import (
    Backoff,
    ClusterApi,
    ClusterError,
    NotFound,
    PodChange,
    VersionGone,
)

_logger = logging.getLogger(__name__)
# A watch that ends sooner than this counts as failed: a proxy that cuts each one must not be hammered.
_SHORT_WATCH_SECONDS = 5.0


class PodWatch:
    """Follows a Pod from its creation to its end. `start` it, and `stop` it at the end.

    Attributes:
        pod: as last seen.
        is_gone: there is no such Pod any more; `pod` is its last state.
    """

    def __init__(self, api: ClusterApi, pod: Pod) -> None:
        assert pod.metadata is not None
        self.pod = pod
        self.is_gone = False
        self._api = api
        self._name = pod.metadata.name or ""
        self._uid = pod.metadata.uid
        self._version = pod.metadata.resourceVersion or ""
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch, in a task of its own."""
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """End the watch."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def changed(self, *, seconds: float | None = None) -> None:
        """Wait for the next change, at most for `seconds`. Any number of callers may wait."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def take(self, pod: Pod) -> None:
        """Take over a state that was learnt in another way, such as a patch's answer."""
        if pod.metadata is None or pod.metadata.uid != self._uid:
            self._lose()
        elif _number(pod.metadata.resourceVersion) >= _number(_version_of(self.pod)):
            self.pod = pod
            self._tell()

    async def _follow(self) -> None:
        backoff = Backoff()
        while not self.is_gone:
            started = time.monotonic()
            try:
                await self._once()
            except NotFound:
                self._lose()
                return
            except VersionGone:
                self._version = ""
            except ClusterError as error:
                # Read the Pod before the next try: where no watch gets through, reading still may.
                self._version = ""
                _logger.warning("watch of Pod %s: %s; trying again", self._name, error.message)
            if time.monotonic() - started > _SHORT_WATCH_SECONDS:
                backoff.reset()
            elif not self.is_gone:
                await backoff.pause()

    async def _once(self) -> None:
        if not self._version:
            pod = await self._api.read_pod(self._name)
            self._version = _version_of(pod)
            self.take(pod)
        async with contextlib.aclosing(self._api.watch_pod(self._name, self._version)) as changes:
            async for change in changes:
                self._take_change(change)
                if self.is_gone:
                    return

    def _take_change(self, change: PodChange) -> None:
        self._version = change.version
        if change.pod is not None:
            self.take(change.pod)
            if change.is_deleted:
                self._lose()

    def _lose(self) -> None:
        self.is_gone = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _version_of(pod: Pod) -> str:
    return (pod.metadata.resourceVersion if pod.metadata else "") or ""


def _number(version: str | None) -> int:
    # Versions of one kind in one cluster may be compared as numbers; a server that has others gets equality.
    return int(version) if version and version.isdigit() else 0

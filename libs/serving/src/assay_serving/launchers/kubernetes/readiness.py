"""From a Pod that exists to a server that answers, or to the reason why it never will."""

import asyncio
import time
from collections.abc import Sequence

from lightkube.models.core_v1 import Event

from assay_serving.errors import StartFailed
from assay_serving.launchers.kubernetes import failures
from assay_serving.launchers.kubernetes.api import ClusterApi, ClusterError
from assay_serving.launchers.kubernetes.failures import Problem
from assay_serving.launchers.kubernetes.pod_server import PodServer
from assay_serving.launchers.server import Progress
from assay_serving.types import InstanceState
from assay_serving.upstream import UpstreamError, exchange

_POLL_SECONDS = 0.2
_EVENTS_SECONDS = 2.0
_HEALTH_SECONDS = 5.0
_DETAIL_BYTES = 4096


async def wait_until_healthy(api: ClusterApi, server: PodServer, *, progress: Progress) -> None:
    """Return once the server's health check succeeds from here; keeps its lease alive meanwhile.

    Raises:
        NoCapacity, StartFailed: see `ServerLauncher.launch`.
    """
    start = _Start(api, server, progress)
    while not await start.is_done():
        server.heartbeat.extend(server.launch.plan.lease)
        await server.watch.changed(seconds=_POLL_SECONDS)


class _Start:
    """What is remembered between two looks at a starting Pod."""

    def __init__(self, api: ClusterApi, server: PodServer, progress: Progress) -> None:
        self._api = api
        self._server = server
        self._progress = progress
        self._state = InstanceState.PENDING
        self._first_seen: dict[str, float] = {}
        self._events: Sequence[Event] = ()
        self._events_read = time.monotonic()

    async def is_done(self) -> bool:
        """Look once: True where it answers; raises what makes waiting longer useless."""
        watch, settings = self._server.watch, self._server.launch.settings
        if watch.is_gone:
            raise StartFailed(failures.why_gone(watch.pod), retryable=True)
        self._report()
        problem = failures.why_not_starting(watch.pod, await self._read_events(), settings)
        if problem is None and failures.is_running(watch.pod):
            if not (said := await self._check_health()):
                return True
            if failures.is_ready(watch.pod):
                problem = failures.unreachable(watch.pod, settings, said)
        if problem is not None and self._has_lasted(problem):
            raise problem.to_error(await self._log_end(problem))
        return False

    def _report(self) -> None:
        pod = self._server.watch.pod
        if self._state is InstanceState.PENDING and failures.is_scheduled(pod):
            self._state = InstanceState.PULLING
            node = pod.spec.nodeName if pod.spec else ""
            self._progress(self._state, f"on node {node}: image {self._server.launch.settings.image}")
        if self._state is InstanceState.PULLING and failures.is_running(pod):
            self._state = InstanceState.STARTING
            self._progress(self._state, f"Pod {self._server.launch.name} runs and loads the model")

    async def _read_events(self) -> Sequence[Event]:
        pod = self._server.watch.pod
        is_over = failures.why_ended(pod, self._server.launch.settings) is not None
        is_due = time.monotonic() - self._events_read >= _EVENTS_SECONDS and not failures.is_running(pod)
        if (is_over or is_due) and pod.metadata is not None and pod.metadata.uid:
            self._events_read = time.monotonic()
            try:
                self._events = await self._api.events_of(pod.metadata.uid)
            except ClusterError:  # the Pod's status says most of it
                return self._events
        return self._events

    async def _check_health(self) -> str:
        """Empty where the server answers with 200, else what came instead."""
        path = self._server.launch.conventions.health_path
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                reply = await exchange(self._server.address, "GET", path)
        except TimeoutError:
            return f"no answer in {_HEALTH_SECONDS:.0f} s"
        except UpstreamError as error:
            return str(error)
        return "" if reply.status == 200 else f"GET {path}: {reply.status}"

    def _has_lasted(self, problem: Problem) -> bool:
        # Counted from the first time: a problem that comes and goes is the same one.
        since = self._first_seen.setdefault(problem.kind, time.monotonic())
        return time.monotonic() - since >= problem.patience

    async def _log_end(self, problem: Problem) -> str:
        if failures.server_status(self._server.watch.pod) is None:
            return problem.detail
        await self._server.log.keep(self._server.watch.pod)
        return self._server.log.end(_DETAIL_BYTES).text or problem.detail

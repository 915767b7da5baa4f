"""The lease of a Pod as other adapters see it: an annotation, renewed in the background."""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime, timedelta

from assay_serving.launchers.kubernetes.api import Backoff, ClusterApi, ClusterError, Conflicted, NotFound
from assay_serving.launchers.kubernetes.manifests import LEASE_ANNOTATION, lease_text, next_lease_end

_logger = logging.getLogger(__name__)


class Heartbeat:
    """Keeps the annotation of one Pod ahead of its lease.

    What is written is half a lease longer than the lease, so that most renewals write nothing and the Pod
    never looks forsaken while its lease lives.
    """

    def __init__(self, api: ClusterApi, *, name: str, uid: str, written: datetime) -> None:
        self._api = api
        self._name = name
        self._uid = uid
        self._written = written
        self._wanted = written
        self._wake = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._write_on())

    def extend(self, lease: float) -> None:
        """The lease now ends `lease` seconds from now; cheap."""
        if datetime.now(UTC) + timedelta(seconds=lease) > max(self._written, self._wanted):
            self._wanted = next_lease_end(lease)
            self._wake.set()

    async def stop(self) -> None:
        """Write no more."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _write_on(self) -> None:
        backoff = Backoff()
        while True:
            await self._wake.wait()
            self._wake.clear()
            wanted = self._wanted
            metadata = {"uid": self._uid, "annotations": {LEASE_ANNOTATION: lease_text(wanted)}}
            try:
                await self._api.patch_pod(self._name, {"metadata": metadata})
            except (NotFound, Conflicted):  # the Pod's own watch tells what happened to it
                return
            except ClusterError as error:
                _logger.warning("lease of Pod %s not written: %s; trying again", self._name, error.message)
                self._wake.set()
                await backoff.pause()
            else:
                self._written = wanted
                backoff.reset()

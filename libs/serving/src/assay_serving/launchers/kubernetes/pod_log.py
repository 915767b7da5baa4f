"""Logs of Pods, read while there is something to read and kept after the end."""

import logging

from lightkube.models.core_v1 import Pod

from assay_serving.launchers.kubernetes import failures
from assay_serving.launchers.kubernetes.api import ClusterApi, ClusterError
from assay_serving.launchers.kubernetes.manifests import CONTAINER
from assay_serving.types import InstanceLog

_logger = logging.getLogger(__name__)


class PodLog:
    """The end of one Pod's output, at most `max_bytes` of it. No call fails."""

    def __init__(self, api: ClusterApi, name: str, *, max_bytes: int) -> None:
        self._api = api
        self._name = name
        self._max_bytes = max_bytes
        self._kept = b""

    async def keep(self, pod: Pod) -> None:
        """Read it once more, for the time when the Pod is gone."""
        limit = self._max_bytes + 1  # one more, to know that there was more
        try:
            found = await self._api.read_log(self._name, container=CONTAINER, max_bytes=limit)
            if not found and failures.restarted(pod):
                found = await self._api.read_log(
                    self._name, container=CONTAINER, max_bytes=limit, previous=True
                )
        except ClusterError as error:
            _logger.info("no log of Pod %s: %s", self._name, error.message)
            found = b""
        # What the status has is the end of the same output: better than nothing.
        found = found or (b"" if self._kept else failures.last_words(pod).encode())
        if found:
            self._kept = found[-limit:]

    def end(self, max_bytes: int) -> InstanceLog:
        """The last `max_bytes` of what was kept."""
        limit = min(max_bytes, self._max_bytes)
        is_cut = len(self._kept) > limit
        text = self._kept[-limit:] if is_cut else self._kept
        return InstanceLog(text=text.decode("utf-8", errors="replace"), is_cut=is_cut)

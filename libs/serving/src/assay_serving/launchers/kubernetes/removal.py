"""Removing what belongs to one instance."""

import logging
import time

from assay_serving.launchers.kubernetes.api import Backoff, ClusterApi, ClusterError, Kind, NotFound

_logger = logging.getLogger(__name__)


async def remove(api: ClusterApi, name: str, *, grace: int, patience: float) -> bool:
    """Delete the Pod, the Service and the Secret of that name and wait until none is left.

    An object is gone when deleting it finds nothing, so that a finaliser of somebody else is waited for and
    Secrets need not be read. The Pod goes first: if this process ends here, the cluster removes what the Pod
    owns. Returns False where something was left after the Pod's grace and `patience` seconds more. Must not
    fail.
    """
    left = [Kind.POD, Kind.SERVICE, Kind.SECRET]
    deadline = time.monotonic() + grace + patience
    backoff = Backoff()
    while True:
        for kind in tuple(left):
            try:
                await api.delete(kind, name, grace=grace if kind is Kind.POD else None)
            except NotFound:
                left.remove(kind)
            except ClusterError as error:
                _logger.warning("deleting %s %s: %s; trying again", kind, name, error.message)
        if not left:
            return True
        if time.monotonic() >= deadline:
            _logger.error("%s of %s are still there after %.0f s", ", ".join(left), name, grace + patience)
            return False
        await backoff.pause()

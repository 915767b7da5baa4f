"""The Python client: ``AssayClient``.

::

    with AssayClient("http://127.0.0.1:8080", api_key) as assay:
        dataset = assay.datasets.create("capitals")
        assay.datasets.upload(dataset.id, Path("capitals.jsonl"))
        run = assay.runs.start(artifact="base", dataset="capitals", method="capitals-qa")
        run = assay.wait_run(run.id)
        print(assay.runs.metrics(run.id).quality)

Wherever a resource is named, its id or its name will do.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from assay.models import Run
from assay.resources import Artifacts, Backends, Comparisons, Datasets, Methods
from assay.runs import Runs
from assay.settings import Connection, find_connection
from assay.transport import RETRY_DELAYS_S, Transport

OnProgress = Callable[[Run], None]


class AssayClient:
    """A client of one platform.

    Every method raises an ``AssayError``: ``RequestRefused`` (with ``NotFound`` and ``Conflict``),
    ``PlatformFailed`` or ``PlatformUnreachable``. Calls that change nothing, and the start of a run, are
    repeated while the platform does not answer.

    Attributes:
        datasets, methods, artifacts, backends, runs, comparisons: the resources.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S,
    ) -> None:
        """Connect to ``base_url``; what is not given comes from the environment or a local platform.

        ``retry_delays_s`` are the pauses, in seconds, between tries of a call that may be repeated.
        """
        self.connection: Connection = find_connection(url=base_url, api_key=api_key)
        self._transport = Transport(self.connection, retry_delays_s=retry_delays_s)
        self.datasets = Datasets(self._transport)
        self.methods = Methods(self._transport, datasets=self.datasets)
        self.backends = Backends(self._transport)
        self.artifacts = Artifacts(self._transport)
        self.runs = Runs(
            self._transport, datasets=self.datasets, methods=self.methods, artifacts=self.artifacts
        )
        self.comparisons = Comparisons(self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def wait_run(
        self,
        run_id: str,
        on_progress: OnProgress | None = None,
        *,
        poll_s: float = 0.5,
        timeout_s: float | None = None,
    ) -> Run:
        """Wait until a run is over, whatever its end, and return it.

        Args:
            run_id: the run.
            on_progress: called with the run after every look at it, the last one included.
            poll_s: seconds between two looks.
            timeout_s: seconds after which to stop waiting; the run goes on.

        Raises:
            TimeoutError: the run is not over after ``timeout_s``.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            run = self.runs.get(run_id)
            if on_progress is not None:
                on_progress(run)
            if run.is_over:
                return run
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"run {run.id} is still {run.state} after {timeout_s} s; it goes on")
            time.sleep(poll_s)

"""The Python client: ``AssayClient``.

::

    with AssayClient("http://127.0.0.1:8080", api_key) as assay:
        dataset = assay.datasets.create("capitals")
        assay.datasets.upload(dataset.id, Path("capitals.jsonl"))
        run = assay.runs.start(artifact="base", dataset="capitals", method="capitals-qa")
        run = assay.wait_run(run.id)
        print(assay.runs.metrics(run.id).quality)
        print(assay.decisions.create("base-run", run.id, policy="default").verdict)

Wherever a resource is named, its id or its name will do.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from assay.models import Ingest, Run, ScoredView
from assay.resources.access import Keys
from assay.resources.artifacts import Artifacts, Backends
from assay.resources.comparisons import Comparisons
from assay.resources.datasets import Datasets, Ingests
from assay.resources.decisions import Decisions, Policies
from assay.resources.methods import Methods, Tasks
from assay.resources.planning import Planning, Trends
from assay.resources.runs import Runs
from assay.resources.scorings import Scorings
from assay.settings import Connection, find_connection
from assay.transport import RETRY_DELAYS_S, Transport
from assay.waiting import wait_until_over


class AssayClient:
    """A client of one platform.

    Every method raises an ``AssayError``: ``RequestRefused`` (with ``NotFound`` and ``Conflict``),
    ``PlatformFailed`` or ``PlatformUnreachable``. Calls that change nothing, and the start of a run, are
    repeated while the platform does not answer.

    Attributes:
        datasets, ingests, tasks, methods, artifacts, backends, runs, scorings, comparisons, policies,
            decisions, planning, trends, keys: the resources.
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
        self.ingests = Ingests(self._transport, datasets=self.datasets)
        self.tasks = Tasks(self._transport)
        self.methods = Methods(self._transport, datasets=self.datasets)
        self.backends = Backends(self._transport)
        self.artifacts = Artifacts(self._transport)
        self.runs = Runs(
            self._transport, datasets=self.datasets, methods=self.methods, artifacts=self.artifacts
        )
        self.scorings = Scorings(self._transport)
        self.comparisons = Comparisons(self._transport, runs=self.runs)
        self.policies = Policies(self._transport)
        self.decisions = Decisions(self._transport, runs=self.runs)
        self.planning = Planning(self._transport, methods=self.methods)
        self.keys = Keys(self._transport)
        self.trends = Trends(self._transport, methods=self.methods, datasets=self.datasets)

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
        on_progress: Callable[[Run], None] | None = None,
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
        return wait_until_over(
            lambda: self.runs.get(run_id), on_progress=on_progress, poll_s=poll_s, timeout_s=timeout_s
        )

    def wait_ingest(
        self,
        ingest_id: str,
        on_progress: Callable[[Ingest], None] | None = None,
        *,
        poll_s: float = 0.5,
        timeout_s: float | None = None,
    ) -> Ingest:
        """Wait until an ingest is over; as ``wait_run``."""
        return wait_until_over(
            lambda: self.ingests.get(ingest_id), on_progress=on_progress, poll_s=poll_s, timeout_s=timeout_s
        )

    def wait_scoring(
        self, scoring_id: str, *, poll_s: float = 0.3, timeout_s: float | None = None
    ) -> ScoredView:
        """Wait until a scored view has its numbers, or has failed; as ``wait_run``."""
        return wait_until_over(
            lambda: self.scorings.get(scoring_id), on_progress=None, poll_s=poll_s, timeout_s=timeout_s
        )

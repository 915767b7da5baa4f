"""How a metric of one method went over time and artifacts."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from assay_chassis.errors import Fault
from metrics_svc.domain.runs import RunMetrics, RunSubject, ScoringState
from metrics_svc.errors import InvalidFilter, UnknownMetric
from metrics_svc.service.runs import metrics_of
from metrics_svc.store import MetricsStore

RUNS_PER_READ = 250
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class TrendArtifact(BaseModel):
    """What a run evaluated."""

    id: str
    name: str
    backend: str


class TrendPoint(BaseModel):
    """One final run of the method.

    Attributes:
        metric: whose ``value`` and lm-eval's ``stderr`` these are; ``None`` where there is none.
        runtime: runtime metrics by name; ``None`` is "not measured".
    """

    run_id: str
    run_name: str
    artifact: TrendArtifact
    dataset_id: str
    method_version: int
    snapshot_digest: str
    canonical: bool | None
    finished_at: str
    metric: str
    value: float | None
    stderr: float | None
    runtime: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class TrendFilter:
    """Which runs to show.

    Attributes:
        method_id: the method, all its versions.
        metric: ``<task>.<metric>,<filter>``; the first one of each run if ``None``.
        dataset_id, artifact_id: only runs of these.
        since, until: only runs that finished in between, both ends included: times with a zone (RFC 3339), or
            dates in UTC, of which the whole day is meant.
    """

    method_id: str
    metric: str | None = None
    dataset_id: str | None = None
    artifact_id: str | None = None
    since: str | None = None
    until: str | None = None

    def matches(self, view: Mapping[str, Any]) -> bool:
        """Whether a view is of the wanted dataset and artifact."""
        return self.dataset_id in (None, view["dataset_id"]) and self.artifact_id in (
            None,
            view["artifact_id"],
        )


@dataclass(frozen=True, slots=True)
class TrendPage:
    """Part of the points, oldest first."""

    items: list[TrendPoint]
    next_cursor: str | None


class TrendService:
    """Lists the final runs of a method by the time at which they were finished."""

    def __init__(self, *, store: MetricsStore) -> None:
        self._store = store

    async def page(self, wanted: TrendFilter, *, cursor: str | None, limit: int) -> TrendPage:
        """Points, oldest first. Runs without the metric have none.

        Raises:
            InvalidFilter: ``since`` or ``until`` is no time.
            UnknownMetric: no run has the metric; the message lists those that runs have.
        """
        since = None if wanted.since is None else _bound(wanted.since, field="since")
        until = None if wanted.until is None else _bound(wanted.until, field="until", ends=True)
        points: list[TrendPoint] = []
        known: dict[str, None] = {}
        last: str | None = None
        async for view in self._views(wanted.method_id, start=max(cursor or "", since or "") or None):
            if until is not None and view["finished_at"] > until:
                break
            if not wanted.matches(view):
                continue
            metrics = metrics_of(view)
            point = _point(metrics, wanted.metric)
            if point is None:
                known |= dict.fromkeys(_names(metrics))
                continue
            if len(points) == limit:
                return TrendPage(items=points, next_cursor=last)
            points.append(point)
            last = view["finished_key"]
        if wanted.metric is not None and known and not points and cursor is None:
            message = f"no run of this method has a metric {wanted.metric!r}; there are: {', '.join(known)}"
            raise UnknownMetric(message, faults=[Fault(message, field="metric")])
        return TrendPage(items=points, next_cursor=None)

    async def _views(self, method_id: str, *, start: str | None) -> AsyncIterator[Mapping[str, Any]]:
        cursor = start
        while True:
            page = await self._store.scorings.page(
                {"method_id": method_id},
                cursor=cursor,
                limit=RUNS_PER_READ,
                key="finished_key",
                descending=False,
            )
            for view in page.items:
                if view["state"] == ScoringState.FINAL:
                    yield view
            cursor = page.next_cursor
            if cursor is None:
                return


def _names(metrics: RunMetrics) -> list[str]:
    """Metrics of a run without their standard errors."""
    return [name for name in metrics.quality if not name.rpartition(",")[0].endswith("_stderr")]


def _point(metrics: RunMetrics, metric: str | None) -> TrendPoint | None:
    """The run as a point; ``None`` where it does not have the metric."""
    names = _names(metrics)
    first = [name for name in metrics.sample_metrics if name in metrics.quality] or names
    chosen = metric if metric is not None else next(iter(first), None)
    if chosen not in names:
        return None
    subject = metrics.subject
    assert subject is not None, "final metrics say what they are of"
    name, _, used = str(chosen).rpartition(",")
    return TrendPoint(
        run_id=metrics.run_id,
        run_name=subject.run_name,
        artifact=_artifact(subject),
        dataset_id=subject.dataset_id,
        method_version=subject.method_version,
        snapshot_digest=subject.snapshot_digest,
        canonical=metrics.canonical,
        finished_at=str(metrics.finished_at),
        metric=str(chosen),
        value=metrics.quality[str(chosen)],
        stderr=metrics.quality.get(f"{name}_stderr,{used}"),
        runtime=metrics.runtime,
    )


def _artifact(subject: RunSubject) -> TrendArtifact:
    artifact = subject.artifact
    return TrendArtifact(id=artifact.id, name=artifact.name, backend=artifact.backend)


def _bound(text: str, *, field: str, ends: bool = False) -> str:
    """A time as ``finished_at`` has it, UTC with milliseconds; the last one of a day that ``ends``."""
    # A + in a query that was not escaped arrives as a blank.
    read = re.sub(r" (?=\d{2}:?\d{2}$)", "+", text.strip())
    try:
        moment = datetime.fromisoformat(read)
    except ValueError:
        moment = None
    is_date = _DATE.fullmatch(read) is not None
    if moment is None or (moment.tzinfo is None and not is_date):
        message = f"{text!r} is no time; write 2026-03-31, or 2026-03-31T12:00:00Z with its zone"
        raise InvalidFilter(message, faults=[Fault(message, field=field)])
    if is_date:
        moment = moment.replace(tzinfo=UTC) + (timedelta(days=1, milliseconds=-1) if ends else timedelta())
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

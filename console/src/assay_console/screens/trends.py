"""Trends: a metric of one method over artifacts and time."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response

from assay.models import Artifact, Dataset, Method, NamedDocument, RunMetrics, TrendPoint
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import pages_of
from assay_console.sign_in import Api
from assay_evidence.runtime_metrics import RUNTIME_METRICS

router = APIRouter()

POINTS = 200
"""The most that the API gives at once, so that a chart shows as much as it can."""
_CHOICES = 200
_QUANTILE_95 = 1.959964
_SHOWN_FIRST = "tps"


class Choice(NamedTuple):
    """An entry of a list to choose from."""

    value: str
    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address asks for; an empty text is no restriction."""

    method_id: str = ""
    metric: str = ""
    runtime: str = ""
    dataset_id: str = ""
    artifact_id: str = ""
    since: str = ""
    until: str = ""
    cursor: str = ""

    @property
    def is_narrowed(self) -> bool:
        """Whether there may be more points than these conditions let through."""
        return any((self.dataset_id, self.artifact_id, self.since, self.until, self.cursor))

    def query(self, *, metric: str | None = None) -> dict[str, str]:
        """The query of ``GET /v1/trends``."""
        names = ("method_id", "dataset_id", "artifact_id", "since", "until")
        return {name: getattr(self, name) for name in names} | {"metric": metric or self.metric}


@dataclass(frozen=True, slots=True)
class Trend:
    """The points of one metric, oldest first, or why there are none."""

    points: Sequence[TrendPoint] = ()
    metric: str = ""
    next_cursor: str | None = None
    error: ApiError | None = None

    @property
    def breaks(self) -> list[str]:
        """What differs between the runs beside artifact and time, in words."""
        versions = {point.method_version for point in self.points}
        snapshots = {point.snapshot_digest for point in self.points}
        found = []
        if len(versions) > 1:
            found.append(f"{len(versions)} versions of the method")
        if len(snapshots) > 1:
            found.append(f"{len(snapshots)} different sets of rows")
        return found


@router.get("/trends", name="trends")
async def trends(
    request: Request,
    api: Api,
    method_id: str = "",
    metric: str = "",
    runtime: str = _SHOWN_FIRST,
    dataset_id: str = "",
    artifact_id: str = "",
    since: str = "",
    until: str = "",
    cursor: str = "",
) -> Response:
    """The form that chooses, and what was chosen as charts and as a table."""
    asked = Asked(
        method_id=method_id,
        metric=metric,
        runtime=runtime if runtime in RUNTIME_METRICS else _SHOWN_FIRST,
        dataset_id=dataset_id,
        artifact_id=artifact_id,
        since=since,
        until=until,
        cursor=cursor,
    )
    methods, datasets, artifacts, trend = await asyncio.gather(
        _choices(api, "/v1/methods", Method, chosen=method_id),
        _choices(api, "/v1/datasets", Dataset, chosen=dataset_id),
        _choices(api, "/v1/artifacts", Artifact, chosen=artifact_id),
        _trend(api, asked),
    )
    return pages_of(request).page(
        request,
        "trends/page.html",
        status=200 if trend.error is None else trend.error.status,
        asked=asked,
        trend=trend,
        methods=methods,
        datasets=datasets,
        artifacts=artifacts,
        metrics=await _metrics(api, trend, chosen=metric),
        runtime_metrics=[Choice(name, f"{name}{_unit(name)}") for name in _measured(trend, asked.runtime)],
        interval_of=interval_of,
        quality_chart=quality_chart(trend),
        runtime_chart=runtime_chart(trend, asked.runtime),
        runtime_unit=RUNTIME_METRICS[asked.runtime].unit,
    )


def interval_of(point: TrendPoint) -> tuple[float, float] | None:
    """The 95 % interval of a value by its standard error; ``None`` where that tells nothing.

    Samples that are all alike have a standard error of 0, which does not mean that the value is certain.
    """
    if point.value is None or not point.stderr:
        return None
    reach = _QUANTILE_95 * point.stderr
    return point.value - reach, point.value + reach


def quality_chart(trend: Trend) -> dict[str, Any] | None:
    """The metric with its intervals, a series for each artifact; ``None`` where nothing has a value."""
    intervals = [interval_of(point) for point in trend.points]
    series = [
        {
            "label": label,
            "values": _only(mine, [point.value for point in trend.points]),
            "lower": _only(mine, [None if ends is None else ends[0] for ends in intervals]),
            "upper": _only(mine, [None if ends is None else ends[1] for ends in intervals]),
        }
        for label, mine in _by_artifact(trend.points)
    ]
    return _chart(trend.points, series, label=trend.metric)


def runtime_chart(trend: Trend, metric: str) -> dict[str, Any] | None:
    """A runtime metric, a series for each artifact; ``None`` where it was never measured."""
    values = [point.runtime.get(metric) for point in trend.points]
    series = [{"label": label, "values": _only(mine, values)} for label, mine in _by_artifact(trend.points)]
    return _chart(trend.points, series, label=f"{metric}{_unit(metric)}")


def _chart(
    points: Sequence[TrendPoint], series: list[dict[str, Any]], *, label: str
) -> dict[str, Any] | None:
    shown = [one for one in series if any(value is not None for value in one["values"])]
    if not shown:
        return None
    return {
        "x": [_unix_seconds(point) for point in points],
        "series": shown,
        "xLabel": "finished",
        "yLabel": label,
        "xKind": "time",
        "interval": "whiskers",
        "points": True,
        # Between two points of an artifact there are points of others, which are no gap in it.
        "spanGaps": True,
    }


def _unix_seconds(point: TrendPoint) -> float:
    return 0.0 if point.finished_at is None else datetime.fromisoformat(point.finished_at).timestamp()


def _by_artifact(points: Sequence[TrendPoint]) -> list[tuple[str, list[bool]]]:
    """For each artifact, in the order of its first point, its label and which points are its own."""
    labels: dict[str, str] = {}
    for point in points:
        backend = point.artifact.get("backend")
        name = str(point.artifact.get("name", ""))
        labels.setdefault(str(point.artifact.get("id")), f"{name} on {backend}" if backend else name)
    return [
        (label, [str(point.artifact.get("id")) == artifact_id for point in points])
        for artifact_id, label in labels.items()
    ]


def _only(mine: Iterable[bool], values: Iterable[float | None]) -> list[float | None]:
    return [value if is_mine else None for is_mine, value in zip(mine, values, strict=True)]


def _unit(metric: str) -> str:
    unit = RUNTIME_METRICS[metric].unit
    return f" ({unit})" if unit else ""


def _measured(trend: Trend, chosen: str) -> list[str]:
    """Runtime metrics that some point has, and the chosen one; all where there are no points."""
    found = {name for point in trend.points for name, value in point.runtime.items() if value is not None}
    return [name for name in RUNTIME_METRICS if not trend.points or name in found or name == chosen]


async def _trend(api: Gateway, asked: Asked) -> Trend:
    """The points; where no metric was named and runs begin with different ones, that of the newest run."""
    if not asked.method_id:
        return Trend()
    try:
        page = await _points(api, asked)
        names = [point.metric for point in page.items if point.metric]
        if not asked.metric and len(set(names)) > 1:
            page = await _points(api, asked, metric=names[-1])
    except ApiError as error:
        if not error.is_refusal or error.status == 404:
            raise
        return Trend(metric=asked.metric, error=error)
    metric = asked.metric or (names[-1] if names else "")
    return Trend(points=page.items, metric=metric, next_cursor=page.next_cursor)


async def _points(api: Gateway, asked: Asked, *, metric: str | None = None) -> Any:
    return await api.page(
        "/v1/trends", TrendPoint, cursor=asked.cursor, limit=POINTS, query=asked.query(metric=metric)
    )


async def _metrics(api: Gateway, trend: Trend, *, chosen: str) -> list[Choice]:
    """The metrics that the newest of these runs has, beside those that are chosen or shown."""
    names = dict.fromkeys(name for name in (chosen, trend.metric) if name)
    if trend.points:
        try:
            newest = await api.get(f"/v1/metrics/runs/{trend.points[-1].run_id}", RunMetrics)
        except ApiError as error:
            if not error.is_refusal:
                raise
        else:
            known = dict.fromkeys(name for name in newest.quality if "_stderr" not in name)
            names = known | names
    return [Choice(name, name) for name in names]


async def _choices(api: Gateway, path: str, model: type[NamedDocument], *, chosen: str) -> list[Choice]:
    """The newest resources of a kind; the chosen one is among them however old it is."""
    page = await api.page(path, model, limit=_CHOICES)
    found = list(page.items)
    if chosen and all(one.id != chosen for one in found):
        try:
            found.append(await api.get(f"{path}/{chosen}", model))
        except ApiError as error:
            if not error.is_refusal:
                raise
            return [*(Choice(one.id, one.name) for one in found), Choice(chosen, f"{chosen} (deleted)")]
    return [Choice(one.id, one.name) for one in found]

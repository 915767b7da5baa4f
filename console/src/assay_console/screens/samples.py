"""Samples of an evaluation: pages of them, and one of them with everything that is known of it."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fastapi import APIRouter, Request, Response

from assay.models import Problem, Run, RunMetrics, Sample, ScoredSample, ScoredView
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import is_part, pages_of, path_of
from assay_console.sign_in import Api

router = APIRouter()

OUTCOMES: Mapping[str, str] = {"": "All", "right": "Right", "wrong": "Wrong", "failed": "Failed"}
_READ_AT_ONCE = 200
_MOST_READS = 5


@dataclass(frozen=True, slots=True)
class SampleWish:
    """Which samples are wanted, and where in the lists the reader is.

    Attributes:
        outcome: a key of OUTCOMES; right and wrong are by ``metric``.
        cursor: of the list of scored samples; ``raw`` of that of the requests, where it is in step with it.
        scoring: a scored view; empty: the run's own scores.
    """

    outcome: str = ""
    metric: str = ""
    task: str = ""
    cursor: str = ""
    raw: str = ""
    scoring: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "SampleWish":
        """From the query of an address."""
        values = {name: query.get(name, "") for name in cls.__slots__}
        if values["outcome"] not in OUTCOMES:
            values["outcome"] = ""
        return cls(**values)

    def query(self, **changes: str) -> dict[str, str]:
        """The query of an address that wants the same but for ``changes``."""
        return {**{name: getattr(self, name) for name in self.__slots__}, **changes}

    @property
    def is_narrowed(self) -> bool:
        """Whether some samples are left out."""
        return bool(self.outcome or self.task)


@dataclass(frozen=True, slots=True)
class SampleLine:
    """A sample with the value that decides whether it is right, and with which it is shown."""

    sample: ScoredSample
    value: float | None
    is_right: bool | None


@dataclass(frozen=True, slots=True)
class SamplePage:
    """A page of samples.

    Attributes:
        metric: the metric by which they are right or wrong; empty where there is none.
        next_cursor, next_raw: of the next page; ``looked_at`` is how many were read for this one.
        refusal: what the platform said of the filter.
    """

    lines: Sequence[SampleLine]
    metric: str
    next_cursor: str | None
    next_raw: str = ""
    looked_at: int = 0
    refusal: ApiError | None = None


async def sample_list(
    api: Gateway, run: Run, metrics: RunMetrics, *, wish: SampleWish, limit: int
) -> SamplePage:
    """A page of the run's scored samples, in the order in which they were finished."""
    metric = wish.metric if wish.metric in metrics.sample_metrics else next(iter(metrics.sample_metrics), "")
    if metrics.samples_scored + metrics.samples_failed == 0 and not metrics.sample_metrics:
        return SamplePage((), metric, None)
    path = _path(run.id, wish)
    if wish.outcome == "failed":
        return await _failed(api, path, metrics, wish=wish, metric=metric, limit=limit)
    query = {"task": wish.task, **_correctness(wish, metric)}
    # Only the whole list is in step with the list of the requests, which has their times.
    is_whole = not wish.is_narrowed and not (wish.cursor and not wish.raw)
    try:
        page, raw = await asyncio.gather(
            api.page(path, ScoredSample, cursor=wish.cursor, limit=limit, query=query),
            _raw_end(api, run.id, wish, limit=limit, wanted=is_whole),
        )
    except ApiError as error:
        if not error.is_refusal or error.status == 404:
            raise
        return SamplePage((), metric, None, refusal=error)
    lines = [_line(sample, metrics, metric) for sample in page.items]
    return SamplePage(lines, metric, page.next_cursor, next_raw=raw, looked_at=len(lines))


@router.get("/evaluations/{run_id}/samples/{index}", name="sample")
async def sample(request: Request, api: Api, run_id: str, index: int) -> Response:
    """One sample: what was asked, answered, extracted and scored; its times come as a part."""
    wish = SampleWish.of(request.query_params)
    run, metrics = await asyncio.gather(
        api.get(f"/v1/evaluations/{run_id}", Run), _metrics_of(api, run_id, wish)
    )
    limit = request.app.state.settings.page_size
    page = await sample_list(api, run, metrics, wish=wish, limit=limit)
    indices = [line.sample.index for line in page.lines]
    if index not in indices:
        detail = f"Sample {index} is not on this page of the samples; open it from the list"
        raise ApiError(404, Problem(title="Not found", status=404, detail=detail))
    at = indices.index(index)
    line = page.lines[at]
    return pages_of(request).page(
        request,
        "samples/page.html",
        run=run,
        metrics=metrics,
        line=line,
        extractions=_extractions(line.sample, metrics),
        wish=wish,
        metric=page.metric,
        before=indices[at - 1] if at else None,
        after=indices[at + 1] if at + 1 < len(indices) else None,
    )


@router.get("/evaluations/{run_id}/samples/{index}/requests", name="sample_requests")
async def sample_requests(request: Request, api: Api, run_id: str, index: int, raw: str = "") -> Response:
    """Part of a sample: its requests with their times, from a few pages of the log, ``raw`` on."""
    cursor: str | None = raw
    for _ in range(_MOST_READS):
        page = await api.page(f"/v1/evaluations/{run_id}/samples", Sample, cursor=cursor, limit=_READ_AT_ONCE)
        found = next((one for one in page.items if one.index == index), None)
        cursor = page.next_cursor
        if found is not None or cursor is None:
            break
    part = "samples/requests.html"
    return pages_of(request).page(
        request,
        part if is_part(request) else "evaluations/alone.html",
        part=part,
        title=f"Requests of sample {index}",
        back=path_of(request, "evaluation", run_id=run_id, tab="samples"),
        run_id=run_id,
        index=index,
        found=found,
        times=[_times(one) for one in found.requests] if found else (),
        further=cursor if found is None else None,
    )


@dataclass(frozen=True, slots=True)
class Extraction:
    """What one filter made of a response, and the metrics made of that."""

    filter_name: str
    text: str
    values: Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """When things happened, in seconds after the request was sent; ``None`` does not apply."""

    waited: float | None
    first_token: float | None
    done: float | None
    gaps: int
    mean_gap: float | None
    largest_gap: float | None


def _path(run_id: str, wish: SampleWish) -> str:
    return f"/v1/scorings/{wish.scoring}/samples" if wish.scoring else f"/v1/metrics/runs/{run_id}/samples"


def _correctness(wish: SampleWish, metric: str) -> Mapping[str, str]:
    if wish.outcome in ("right", "wrong"):
        return {"metric": metric, "correct": str(wish.outcome == "right").lower()}
    return {}


async def _failed(
    api: Gateway, path: str, metrics: RunMetrics, *, wish: SampleWish, metric: str, limit: int
) -> SamplePage:
    """Failed samples; the list cannot be asked for them, so some pages of it are read."""
    if not metrics.samples_failed:
        return SamplePage((), metric, None)
    lines: list[SampleLine] = []
    cursor, looked_at = wish.cursor or None, 0
    for _ in range(_MOST_READS):
        # So few that all of a page that fail fit.
        wanted = min(_READ_AT_ONCE, max(1, limit - len(lines)))
        page = await api.page(path, ScoredSample, cursor=cursor, limit=wanted, query={"task": wish.task})
        lines += [_line(one, metrics, metric) for one in page.items if one.status != "ok"]
        looked_at += len(page.items)
        cursor = page.next_cursor
        if cursor is None or len(lines) >= limit:
            break
    return SamplePage(lines, metric, cursor, looked_at=looked_at)


async def _raw_end(api: Gateway, run_id: str, wish: SampleWish, *, limit: int, wanted: bool) -> str:
    """Where the next page begins in the list of requests."""
    if not wanted:
        return ""
    page = await api.page(f"/v1/evaluations/{run_id}/samples", Sample, cursor=wish.raw, limit=limit)
    return page.next_cursor or ""


async def _metrics_of(api: Gateway, run_id: str, wish: SampleWish) -> RunMetrics:
    if wish.scoring:
        view = await api.get(f"/v1/scorings/{wish.scoring}", ScoredView)
        return RunMetrics.model_validate(view.document())
    return await api.get(f"/v1/metrics/runs/{run_id}", RunMetrics)


def _line(sample: ScoredSample, metrics: RunMetrics, metric: str) -> SampleLine:
    value = sample.values.get(metric)
    higher_is_better = metrics.higher_is_better.get(metric)
    is_right: bool | None = None
    if isinstance(value, (int, float)) and higher_is_better is not None:
        # As the API's own filter has it: 1 is right and 0 is wrong, and what lies between is neither.
        is_right = {1.0: higher_is_better, 0.0: not higher_is_better}.get(float(value))
    return SampleLine(sample, value, is_right)


def _extractions(sample: ScoredSample, metrics: RunMetrics) -> Sequence[Extraction]:
    names = dict.fromkeys([*sample.filtered, *(name.rpartition(",")[2] for name in sample.values)])
    return [
        Extraction(
            name,
            _shown(sample.filtered.get(name)),
            [(metric, value) for metric, value in sample.values.items() if metric.rpartition(",")[2] == name],
        )
        for name in names
    ]


def _shown(value: Any) -> str:
    """What a filter made of a response, one line for each of several."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(_shown(one) for one in value) if not _is_score(value) else _score(value)
    return "" if value is None else json.dumps(value)


def _is_score(value: Sequence[Any]) -> bool:
    """Whether it is what lm-eval has of a continuation: its log-probability, and whether it is greedy."""
    return len(value) == 2 and isinstance(value[0], float) and isinstance(value[1], bool)


def _score(value: Sequence[Any]) -> str:
    return f"log-probability {value[0]:.4f}{', greedy' if value[1] else ''}"


def _times(request: Mapping[str, Any]) -> RequestTimes:
    times = request.get("times") or {}
    sent, first, done = (times.get(name) or None for name in ("sent_ns", "first_token_ns", "done_ns"))
    offsets = times.get("token_offsets_us") or [] if times.get("exact_token_times") else []
    gaps = [(after - before) / 1e6 for before, after in pairwise(offsets)]
    return RequestTimes(
        waited=request.get("schedule_delay_s"),
        first_token=(first - sent) / 1e9 if first and sent else None,
        done=(done - sent) / 1e9 if done and sent else None,
        gaps=len(gaps),
        mean_gap=sum(gaps) / len(gaps) if gaps else None,
        largest_gap=max(gaps, default=None),
    )

"""Samples of an evaluation: pages of them, and one of them with everything that is known of it."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fastapi import APIRouter, Request, Response

from assay.models import Document, Problem, Run, RunMetrics, Sample, ScoredSample, ScoredView
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import is_part, pages_of, path_of
from assay_console.sign_in import Api

router = APIRouter()

OUTCOMES: Mapping[str, str] = {"": "All", "right": "Right", "wrong": "Wrong", "failed": "Failed"}
_MOST_READS = 2
_LONGEST_SEARCH = 200


@dataclass(frozen=True, slots=True)
class SampleWish:
    """Which samples are wanted, and where in the lists the reader is.

    Attributes:
        outcome: a key of OUTCOMES; right and wrong are by ``metric``.
        search: text in prompt, target or response.
        cursor: of the list of scored samples.
        scoring: a scored view; empty: the run's own scores.
    """

    outcome: str = ""
    metric: str = ""
    task: str = ""
    search: str = ""
    cursor: str = ""
    scoring: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "SampleWish":
        """From the query of an address."""
        values = {name: query.get(name, "") for name in cls.__slots__}
        if values["outcome"] not in OUTCOMES:
            values["outcome"] = ""
        values["search"] = values["search"].replace("\0", "").strip()[:_LONGEST_SEARCH]
        return cls(**values)

    def query(self, **changes: str) -> dict[str, str]:
        """The query of an address that wants the same but for ``changes``."""
        return {**{name: getattr(self, name) for name in self.__slots__}, **changes}

    @property
    def is_narrowed(self) -> bool:
        """Whether some samples are left out."""
        return bool(self.outcome or self.task or self.search)


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
        next_cursor: of the next page; ``looked_at`` is how many samples were looked at for this one.
        refusal: what the platform said of the filter.
    """

    lines: Sequence[SampleLine]
    metric: str
    next_cursor: str | None
    looked_at: int = 0
    refusal: ApiError | None = None


async def sample_list(
    api: Gateway, run: Run, metrics: RunMetrics, *, wish: SampleWish, limit: int
) -> SamplePage:
    """A page of the run's scored samples, in the order in which they were finished."""
    metric = _metric(metrics, wish)
    if metrics.samples_scored + metrics.samples_failed == 0 and not metrics.sample_metrics:
        return SamplePage((), metric, None)
    if wish.outcome == "failed" and not metrics.samples_failed:
        return SamplePage((), metric, None)
    try:
        return await _read(api, run.id, metrics, wish=wish, metric=metric, limit=limit)
    except ApiError as error:
        if not error.is_refusal or error.status == 404:
            raise
        return SamplePage((), metric, None, refusal=error)


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
    at = indices.index(index) if index in indices else None
    line = page.lines[at] if at is not None else await _one(api, run_id, metrics, wish=wish, index=index)
    return pages_of(request).page(
        request,
        "samples/page.html",
        run=run,
        metrics=metrics,
        line=line,
        extractions=_extractions(line.sample, metrics),
        wish=wish,
        metric=page.metric,
        is_listed=at is not None,
        before=indices[at - 1] if at else None,
        after=indices[at + 1] if at is not None and at + 1 < len(indices) else None,
    )


@router.get("/evaluations/{run_id}/samples/{index}/requests", name="sample_requests")
async def sample_requests(request: Request, api: Api, run_id: str, index: int, block: int) -> Response:
    """Part of a sample: its requests with their times, from ``block`` of the run's log."""
    log = await api.get(f"/v1/evaluations/{run_id}/blocks/{block}", _Block)
    found = next((one for one in log.samples if one.index == index), None)
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


class _Block(Document):
    """A block of a run's log."""

    samples: list[Sample]


async def _read(
    api: Gateway, run_id: str, metrics: RunMetrics, *, wish: SampleWish, metric: str, limit: int
) -> SamplePage:
    """A page of samples; where they are filtered, one answer has so few that some are asked for."""
    query = {"task": wish.task, "outcome": wish.outcome, "search": wish.search}
    if wish.outcome in ("right", "wrong"):
        query["metric"] = metric
    lines: list[SampleLine] = []
    cursor, looked_at = wish.cursor or None, 0
    for _ in range(_MOST_READS):
        page = await api.page(
            _path(run_id, wish), ScoredSample, cursor=cursor, limit=limit - len(lines), query=query
        )
        lines += [_line(one, metrics, metric) for one in page.items]
        looked_at += int((page.model_extra or {}).get("examined", len(page.items)))
        cursor = page.next_cursor
        if cursor is None or len(lines) >= limit:
            break
    return SamplePage(lines, metric, cursor, looked_at=looked_at)


async def _one(api: Gateway, run_id: str, metrics: RunMetrics, *, wish: SampleWish, index: int) -> SampleLine:
    """The sample of a row, wherever it is in the list. Raises ApiError."""
    page = await api.page(_path(run_id, wish), ScoredSample, limit=1, query={"index": index})
    if not page.items:
        detail = f"No sample {index} of this run has been scored"
        raise ApiError(404, Problem(title="Not found", status=404, detail=detail))
    return _line(page.items[0], metrics, _metric(metrics, wish))


def _metric(metrics: RunMetrics, wish: SampleWish) -> str:
    """The metric by which samples are right or wrong; empty where there is none."""
    return wish.metric if wish.metric in metrics.sample_metrics else next(iter(metrics.sample_metrics), "")


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

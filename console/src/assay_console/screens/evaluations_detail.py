"""One evaluation: its tabs, what is live of it, and what can be done with it."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from assay.models import Page, Run, RunMetrics, Sample, ScoredView
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import is_part, pages_of, path_of
from assay_console.screens.evaluations_facts import advice, phases
from assay_console.screens.evaluations_quality import quality_tables
from assay_console.screens.evaluations_rescore import WrongLine, scoring_of
from assay_console.screens.evaluations_runtime import distributions, latency_charts, runtime_lines
from assay_console.screens.samples import OUTCOMES, SampleWish, sample_list
from assay_console.sign_in import Api, EditorApi

router = APIRouter()

TABS: Mapping[str, str] = {
    "overview": "Overview",
    "quality": "Quality Metrics",
    "runtime": "Runtime Metrics",
    "samples": "Samples",
    "logs": "Logs",
    "plan": "Plan",
}
_MOST_VIEWS = 50
_DRAWN_SAMPLES = 200
_LONGEST_INDEX = 10


@dataclass(frozen=True, slots=True)
class Refused:
    """An action or a form that the platform, or we before it, did not take."""

    error: ApiError | None = None
    message: str = ""
    name: str = ""
    filters: str = ""

    @property
    def status(self) -> int:
        """The status of the page that shows it."""
        return self.error.status if self.error else 422


@router.get("/evaluations/{run_id}", name="evaluation")
async def evaluation(
    request: Request,
    api: Api,
    run_id: str,
    tab: str = "overview",
    scoring: str = "",
    instance: str = "",
    index: str = "",
) -> Response:
    """One tab of an evaluation; ``scoring`` chooses a scored view, ``instance`` a log, ``index`` a sample."""
    chosen = tab if tab in TABS else "overview"
    run = await api.get(f"/v1/evaluations/{run_id}", Run)
    if chosen == "overview":
        return await _overview(request, api, run)
    values: Mapping[str, Any] = {}
    if chosen == "quality":
        values = await _quality(api, run, scoring=scoring)
    elif chosen == "runtime":
        values = _runtime(await _metrics(api, run.id))
    elif chosen == "samples":
        wish = SampleWish.of(request.query_params)
        if index.isascii() and index.isdigit() and len(index) < _LONGEST_INDEX:
            address = path_of(request, "sample", run_id=run.id, index=int(index), **wish.query(cursor=""))
            return RedirectResponse(address, 303)
        metrics = await _metrics(api, run.id, scoring=scoring)
        limit = request.app.state.settings.page_size
        views, page = await asyncio.gather(
            _views(api, run.id), sample_list(api, run, metrics, wish=wish, limit=limit)
        )
        values = {"metrics": metrics, "views": views, "page": page, "wish": wish, "outcomes": OUTCOMES}
    elif chosen == "logs":
        values = await _log(api, run, instance=instance)
    else:
        values = {"plan_json": json.dumps(run.plan.document(), indent=2, ensure_ascii=False)}
    return _page(request, run, chosen, **values)


@router.get("/evaluations/{run_id}/live", name="evaluation_live")
async def live(request: Request, api: Api, run_id: str) -> Response:
    """Part of the overview while the run goes on; when it is over the whole page is asked for again."""
    run, metrics = await asyncio.gather(api.get(f"/v1/evaluations/{run_id}", Run), _metrics(api, run_id))
    page = pages_of(request).page(request, "evaluations/live.html", run=run, **_live(run, metrics))
    if run.is_over:
        page.headers["HX-Refresh"] = "true"
    return page


@router.get("/evaluations/{run_id}/distribution", name="evaluation_distribution")
async def distribution(request: Request, api: Api, run_id: str) -> Response:
    """Part of the runtime metrics: how single latencies are spread, over the first samples."""
    page = await api.page(f"/v1/evaluations/{run_id}/samples", Sample, limit=_DRAWN_SAMPLES)
    part = "evaluations/distribution.html"
    return pages_of(request).page(
        request,
        part if is_part(request) else "evaluations/alone.html",
        part=part,
        title="Latency distribution",
        back=path_of(request, "evaluation", run_id=run_id, tab="runtime"),
        found=distributions(page.items),
        samples=len(page.items),
        more=page.next_cursor is not None,
    )


@router.post("/evaluations/{run_id}/cancel", name="evaluation_cancel")
async def cancel(request: Request, api: EditorApi, run_id: str) -> Response:
    """End the run; what it has answered stays."""
    return await _change(request, api, run_id, "cancel")


@router.post("/evaluations/{run_id}/resume", name="evaluation_resume")
async def resume(request: Request, api: EditorApi, run_id: str) -> Response:
    """Queue a failed or cancelled run again."""
    return await _change(request, api, run_id, "resume")


@router.post("/evaluations/{run_id}/scorings", name="evaluation_rescore")
async def rescore(
    request: Request,
    api: EditorApi,
    run_id: str,
    name: Annotated[str, Form()] = "",
    filters: Annotated[str, Form()] = "",
    question_answer: Annotated[str, Form()] = "",
    expected_output_field: Annotated[str, Form()] = "",
) -> Response:
    """Score the finished run another way and show the view, or say what is wrong with it."""
    try:
        scoring = scoring_of(
            filters,
            is_question_answer=bool(question_answer),
            expected_output_field=expected_output_field.strip(),
        )
        body = {"run_id": run_id, "scoring": scoring, **({"name": name.strip()} if name.strip() else {})}
        view = await api.post("/v1/scorings", ScoredView, body=body)
    except WrongLine as error:
        refused = Refused(message=str(error), name=name, filters=filters)
    except ApiError as error:
        if not error.is_refusal:
            raise
        refused = Refused(error=error, name=name, filters=filters)
    else:
        shown = path_of(request, "evaluation", run_id=run_id, tab="quality", scoring=view.id)
        return RedirectResponse(shown, 303)
    run = await api.get(f"/v1/evaluations/{run_id}", Run)
    return await _overview(request, api, run, refused_scoring=refused)


async def _change(request: Request, api: Gateway, run_id: str, action: str) -> Response:
    try:
        await api.post(f"/v1/evaluations/{run_id}/{action}", Run)
    except ApiError as error:
        if not error.is_refusal or error.status == 404:
            raise
        run = await api.get(f"/v1/evaluations/{run_id}", Run)
        return await _overview(request, api, run, refused_action=Refused(error=error))
    return RedirectResponse(path_of(request, "evaluation", run_id=run_id), 303)


async def _overview(
    request: Request,
    api: Gateway,
    run: Run,
    *,
    refused_action: Refused | None = None,
    refused_scoring: Refused | None = None,
) -> Response:
    metrics, views = await asyncio.gather(_metrics(api, run.id), _views(api, run.id))
    refused = refused_action or refused_scoring
    return _page(
        request,
        run,
        "overview",
        status=refused.status if refused else 200,
        views=views,
        phases=phases(run),
        refused_action=refused_action,
        refused_scoring=refused_scoring,
        **_live(run, metrics),
    )


def _page(request: Request, run: Run, tab: str, *, status: int = 200, **values: Any) -> Response:
    tabs = [
        (title, path_of(request, "evaluation", run_id=run.id, tab=in_query), name == tab)
        for name, title in TABS.items()
        for in_query in ("" if name == "overview" else name,)
    ]
    return pages_of(request).page(
        request, f"evaluations/{tab}.html", status=status, run=run, tabs=tabs, tab_title=TABS[tab], **values
    )


def _live(run: Run, metrics: RunMetrics) -> Mapping[str, Any]:
    tables = quality_tables(metrics)
    return {
        "metrics": metrics,
        "tables": tables,
        "first": next((line for table in tables for line in table.lines if line.value is not None), None),
        "advice": advice(run.error.code) if run.error else None,
    }


async def _quality(api: Gateway, run: Run, *, scoring: str) -> Mapping[str, Any]:
    metrics, views = await asyncio.gather(_metrics(api, run.id, scoring=scoring), _views(api, run.id))
    return {"metrics": metrics, "tables": quality_tables(metrics), "views": views, "scoring": scoring}


def _runtime(metrics: RunMetrics) -> Mapping[str, Any]:
    first, rest = runtime_lines(metrics)
    return {
        "metrics": metrics,
        "details": metrics.runtime_details or {},
        "first": first,
        "rest": rest,
        "charts": latency_charts(metrics),
    }


async def _metrics(api: Gateway, run_id: str, *, scoring: str = "") -> RunMetrics:
    """The run's metrics; before any sample has been scored there are none, and none is an answer."""
    if scoring:
        view = await api.get(f"/v1/scorings/{scoring}", ScoredView)
        return RunMetrics.model_validate(view.document())
    try:
        return await api.get(f"/v1/metrics/runs/{run_id}", RunMetrics)
    except ApiError as error:
        if error.status != 404:
            raise
        return RunMetrics(run_id=run_id, state="scoring")


async def _views(api: Gateway, run_id: str) -> Sequence[ScoredView]:
    found: Page[ScoredView] = await api.page(
        "/v1/scorings", ScoredView, limit=_MOST_VIEWS, query={"run_id": run_id}
    )
    return found.items


async def _log(api: Gateway, run: Run, *, instance: str) -> Mapping[str, Any]:
    """The log of the chosen serving instance, else of the last one that has ended."""
    kept = [str(record.get("instance_id")) for record in run.serving if record.get("log")]
    chosen = instance if instance in kept else (kept[-1] if kept else "")
    text = ""
    if any(one.get("instance_id") == chosen and (one.get("log") or {}).get("bytes") for one in run.serving):
        text = await api.text(f"/v1/evaluations/{run.id}/logs", query={"instance_id": chosen})
    return {"kept": kept, "chosen": chosen, "text": text}

"""Comparisons: the list, choosing what is compared with what, and what was found."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from assay.models import CandidateReport, Comparison, Decision, Fault, Policy, Problem, Run
from assay.rendering.comparison import subject_name
from assay.rendering.flips import CLASSES
from assay.rendering.workload import GRADES
from assay_console.downloads import download
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import pages_of, path_of
from assay_console.screens.comparisons_choice import MAX_RUNS, Choice, choice_of, chosen_ids
from assay_console.screens.comparisons_evidence import (
    OUTCOME_COLOURS,
    OUTCOME_MEANINGS,
    candidate_view,
    chosen_report,
)
from assay_console.screens.comparisons_items import items
from assay_console.sign_in import Api, EditorApi

router = APIRouter()
router.add_api_route("/comparisons/{comparison_id}/items", items, name="comparison_items")

FILES = ("report.html", "report.md", "items.csv", "items.parquet")
_SUGGESTED_RUNS = 20
_POLICIES = 200
_DEFAULTS = {
    "noise_floor_run_id": "",
    "margin": "0.02",
    "alpha": "0.05",
    "coverage_floor": "0.99",
    "cluster_column": "",
}


@dataclass(frozen=True, slots=True)
class ListedCandidate:
    """One candidate of a comparison in the list."""

    comparison: Comparison
    base: str
    candidate: str
    view: Any


@router.get("/comparisons", name="comparisons")
async def comparisons(request: Request, api: Api, cursor: str = "") -> Response:
    """The list, newest first."""
    page = await api.page(
        "/v1/comparisons", Comparison, cursor=cursor, limit=request.app.state.settings.page_size
    )
    listed = [
        ListedCandidate(
            comparison,
            base=subject_name(comparison.baseline, other=report.candidate),
            candidate=subject_name(report.candidate, other=comparison.baseline),
            view=candidate_view(comparison, report),
        )
        for comparison in page.items
        for report in comparison.candidates
    ]
    return pages_of(request).page(
        request, "comparisons/list.html", listed=listed, next_cursor=page.next_cursor, cursor=cursor
    )


@router.get("/comparisons/new", name="comparison_new")
async def new(
    request: Request,
    api: EditorApi,
    run: Annotated[list[str] | None, Query()] = None,
    base: str = "",
) -> Response:
    """The chosen runs: which is the base, and which of the others can be compared with it."""
    return await _choice_page(request, api, chosen_ids(run or ()), base=base, values=_DEFAULTS)


@router.post("/comparisons", name="comparison_create")
async def create(
    request: Request,
    api: EditorApi,
    run: Annotated[list[str] | None, Form()] = None,
    base: Annotated[str, Form()] = "",
    candidate: Annotated[list[str] | None, Form()] = None,
    noise_floor_run_id: Annotated[str, Form()] = "",
    margin: Annotated[str, Form()] = "",
    alpha: Annotated[str, Form()] = "",
    coverage_floor: Annotated[str, Form()] = "",
    cluster_column: Annotated[str, Form()] = "",
) -> Response:
    """Compare and go to what was found, or show the choice again with what is wrong."""
    values = {
        "noise_floor_run_id": noise_floor_run_id,
        "margin": margin.strip(),
        "alpha": alpha.strip(),
        "coverage_floor": coverage_floor.strip(),
        "cluster_column": cluster_column.strip(),
    }
    candidates = [one for one in candidate or () if one not in (base, noise_floor_run_id)]
    body = {
        "baseline_run_id": base,
        "candidate_run_ids": candidates,
        **{name: value for name, value in values.items() if value},
    }
    try:
        _check_choice(base, candidates)
        made = await api.post("/v1/comparisons", Comparison, body=body)
    except ApiError as error:
        if not error.is_refusal:
            raise
        return await _choice_page(
            request,
            api,
            chosen_ids(run or ()),
            base=base,
            values=values,
            candidates=frozenset(candidates),
            error=error,
        )
    return RedirectResponse(path_of(request, "comparison", comparison_id=made.id), 303)


@router.get("/comparisons/{comparison_id}", name="comparison")
async def comparison(request: Request, api: Api, comparison_id: str, candidate: str = "") -> Response:
    """What was found of one candidate, the first where none is named."""
    found = await api.get(f"/v1/comparisons/{comparison_id}", Comparison)
    report = chosen_report(found, candidate) or _no_candidate(candidate)
    policies, decisions = await asyncio.gather(
        api.page("/v1/policies", Policy, limit=_POLICIES), _decisions(api, found, report)
    )
    return pages_of(request).page(
        request,
        "comparisons/result.html",
        comparison=found,
        report=report,
        base_name=subject_name(found.baseline, other=report.candidate),
        candidate_name=subject_name(report.candidate, other=found.baseline),
        view=candidate_view(found, report),
        others=[(one, candidate_view(found, one)) for one in found.candidates],
        policies=policies.items,
        decisions=decisions,
        files=FILES,
        classes=CLASSES,
        grades=GRADES,
        outcome_colours=OUTCOME_COLOURS,
        outcome_meanings=OUTCOME_MEANINGS,
    )


@router.get("/comparisons/{comparison_id}/files/{name}", name="comparison_file")
async def file(request: Request, api: Api, comparison_id: str, name: str, candidate: str = "") -> Response:
    """The report, or every pair of items, to be saved."""
    if name not in FILES:
        raise ApiError(404, Problem(title="There is no such file", detail=f"Files: {', '.join(FILES)}."))
    query = {"candidate": candidate} if name.startswith("items") else None
    return await download(
        api,
        f"/v1/comparisons/{comparison_id}/{name}",
        filename=f"comparison-{comparison_id}-{name}",
        query=query,
    )


def _check_choice(base: str, candidates: Sequence[str]) -> None:
    faults = []
    if not base:
        faults.append(Fault(field="base", message="choose the run that the others are compared with"))
    if not candidates:
        faults.append(Fault(field="candidate", message="choose at least one other run as a candidate"))
    if faults:
        raise ApiError(422, Problem(title="Nothing to compare yet", status=422, errors=faults))


async def _choice_page(
    request: Request,
    api: Gateway,
    run_ids: Sequence[str],
    *,
    base: str,
    values: dict[str, str],
    candidates: frozenset[str] | None = None,
    error: ApiError | None = None,
) -> Response:
    choice = choice_of(
        await asyncio.gather(*(_run(api, run_id) for run_id in run_ids[:MAX_RUNS])), wanted_base=base
    )
    return pages_of(request).page(
        request,
        "comparisons/new.html",
        status=error.status if error else 200,
        choice=choice,
        checked=choice.comparable_ids if candidates is None else candidates,
        suggested=await _suggested(api, choice, run_ids),
        left_out=max(0, len(run_ids) - MAX_RUNS),
        max_runs=MAX_RUNS,
        values=values,
        error=error,
    )


async def _run(api: Gateway, run_id: str) -> Run | str:
    """The run, or the identifier under which there is none."""
    if not re.fullmatch(r"[\w-]{1,100}", run_id, re.ASCII):
        return run_id  # no identifier, and it must not change the address that is asked
    try:
        return await api.get(f"/v1/evaluations/{run_id}", Run)
    except ApiError as error:
        if error.status != 404:
            raise
        return run_id


async def _suggested(api: Gateway, choice: Choice, run_ids: Sequence[str]) -> Sequence[Run]:
    """Finished runs that could be added: of the base's rows, where there is a base."""
    rows = choice.base.plan.dataset.get("snapshot_id") if choice.base else None
    page = await api.page(
        "/v1/evaluations", Run, limit=_SUGGESTED_RUNS, query={"state": "Succeeded", "uses_snapshot": rows}
    )
    return [run for run in page.items if run.id not in run_ids]


async def _decisions(api: Gateway, comparison: Comparison, report: CandidateReport) -> Sequence[Decision]:
    """The latest decisions on the same two runs, under whatever policy."""
    query = {"candidate_run_id": report.candidate.run_id}
    page = await api.page("/v1/decisions", Decision, limit=50, query=query)
    sides = (comparison.baseline.view_id, report.candidate.view_id)
    return [one for one in page.items if (one.baseline.view_id, one.candidate.view_id) == sides]


def _no_candidate(view_id: str) -> CandidateReport:
    raise ApiError(
        404, Problem(title="There is no such candidate", detail=f"{view_id} is not in this comparison.")
    )

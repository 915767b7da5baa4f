"""Files for people and for other tools: reports, tables, and lm-eval's own layout."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from assay_chassis.errors import Unavailable
from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import problems
from metrics_svc.api.parameters import Service
from metrics_svc.errors import (
    InvalidFilter,
    NotExportable,
    RunNotFinal,
    UnknownComparison,
    UnknownDecision,
    UnknownRun,
)
from metrics_svc.service.downloads import Download
from metrics_svc.service.exports import ReportFormat, TableFormat

router = APIRouter(route_class=GuardedRoute)

Candidate = Annotated[
    str | None, Query(description="a candidate's run or scored view; the first one if none is named")
]
_SHOWN = {"text/html; charset=utf-8", "text/markdown; charset=utf-8"}


def _answer(download: Download) -> StreamingResponse:
    """The file; a browser shows reports, without letting anything in them run, and saves everything else."""
    shown = download.media_type in _SHOWN
    headers = {
        # Names are made of identifiers, model and task names, without quotes and control characters.
        "Content-Disposition": f'{"inline" if shown else "attachment"}; filename="{_ascii(download.name)}"',
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-store" if shown else "private",
    }
    return StreamingResponse(download.chunks, media_type=download.media_type, headers=headers)


def _ascii(name: str) -> str:
    return "".join(one if " " <= one <= "~" and one not in '"\\' else "_" for one in name)


def _file(*media_types: str) -> dict[int | str, dict[str, object]]:
    """How a route's answer is documented."""
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"description": "the file", "content": {name: schema for name in media_types}}}


@router.get(
    "/v1/comparisons/{comparison_id}/report.html",
    openapi_extra=needs(Role.VIEWER),
    tags=["exports"],
    response_class=StreamingResponse,
    responses={**problems(UnknownComparison, Unavailable), **_file("text/html")},
)
async def get_comparison_page(comparison_id: str, service: Service) -> StreamingResponse:
    """The whole comparison as one HTML file with plots, which needs nothing else."""
    return _answer(await service.exports.comparison_report(comparison_id, form=ReportFormat.HTML))


@router.get(
    "/v1/comparisons/{comparison_id}/report.md",
    openapi_extra=needs(Role.VIEWER),
    tags=["exports"],
    response_class=StreamingResponse,
    responses={**problems(UnknownComparison, Unavailable), **_file("text/markdown")},
)
async def get_comparison_markdown(comparison_id: str, service: Service) -> StreamingResponse:
    """The comparison for the comment of a pull request: Markdown of less than 60 KB."""
    return _answer(await service.exports.comparison_report(comparison_id, form=ReportFormat.MARKDOWN))


@router.get(
    "/v1/comparisons/{comparison_id}/items.csv",
    openapi_extra=needs(Role.VIEWER),
    tags=["exports"],
    response_class=StreamingResponse,
    responses={**problems(UnknownComparison, InvalidFilter, Unavailable), **_file("text/csv")},
)
async def get_items_csv(
    comparison_id: str, service: Service, candidate: Candidate = None
) -> StreamingResponse:
    """Every pair with one candidate: values, flips, and both responses. Cells are no formulas."""
    return _answer(await service.exports.items(comparison_id, candidate=candidate, form=TableFormat.CSV))


@router.get(
    "/v1/comparisons/{comparison_id}/items.parquet",
    openapi_extra=needs(Role.VIEWER),
    tags=["exports"],
    response_class=StreamingResponse,
    responses={
        **problems(UnknownComparison, InvalidFilter, Unavailable),
        **_file(TableFormat.PARQUET.media_type),
    },
)
async def get_items_parquet(
    comparison_id: str, service: Service, candidate: Candidate = None
) -> StreamingResponse:
    """The same columns as the CSV, with types."""
    return _answer(await service.exports.items(comparison_id, candidate=candidate, form=TableFormat.PARQUET))


@router.get(
    "/v1/decisions/{decision_id}/report.html",
    openapi_extra=needs(Role.VIEWER),
    tags=["exports"],
    response_class=StreamingResponse,
    responses={**problems(UnknownDecision, Unavailable), **_file("text/html")},
)
async def get_decision_page(decision_id: str, service: Service) -> StreamingResponse:
    """The decision as one HTML file: verdict, reasons, policy, and the evidence."""
    return _answer(await service.exports.decision_report(decision_id, form=ReportFormat.HTML))


@router.get(
    "/v1/decisions/{decision_id}/report.md",
    openapi_extra=needs(Role.VIEWER),
    tags=["exports"],
    response_class=StreamingResponse,
    responses={**problems(UnknownDecision, Unavailable), **_file("text/markdown")},
)
async def get_decision_markdown(decision_id: str, service: Service) -> StreamingResponse:
    """The decision for the comment of a pull request: Markdown of less than 60 KB."""
    return _answer(await service.exports.decision_report(decision_id, form=ReportFormat.MARKDOWN))


@router.get(
    "/v1/metrics/runs/{run_id}/samples.csv",
    openapi_extra=needs(Role.VIEWER),
    tags=["exports"],
    response_class=StreamingResponse,
    responses={**problems(UnknownRun, RunNotFinal, Unavailable), **_file("text/csv")},
)
async def get_samples_csv(run_id: str, service: Service) -> StreamingResponse:
    """Every sample of a final run or scored view, in the order of the documents. Cells are no formulas."""
    return _answer(await service.exports.samples(run_id, form=TableFormat.CSV))


@router.get(
    "/v1/metrics/runs/{run_id}/samples.parquet",
    openapi_extra=needs(Role.VIEWER),
    tags=["exports"],
    response_class=StreamingResponse,
    responses={**problems(UnknownRun, RunNotFinal, Unavailable), **_file(TableFormat.PARQUET.media_type)},
)
async def get_samples_parquet(run_id: str, service: Service) -> StreamingResponse:
    """The same columns as the CSV, with types."""
    return _answer(await service.exports.samples(run_id, form=TableFormat.PARQUET))


@router.get(
    "/v1/metrics/runs/{run_id}/lm-eval/results.json",
    openapi_extra=needs(Role.VIEWER),
    tags=["exports"],
    response_class=StreamingResponse,
    responses={**problems(UnknownRun, RunNotFinal, NotExportable, Unavailable), **_file("application/json")},
)
async def get_lm_eval_results(run_id: str, service: Service) -> StreamingResponse:
    """The results file that lm-eval would have written; ``assay`` says where the numbers come from."""
    return _answer(await service.lm_eval_log.results(run_id))


@router.get(
    "/v1/metrics/runs/{run_id}/lm-eval/samples.jsonl",
    openapi_extra=needs(Role.VIEWER),
    tags=["exports"],
    response_class=StreamingResponse,
    responses={
        **problems(UnknownRun, RunNotFinal, NotExportable, InvalidFilter, Unavailable),
        **_file("application/jsonl"),
    },
)
async def get_lm_eval_samples(
    run_id: str,
    service: Service,
    task: Annotated[str | None, Query(description="which task of a group")] = None,
) -> StreamingResponse:
    """The samples file that lm-eval would have written of a task."""
    return _answer(await service.lm_eval_log.samples(run_id, task=task))


@router.get(
    "/v1/metrics/runs/{run_id}/lm-eval.zip",
    openapi_extra=needs(Role.VIEWER),
    tags=["exports"],
    response_class=StreamingResponse,
    responses={**problems(UnknownRun, RunNotFinal, NotExportable, Unavailable), **_file("application/zip")},
)
async def get_lm_eval_archive(run_id: str, service: Service) -> StreamingResponse:
    """All files that lm-eval would have written, under its names, in a folder named after the model."""
    return _answer(await service.lm_eval_log.archive(run_id))

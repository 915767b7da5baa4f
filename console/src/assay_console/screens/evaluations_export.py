"""Files of an evaluation, handed on from the gateway as they come."""

from fastapi import APIRouter, Response

from assay.models import Problem
from assay_console.downloads import download
from assay_console.gateway import ApiError
from assay_console.sign_in import Api

router = APIRouter()

EXPORTS = {
    "samples.csv": "/v1/metrics/runs/{run_id}/samples.csv",
    "samples.parquet": "/v1/metrics/runs/{run_id}/samples.parquet",
    "lm-eval-results.json": "/v1/metrics/runs/{run_id}/lm-eval/results.json",
    "lm-eval-samples.jsonl": "/v1/metrics/runs/{run_id}/lm-eval/samples.jsonl",
    "lm-eval.zip": "/v1/metrics/runs/{run_id}/lm-eval.zip",
    "engine.log": "/v1/evaluations/{run_id}/logs",
}
"""Paths of the API by the end of the file's name."""


@router.get("/evaluations/{run_id}/export/{name}", name="evaluation_export")
async def export(api: Api, run_id: str, name: str, task: str = "") -> Response:
    """One file; ``task`` chooses a member of a group where the file is of one task."""
    if name not in EXPORTS:
        known = ", ".join(EXPORTS)
        detail = f"There is no file {name!r} of an evaluation; there are: {known}"
        raise ApiError(404, Problem(title="Not found", status=404, detail=detail))
    path = EXPORTS[name].format(run_id=run_id)
    return await download(api, path, filename=f"{run_id}-{name}", query={"task": task})

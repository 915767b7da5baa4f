"""Evaluation Methods of a dataset: which ones can read its rows, and why others cannot."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from assay.models import Dataset, Method, Snapshot, Task
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import pages_of
from assay_console.sign_in import Api

BUILTIN = "builtin-lm-eval"

router = APIRouter()


class Fit(StrEnum):
    """Whether a method can read the rows of a dataset."""

    FITS = "Fits"
    MAPPING = "Needs a mapping"
    NO = "Does not fit"


@dataclass(frozen=True, slots=True)
class JudgedMethod:
    """A method, whether it can read the rows, and the reason."""

    method: Method
    fit: Fit
    reason: str


@router.get("/datasets/{dataset_id}/methods", name="dataset_methods")
async def dataset_methods(request: Request, api: Api, dataset_id: str, cursor: str = "") -> Response:
    """A page of the methods. The API keeps no link from methods to datasets: what fits is told by columns."""
    found, page = await asyncio.gather(
        api.get(f"/v1/datasets/{dataset_id}", Dataset),
        api.page("/v1/methods", Method, cursor=cursor, limit=request.app.state.settings.page_size),
    )
    tasks = await _tasks_of(api, page.items)
    judged = [_judged(method, found.current_snapshot, tasks) for method in page.items]
    return pages_of(request).page(
        request,
        "datasets/methods.html",
        dataset=found,
        fitting=[one for one in judged if one.fit is not Fit.NO],
        others=[one for one in judged if one.fit is Fit.NO],
        next_cursor=page.next_cursor,
        cursor=cursor,
    )


async def _tasks_of(api: Gateway, methods: Sequence[Method]) -> Mapping[str, Task]:
    """The tasks that the methods run, by name; those that the platform does not know are left out."""
    names = {str(method.recipe["task"]) for method in methods if method.recipe.get("template") == BUILTIN}
    found = await asyncio.gather(*(_task(api, name) for name in names))
    return {task.name: task for task in found if task is not None}


async def _task(api: Gateway, name: str) -> Task | None:
    try:
        return await api.get(f"/v1/tasks/{quote(name, safe='')}", Task)
    except ApiError as error:
        if error.status != 404:
            raise
        return None


def _judged(method: Method, snapshot: Snapshot | None, tasks: Mapping[str, Task]) -> JudgedMethod:
    if snapshot is None:
        return JudgedMethod(method, Fit.NO, "The dataset has no rows yet.")
    if method.recipe.get("template") == BUILTIN:
        task = tasks.get(str(method.recipe["task"]))
        return JudgedMethod(method, *_fit_of_task(task, snapshot))
    wanted = [method.recipe.get("input_field"), method.recipe.get("expected_output_field")]
    missing = _missing([str(name) for name in wanted if name is not None], snapshot)
    if missing:
        return JudgedMethod(method, Fit.NO, f"The rows have no column {_listed(missing)}.")
    return JudgedMethod(method, Fit.FITS, "The rows have its input and expected output fields.")


def _fit_of_task(task: Task | None, snapshot: Snapshot) -> tuple[Fit, str]:
    if task is None:
        return Fit.NO, "The platform does not know its task (any more)."
    if task.refusal:
        return Fit.NO, task.refusal
    path = (task.model_extra or {}).get("dataset_path")
    if path and path == snapshot.source.get("repo_id"):
        return Fit.FITS, "The rows come from the repository that the task is defined on."
    if task.members:
        return Fit.MAPPING, "A group of tasks, each with rows of its own."
    if task.columns is None:
        return Fit.MAPPING, "Only the task's code knows which columns it reads."
    missing = _missing(task.columns, snapshot)
    if missing:
        return Fit.MAPPING, f"The task reads {_listed(missing)}: choose the columns that hold it."
    return Fit.FITS, "The rows have the columns that the task reads."


def _missing(wanted: Sequence[str], snapshot: Snapshot) -> list[str]:
    present = {column.name for column in snapshot.columns}
    return [name for name in wanted if name not in present]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"“{name}”" for name in names)

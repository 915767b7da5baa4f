"""``/tasks``: lm-eval's index."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import PageModel, problems
from assay_harness.index import EntryKind, TaskStatus
from method_svc.api.parameters import Limit, Opened, Shown
from method_svc.errors import IndexNotReady, TaskNotFound

router = APIRouter(route_class=GuardedRoute, tags=["tasks"])


class TaskModel(Shown):
    """A name of lm-eval's index: a task, or a group or tag of tasks."""

    name: str
    kind: EntryKind
    status: TaskStatus = Field(
        description="`ok` runs, `needs-log-probabilities` on a backend that gives them; others are refused"
    )
    reason: str = Field(description="what the status means for this name; empty for `ok`")
    output_type: str
    version: str
    splits: dict[str, str] = Field(description="role to the name that the task's author uses")
    dataset_path: str
    dataset_name: str
    num_fewshot: int | None = Field(description="examples that the task asks for by itself")
    columns: list[str] | None = Field(description="columns that it reads; null where only its code knows")
    tags: list[str]
    groups: list[str]
    members: list[str] = Field(description="what a group or tag holds: tasks and further groups")
    missing_packages: list[str]
    needs_log_probabilities: bool
    refusal: str | None = Field(description="why this platform does not run it")


class TaskPage(PageModel, Shown):
    """Tasks, closest match first; where nothing matches, names that may have been meant."""

    items: list[TaskModel]
    suggestions: list[str] = Field(description="nearest names; empty where something matches")


@router.get(
    "/tasks", openapi_extra=needs(Role.VIEWER), summary="Search tasks", responses=problems(IndexNotReady)
)
async def list_tasks(
    services: Opened,
    query: Annotated[str, Query(max_length=200, description="words of a name, tag or group")] = "",
    limit: Limit = 50,
    status: Annotated[
        list[TaskStatus] | None, Query(description="only those with this status; may be repeated")
    ] = None,
) -> TaskPage:
    """Tasks of lm-eval's index whose name, tags or groups hold every word of `query`; closest first."""
    return TaskPage.model_validate(
        await services.tasks.search(query=query, limit=limit, statuses=status or ())
    )


@router.get(
    "/tasks/{name:path}",
    openapi_extra=needs(Role.VIEWER),
    summary="Get a task",
    responses=problems(TaskNotFound, IndexNotReady),
)
async def get_task(name: Annotated[str, Path(max_length=200)], services: Opened) -> TaskModel:
    """One task; where there is none, the refusal names the nearest."""
    return TaskModel.model_validate(await services.tasks.get(name))

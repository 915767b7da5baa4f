"""HTTP routes of method-svc."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, WrapValidator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from assay_chassis.web import PageModel, client_of, problems
from assay_harness.index import EntryKind
from assay_harness.results import Document as HarnessDocument
from assay_harness.results import RequestKind
from assay_harness.spec import Recipe
from method_svc.domain import NAME_PATTERN, templates
from method_svc.errors import (
    IndexNotReady,
    InvalidMethod,
    MethodNotFound,
    MethodTooLarge,
    NameTaken,
    TaskNotFound,
    TooManyVersions,
    VersionNotFound,
)
from method_svc.service import MethodService

router = APIRouter(prefix="/v1")

Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before", max_length=200)]
Limit = Annotated[int, Query(ge=1, le=200)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,100}$")]


def _plain_recipe(value: object, parse: Callable[[object], Any]) -> Any:
    """Report the faults of a recipe by the field that the caller wrote: ``recipe.stop.0``.

    The union of the recipes would put the template's name in between.
    """
    try:
        return parse(value)
    except ValidationError as error:
        details: list[InitErrorDetails] = []
        for item in error.errors():
            place = item["loc"][1:] or ("template",)
            cause = item.get("ctx", {}).get("error")
            message = (
                f"{cause}; the fields are {{{{input}}}} and the dataset's columns" if cause else item["msg"]
            )
            kind = PydanticCustomError("recipe", "{message}", {"message": message})
            details.append(InitErrorDetails(type=kind, loc=place, input=item["input"]))
        raise ValidationError.from_exception_data("recipe", details) from None


CheckedRecipe = Annotated[Recipe, WrapValidator(_plain_recipe)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Model(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class NewMethod(_Body):
    """A method to define."""

    name: str = Field(pattern=NAME_PATTERN, examples=["capitals-qa"])
    description: str = Field(default="", max_length=2000)
    recipe: CheckedRecipe
    dataset_id: Identifier | None = Field(
        default=None, description="check that the recipe fits this dataset's current snapshot"
    )


class NewVersion(_Body):
    """A new version of a method."""

    recipe: CheckedRecipe
    description: str | None = Field(
        default=None, max_length=2000, description="that of the newest version if left out"
    )
    dataset_id: Identifier | None = Field(
        default=None, description="check that the recipe fits this dataset's current snapshot"
    )


class PreviewRequest(_Body):
    """What to render."""

    recipe: CheckedRecipe
    dataset_id: Identifier | None = Field(default=None, description="its current snapshot is used")
    snapshot_id: Identifier | None = Field(default=None, description="in place of dataset_id")
    column_mapping: dict[str, str] = Field(
        default_factory=dict, description="column that the recipe reads to the dataset's column that holds it"
    )
    num_fewshot: int | None = Field(default=None, description="the task's own number if left out")
    rows: int = Field(default=3, ge=1, le=50)

    @model_validator(mode="after")
    def _one_source(self) -> "PreviewRequest":
        if (self.dataset_id is None) == (self.snapshot_id is None):
            raise PydanticCustomError("source", "name either dataset_id or snapshot_id")
        return self


class ParameterModel(_Model):
    """A parameter of a template."""

    name: str
    required: bool
    default: JsonValue
    description: str


class TemplateModel(_Model):
    """A kind of recipe."""

    name: str
    title: str
    description: str
    parameters: list[ParameterModel]


class TemplatePage(PageModel):
    """The templates there are."""

    items: list[TemplateModel]


class TaskModel(_Model):
    """A task of lm-eval's index, or a group or tag, which cannot be run."""

    name: str
    kind: EntryKind
    output_type: str
    splits: dict[str, str] = Field(description="role to the split's name in the task's own data")
    version: str
    columns: list[str] | None = Field(description="what the task reads; null where only its code knows")
    needs_log_probabilities: bool
    num_fewshot: int | None
    tags: list[str]
    groups: list[str]
    refusal: str | None = Field(description="why the platform does not run it")


class TaskPage(PageModel):
    """Tasks, the closest names first."""

    items: list[TaskModel]


class OutputModel(_Model):
    """What a method asks of a backend."""

    output_type: str
    needs_log_probabilities: bool


class MethodModel(_Model):
    """An evaluation method in one of its immutable versions."""

    id: str
    name: str
    description: str
    version: int
    recipe: Recipe
    recipe_hash: str = Field(description="sha256 of the recipe's canonical JSON")
    output: OutputModel
    created_at: datetime
    created_by: str


class MethodPage(PageModel, _Model):
    """Methods in their newest version, newest method first."""

    items: list[MethodModel]


class RenderedRequest(BaseModel):
    """One call to a model."""

    index: int
    repeat: int
    kind: RequestKind
    prompt: str
    continuation: str
    generation_kwargs: dict[str, JsonValue]


class RenderedRow(BaseModel):
    """A row as the recipe would ask it; ``row`` is what the task sees of it."""

    index: int
    row: dict[str, JsonValue]
    prompt: str
    target: str
    requests: list[RenderedRequest]


class PreviewModel(PageModel):
    """The first rows."""

    items: list[RenderedRow]


def service_of(request: Request) -> MethodService:
    """The service object that the application's lifespan has opened."""
    service: MethodService = request.app.state.service
    return service


Service = Annotated[MethodService, Depends(service_of)]


@router.get("/templates", tags=["methods"], summary="List templates")
async def list_templates() -> TemplatePage:
    """The kinds of recipe there are, with their parameters."""
    return TemplatePage(items=[TemplateModel.model_validate(template) for template in templates()])


@router.get("/tasks", tags=["tasks"], summary="Search tasks", responses=problems(IndexNotReady))
async def list_tasks(
    service: Service,
    query: Annotated[str, Query(max_length=200, description="words of a name, tag or group")] = "",
    limit: Limit = 50,
) -> TaskPage:
    """Tasks of lm-eval's index whose name, tags or groups hold every word of `query`; closest first."""
    entries = await service.tasks(query=query, limit=limit)
    return TaskPage(items=[TaskModel.model_validate(entry) for entry in entries])


@router.get(
    "/tasks/{name:path}",
    tags=["tasks"],
    summary="Get a task",
    responses=problems(TaskNotFound, IndexNotReady),
)
async def get_task(name: Annotated[str, Path(max_length=200)], service: Service) -> TaskModel:
    """One task; where there is none, the refusal names the nearest."""
    return TaskModel.model_validate(await service.task(name))


@router.post(
    "/methods",
    status_code=201,
    tags=["methods"],
    summary="Define a method",
    responses=problems(NameTaken, InvalidMethod, MethodTooLarge, IndexNotReady),
)
async def create_method(body: NewMethod, request: Request, service: Service) -> MethodModel:
    """Define a method as version 1."""
    method = await service.create_method(
        name=body.name,
        description=body.description,
        recipe=body.recipe,
        dataset_id=body.dataset_id,
        created_by=client_of(request),
    )
    return MethodModel.model_validate(method)


@router.get("/methods", tags=["methods"], summary="List methods")
async def list_methods(
    service: Service, name: str | None = None, cursor: Cursor = None, limit: Limit = 50
) -> MethodPage:
    """Methods in their newest version, newest method first; with `name`, that of exactly that name."""
    return MethodPage.model_validate(await service.methods(name=name, cursor=cursor, limit=limit))


@router.post(
    "/methods/preview",
    tags=["methods"],
    summary="Render rows",
    responses=problems(InvalidMethod, IndexNotReady),
)
async def preview(body: PreviewRequest, service: Service) -> PreviewModel:
    """The first rows of a dataset as the recipe would ask them, rendered by lm-eval itself."""
    documents = await service.preview(
        recipe=body.recipe,
        dataset_id=body.dataset_id,
        snapshot_id=body.snapshot_id,
        column_mapping=body.column_mapping,
        num_fewshot=body.num_fewshot,
        rows=body.rows,
    )
    return PreviewModel(items=[_rendered(document) for document in documents])


@router.get(
    "/methods/{method_id}", tags=["methods"], summary="Get a method", responses=problems(MethodNotFound)
)
async def get_method(method_id: str, service: Service) -> MethodModel:
    """A method in its newest version."""
    return MethodModel.model_validate(await service.method(method_id))


@router.post(
    "/methods/{method_id}/versions",
    status_code=201,
    tags=["methods"],
    summary="Add a version",
    responses=problems(MethodNotFound, InvalidMethod, TooManyVersions, IndexNotReady),
)
async def create_version(method_id: str, body: NewVersion, request: Request, service: Service) -> MethodModel:
    """Add a version; old ones stay as they are. What the newest says already is no new version."""
    version = await service.create_version(
        method_id,
        recipe=body.recipe,
        description=body.description,
        dataset_id=body.dataset_id,
        created_by=client_of(request),
    )
    return MethodModel.model_validate(version)


@router.get(
    "/methods/{method_id}/versions/{version}",
    tags=["methods"],
    summary="Get a version",
    responses=problems(VersionNotFound),
)
async def get_version(method_id: str, version: int, service: Service) -> MethodModel:
    """A method in one of its versions."""
    return MethodModel.model_validate(await service.version(method_id, version))


def _rendered(document: HarnessDocument) -> RenderedRow:
    requests = [
        RenderedRequest(
            index=request.index,
            repeat=request.repeat,
            kind=request.kind,
            prompt=request.context,
            continuation=request.continuation,
            generation_kwargs=request.generation_kwargs,
        )
        for request in document.requests
    ]
    return RenderedRow(
        index=document.index,
        row=document.doc,
        prompt=requests[0].prompt if requests else "",
        target=document.target,
        requests=requests,
    )

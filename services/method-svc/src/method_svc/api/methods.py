"""``/templates`` and ``/methods``."""

from datetime import datetime

from fastapi import APIRouter, Request
from pydantic import Field, JsonValue

from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import PageModel, client_of, problems
from assay_harness.spec import Recipe
from method_svc.api.parameters import Body, CheckedRecipe, Cursor, Identifier, Limit, Opened, Search, Shown
from method_svc.domain.methods import MAX_DESCRIPTION_CHARACTERS, NAME_PATTERN
from method_svc.domain.templates import templates
from method_svc.errors import (
    IndexNotReady,
    InvalidMethod,
    MethodNotFound,
    MethodTooLarge,
    NameTaken,
    TooManyVersions,
    VersionNotFound,
)

router = APIRouter(route_class=GuardedRoute, tags=["methods"])


class NewMethod(Body):
    """A method to define."""

    name: str = Field(pattern=NAME_PATTERN, examples=["capitals-qa"])
    description: str = Field(default="", max_length=MAX_DESCRIPTION_CHARACTERS)
    recipe: CheckedRecipe
    dataset_id: Identifier | None = Field(
        default=None, description="check that the recipe fits this dataset's current snapshot"
    )


class NewVersion(Body):
    """A new version of a method."""

    recipe: CheckedRecipe
    description: str | None = Field(
        default=None,
        max_length=MAX_DESCRIPTION_CHARACTERS,
        description="that of the newest version if left out",
    )
    dataset_id: Identifier | None = Field(
        default=None, description="check that the recipe fits this dataset's current snapshot"
    )


class ParameterModel(Shown):
    """A parameter of a template."""

    name: str
    required: bool
    default: JsonValue
    description: str


class TemplateModel(Shown):
    """A kind of recipe."""

    name: str
    title: str
    description: str
    parameters: list[ParameterModel]


class TemplatePage(PageModel):
    """The templates there are."""

    items: list[TemplateModel]


class OutputModel(Shown):
    """What a method asks of a backend."""

    output_type: str
    needs_log_probabilities: bool


class MethodModel(Shown):
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


class MethodPage(PageModel, Shown):
    """Methods in their newest version, newest method first."""

    items: list[MethodModel]


@router.get("/templates", openapi_extra=needs(Role.VIEWER), summary="List templates")
async def list_templates() -> TemplatePage:
    """The kinds of recipe there are, with their parameters."""
    return TemplatePage(items=[TemplateModel.model_validate(template) for template in templates()])


@router.post(
    "/methods",
    openapi_extra=needs(Role.EDITOR),
    status_code=201,
    summary="Define a method",
    responses=problems(NameTaken, InvalidMethod, MethodTooLarge, IndexNotReady),
)
async def create_method(body: NewMethod, request: Request, services: Opened) -> MethodModel:
    """Define a method as version 1."""
    method = await services.methods.create_method(
        name=body.name,
        description=body.description,
        recipe=body.recipe,
        dataset_id=body.dataset_id,
        created_by=client_of(request),
    )
    return MethodModel.model_validate(method)


@router.get("/methods", openapi_extra=needs(Role.VIEWER), summary="List methods")
async def list_methods(
    services: Opened,
    name: str | None = None,
    search: Search = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> MethodPage:
    """Methods in their newest version, newest method first; with `name`, that of exactly that name."""
    page = await services.methods.methods(name=name, search=search, cursor=cursor, limit=limit)
    return MethodPage.model_validate(page)


@router.get(
    "/methods/{method_id}",
    openapi_extra=needs(Role.VIEWER),
    summary="Get a method",
    responses=problems(MethodNotFound),
)
async def get_method(method_id: str, services: Opened) -> MethodModel:
    """A method in its newest version."""
    return MethodModel.model_validate(await services.methods.method(method_id))


@router.post(
    "/methods/{method_id}/versions",
    openapi_extra=needs(Role.EDITOR),
    status_code=201,
    summary="Add a version",
    responses=problems(MethodNotFound, InvalidMethod, TooManyVersions, IndexNotReady),
)
async def create_version(method_id: str, body: NewVersion, request: Request, services: Opened) -> MethodModel:
    """Add a version; old ones stay as they are. What the newest says already is no new version."""
    version = await services.methods.create_version(
        method_id,
        recipe=body.recipe,
        description=body.description,
        dataset_id=body.dataset_id,
        created_by=client_of(request),
    )
    return MethodModel.model_validate(version)


@router.get(
    "/methods/{method_id}/versions/{version}",
    openapi_extra=needs(Role.VIEWER),
    summary="Get a version",
    responses=problems(VersionNotFound),
)
async def get_version(method_id: str, version: int, services: Opened) -> MethodModel:
    """A method in one of its versions."""
    return MethodModel.model_validate(await services.methods.version(method_id, version))

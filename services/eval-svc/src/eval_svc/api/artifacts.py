"""Routes of backends and artifacts."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.store import Document
from assay_chassis.web import PageModel, client_of, problems
from eval_svc.api.parameters import Cursor, Limit, Search, Service
from eval_svc.artifacts import ArtifactRegistry
from eval_svc.domain import ArtifactRegistration, ArtifactSpec, EndpointKeyBody
from eval_svc.errors import BackendNotConfigured, InvalidArtifact, NameTaken, UnknownArtifact

router = APIRouter(route_class=GuardedRoute, prefix="/v1")


class Artifact(ArtifactSpec):
    """A registered artifact."""

    model_config = ConfigDict(extra="ignore")

    id: str
    has_endpoint_key: bool = Field(
        default=False, description="whether the endpoint's key is set; the key itself is never shown"
    )
    created_at: str
    created_by: str


class ArtifactPage(PageModel):
    """A page of artifacts."""

    items: list[Artifact]


class Backend(BaseModel):
    """A serving adapter as it describes itself now."""

    model_config = ConfigDict(extra="allow")

    backend: str
    address: str
    healthy: bool
    unhealthy_reason: str


class BackendPage(PageModel):
    """All configured backends."""

    items: list[Backend]


def registry_of(request: Request) -> ArtifactRegistry:
    """The registry that ``wiring`` put on the application."""
    registry: ArtifactRegistry = request.app.state.artifacts
    return registry


Registry = Annotated[ArtifactRegistry, Depends(registry_of)]


def _artifact(document: Document) -> Artifact:
    return Artifact.model_validate({**document, "id": document["_id"]})


@router.get("/backends", openapi_extra=needs(Role.VIEWER), tags=["backends"])
async def list_backends(service: Service) -> BackendPage:
    """What every configured serving adapter can do, now."""
    return BackendPage(items=[Backend.model_validate(item) for item in await service.backends()])


@router.post(
    "/artifacts",
    openapi_extra=needs(Role.EDITOR),
    status_code=201,
    tags=["artifacts"],
    responses=problems(NameTaken, BackendNotConfigured, InvalidArtifact),
)
async def register_artifact(
    registration: ArtifactRegistration, request: Request, registry: Registry
) -> Artifact:
    """Register what is to be evaluated: a model in a form that one backend serves."""
    return _artifact(await registry.register(registration, client=client_of(request)))


@router.get("/artifacts", openapi_extra=needs(Role.VIEWER), tags=["artifacts"])
async def list_artifacts(
    registry: Registry,
    name: str | None = None,
    search: Search = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> ArtifactPage:
    """Artifacts, newest first; with `name`, the one of exactly that name."""
    page = await registry.page(name=name, search=search, cursor=cursor, limit=limit)
    return ArtifactPage(items=[_artifact(item) for item in page.items], next_cursor=page.next_cursor)


@router.get(
    "/artifacts/{artifact_id}",
    openapi_extra=needs(Role.VIEWER),
    tags=["artifacts"],
    responses=problems(UnknownArtifact),
)
async def get_artifact(artifact_id: str, registry: Registry) -> Artifact:
    """One artifact."""
    return _artifact(await registry.find(artifact_id))


@router.put(
    "/artifacts/{artifact_id}/endpoint-key",
    openapi_extra=needs(Role.EDITOR),
    status_code=204,
    tags=["artifacts"],
    responses=problems(UnknownArtifact, InvalidArtifact),
)
async def replace_endpoint_key(
    artifact_id: str, body: EndpointKeyBody, request: Request, registry: Registry
) -> None:
    """Give an endpoint another key. It cannot be read back."""
    key = body.endpoint_key.get_secret_value()
    await registry.replace_endpoint_key(artifact_id, key, client=client_of(request))

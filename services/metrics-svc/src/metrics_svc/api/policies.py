"""Policies and their versions."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import PageModel, client_of, problems
from assay_evidence.policy import Policy, PolicySpec
from metrics_svc.api.parameters import Cursor, Limit, Service
from metrics_svc.errors import UnknownPolicy

router = APIRouter(route_class=GuardedRoute, tags=["policies"])

Reference = Annotated[str, Path(description="name, which means the latest version, or identifier")]


class PolicyList(PageModel):
    """A page of policies."""

    items: list[Policy]


@router.post(
    "/v1/policies",
    openapi_extra=needs(Role.EDITOR),
    status_code=201,
    responses={200: {"model": Policy, "description": "the latest version says the same"}},
)
async def create_policy(body: PolicySpec, service: Service, request: Request, response: Response) -> Policy:
    """Keep a policy; where the name exists, as its next version. Versions never change."""
    created = await service.policies.create(body, client=client_of(request))
    response.status_code = 201 if created.is_new else 200
    return created.policy


@router.get("/v1/policies", openapi_extra=needs(Role.VIEWER))
async def list_policies(service: Service, *, cursor: Cursor = None, limit: Limit = 50) -> PolicyList:
    """The latest version of every policy, by name."""
    page = await service.policies.page(cursor=cursor, limit=limit)
    return PolicyList(items=page.items, next_cursor=page.next_cursor)


@router.get("/v1/policies/{reference}", openapi_extra=needs(Role.VIEWER), responses=problems(UnknownPolicy))
async def get_policy(reference: Reference, service: Service) -> Policy:
    """One policy: by name in its latest version, or the version that has this identifier."""
    return await service.policies.find(reference)


@router.get(
    "/v1/policies/{name}/versions", openapi_extra=needs(Role.VIEWER), responses=problems(UnknownPolicy)
)
async def list_policy_versions(
    name: str, service: Service, *, cursor: Cursor = None, limit: Limit = 50
) -> PolicyList:
    """All versions of a policy, newest first."""
    page = await service.policies.versions(name, cursor=cursor, limit=limit)
    return PolicyList(items=page.items, next_cursor=page.next_cursor)


@router.get(
    "/v1/policies/{name}/versions/{version}",
    openapi_extra=needs(Role.VIEWER),
    responses=problems(UnknownPolicy),
)
async def get_policy_version(
    name: str, version: Annotated[int, Path(ge=1, le=99_999_999)], service: Service
) -> Policy:
    """One version of a policy."""
    return await service.policies.version(name, version)

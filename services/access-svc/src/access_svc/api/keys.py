"""``/access``: who am I, and the keys."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from access_svc.domain.keys import NAME_PATTERN, Key, KeyState
from access_svc.errors import ExpiresInThePast, KeyNotFound, KeyOver, NameTaken, OwnKey
from access_svc.service import Services
from access_svc.service.keys import IssuedKey
from assay_chassis.guard import GuardedRoute, identity_of, needs
from assay_chassis.identity import Role
from assay_chassis.web import PageModel, problems

router = APIRouter(route_class=GuardedRoute, prefix="/v1/access", tags=["access"])

MAX_GRACE_S = 86_400


def _services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Opened = Annotated[Services, Depends(_services_of)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewKey(_Body):
    """A key to create."""

    name: str = Field(
        pattern=NAME_PATTERN, examples=["ci"], description="who holds it; shown wherever it did something"
    )
    role: Role
    expires_at: AwareDatetime | None = Field(
        default=None, description="when it ends by itself; until it is revoked if left out"
    )


class Rotation(_Body):
    """How to rotate."""

    grace_seconds: int = Field(
        default=0, ge=0, le=MAX_GRACE_S, description="for so long the present secret is accepted, too"
    )


class KeyModel(BaseModel):
    """An API key, without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    role: Role
    state: KeyState
    prefix: str = Field(description="how the key begins")
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    rotated_at: datetime | None
    last_used_at: datetime | None = Field(description="to the minute")


class IssuedKeyModel(KeyModel):
    """An API key with its secret."""

    secret: str = Field(description="the whole key, to be sent with requests; it is never shown again")


class KeyPageModel(PageModel):
    """API keys, newest first, those that ended among them."""

    items: list[KeyModel]


class Me(BaseModel):
    """Who the caller is."""

    client: str
    role: Role
    key_id: str | None = Field(description="null for the key of the platform's settings")
    key_prefix: str | None = Field(description="how the key begins; null as above")
    expires_at: datetime | None


@router.get("/me", openapi_extra=needs(Role.VIEWER), summary="Who am I")
async def get_me(request: Request, services: Opened) -> Me:
    """The caller's name and role, and how long its key is valid."""
    identity = identity_of(request)
    key = await services.keys.held_by(identity)
    return Me(
        client=identity.client,
        role=identity.role,
        key_id=identity.key_id,
        key_prefix=key and key.prefix,
        expires_at=key and key.expires_at,
    )


@router.post(
    "/keys",
    openapi_extra=needs(Role.ADMIN),
    status_code=201,
    summary="Create a key",
    responses=problems(NameTaken, ExpiresInThePast),
)
async def create_key(body: NewKey, request: Request, services: Opened) -> IssuedKeyModel:
    """Create a key. Its secret is in this answer only; if that is lost, rotate the key."""
    by = identity_of(request)
    issued = await services.keys.create(name=body.name, role=body.role, expires_at=body.expires_at, by=by)
    return _issued(issued)


@router.get("/keys", openapi_extra=needs(Role.ADMIN), summary="List keys")
async def list_keys(
    services: Opened,
    cursor: Annotated[
        str | None, Query(description="`next_cursor` of the page before", max_length=200)
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> KeyPageModel:
    """All keys that there are or were, newest first."""
    page = await services.keys.page(cursor=cursor, limit=limit)
    return KeyPageModel(items=[_shown(key) for key in page.items], next_cursor=page.next_cursor)


@router.post(
    "/keys/{key_id}/rotate",
    openapi_extra=needs(Role.ADMIN),
    summary="Rotate a key",
    responses=problems(KeyNotFound, KeyOver),
)
async def rotate_key(
    key_id: str, request: Request, services: Opened, body: Rotation | None = None
) -> IssuedKeyModel:
    """Give a key a new secret, which is in this answer only; its name, role and prefix stay."""
    grace = timedelta(seconds=(body or Rotation()).grace_seconds)
    return _issued(await services.keys.rotate(key_id, grace=grace, by=identity_of(request)))


@router.delete(
    "/keys/{key_id}",
    openapi_extra=needs(Role.ADMIN),
    status_code=204,
    summary="Revoke a key",
    responses=problems(KeyNotFound, OwnKey),
)
async def revoke_key(key_id: str, request: Request, services: Opened) -> None:
    """Revoke a key for good, within 5 seconds; it stays in the list. The key in use cannot revoke itself."""
    await services.keys.revoke(key_id, by=identity_of(request))


def _shown(key: Key) -> KeyModel:
    return KeyModel.model_validate(key)


def _issued(issued: IssuedKey) -> IssuedKeyModel:
    return IssuedKeyModel(**_shown(issued.key).model_dump(), secret=issued.secret)

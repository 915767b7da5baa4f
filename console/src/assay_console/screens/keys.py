"""API keys, for admins: who has one, as what, until when; a new one, another secret, the end of one."""

import asyncio
import re
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from assay.models import ApiKey, Fault, IssuedKey, Page, Problem
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import pages_of, path_of
from assay_console.roles import Role
from assay_console.sign_in import AdminApi, KeyInUse

router = APIRouter()

ROLES = {
    Role.VIEWER: "sees everything and changes nothing",
    Role.EDITOR: "also creates and changes: datasets, methods, runs, comparisons, decisions",
    Role.ADMIN: "also gives and takes keys",
}
_MEANINGS: Mapping[str, str] = {role.value: meaning for role, meaning in ROLES.items()}
GRACES = {0: "at once", 3600: "in an hour", 86_400: "in a day"}
"""When the old secret ends after a rotation, by seconds."""
_MOST = 200
"""Keys of one page of the API."""


@router.get("/keys", name="keys")
async def keys(request: Request, api: AdminApi, cursor: str = "", revoked: str = "") -> Response:
    """The list, newest first, those that ended among them; ``revoked`` names one that just was."""
    size = request.app.state.settings.page_size
    page, own = await asyncio.gather(
        api.page("/v1/access/keys", ApiKey, cursor=cursor, limit=size), _own_key(api)
    )
    return pages_of(request).page(
        request,
        "keys/list.html",
        keys=page.items,
        next_cursor=page.next_cursor,
        cursor=cursor,
        own_id=own.key_id,
        revoked=revoked,
    )


@router.get("/keys/new", name="key_new")
async def new(request: Request, _: AdminApi) -> Response:
    """The form of "Create Key"."""
    return _form(request, name="", role=Role.VIEWER, last_day="")


@router.post("/keys", name="key_create")
async def create(
    request: Request,
    api: AdminApi,
    name: Annotated[str, Form()] = "",
    role: Annotated[str, Form()] = "",
    last_day: Annotated[str, Form(alias="expires_at")] = "",
) -> Response:
    """Create it and show its secret, or the form again with what is wrong.

    The secret is in the answer to the form: an address that shows it would have to keep it.
    """
    name, last_day = name.strip(), last_day.strip()
    body = {"name": name, "role": role, "expires_at": _end_of(last_day)}
    try:
        made = await api.post("/v1/access/keys", IssuedKey, body=body)
    except ApiError as error:
        if not error.is_refusal:
            raise
        return _form(request, name=name, role=role, last_day=last_day, error=_worded(error))
    return _issued(request, made, title="The key is made")


@router.get("/keys/{key_id}", name="key")
async def key(request: Request, api: AdminApi, key_id: str) -> Response:
    """One key, and what can be done with it."""
    return await _key_page(request, api, key_id)


@router.post("/keys/{key_id}/rotate", name="key_rotate")
async def rotate(
    request: Request, api: AdminApi, key_id: str, grace_seconds: Annotated[int, Form()] = 0
) -> Response:
    """Give it another secret and show that, once."""
    try:
        made = await api.post(
            f"/v1/access/keys/{key_id}/rotate", IssuedKey, body={"grace_seconds": grace_seconds}
        )
    except ApiError as error:
        if not error.is_refusal or error.status == 404:
            raise
        return await _key_page(request, api, key_id, error=error)
    return _issued(request, made, title="The key has another secret", grace=grace_seconds)


@router.post("/keys/{key_id}/revoke", name="key_revoke")
async def revoke(request: Request, api: AdminApi, key_id: str, sure: Annotated[str, Form()] = "") -> Response:
    """End it for good and go to the list, or show why not."""
    try:
        if not sure:
            fault = Fault(field="sure", message="Say that it shall end for good.")
            raise ApiError(422, Problem(title="The key was not revoked", status=422, errors=[fault]))
        await api.delete(f"/v1/access/keys/{key_id}")
    except ApiError as error:
        if not error.is_refusal or error.status == 404:
            raise
        return await _key_page(request, api, key_id, error=error)
    return RedirectResponse(path_of(request, "keys", revoked=key_id), 303)


async def _own_key(api: Gateway) -> KeyInUse:
    return await api.get("/v1/access/me", KeyInUse)


async def _found(api: Gateway, key_id: str) -> ApiKey:
    """The key; the API lists keys, of which there are few, and answers for no single one."""
    cursor: str | None = None
    while True:
        page: Page[ApiKey] = await api.page("/v1/access/keys", ApiKey, cursor=cursor, limit=_MOST)
        for one in page.items:
            if one.id == key_id:
                return one
        cursor = page.next_cursor
        if cursor is None:
            raise ApiError(404, Problem(title="There is no such key", detail=f"There is no key {key_id}."))


async def _key_page(
    request: Request, api: Gateway, key_id: str, *, error: ApiError | None = None
) -> Response:
    found, own = await asyncio.gather(_found(api, key_id), _own_key(api))
    return pages_of(request).page(
        request,
        "keys/detail.html",
        status=200 if error is None else error.status,
        key=found,
        is_own=found.id == own.key_id,
        meaning=_MEANINGS.get(found.role, ""),
        graces=list(GRACES.items()),
        error=error,
    )


def _form(
    request: Request, *, name: str, role: str, last_day: str, error: ApiError | None = None
) -> Response:
    return pages_of(request).page(
        request,
        "keys/new.html",
        status=200 if error is None else error.status,
        values={"name": name, "role": role, "expires_at": last_day},
        roles=[(one.value, f"{one}: {meaning}") for one, meaning in ROLES.items()],
        error=error,
    )


def _issued(request: Request, made: IssuedKey, *, title: str, grace: int = 0) -> Response:
    return pages_of(request).page(
        request,
        "keys/issued.html",
        key=made,
        title=title,
        grace=GRACES.get(grace, f"after {grace} s") if grace else None,
    )


def _end_of(last_day: str) -> str | None:
    """The end of a day in UTC; what is no day goes to the platform as it was typed."""
    if not last_day:
        return None
    return f"{last_day}T23:59:59Z" if re.fullmatch(r"\d{4}-\d\d-\d\d", last_day) else last_day


def _worded(error: ApiError) -> ApiError:
    """The same refusal; where the name has not the shape of one, people are told the shape in words."""
    told = "Letters, digits, dots, dashes, underscores and @, at most 100; a letter or digit first."
    faults = [
        fault.model_copy(update={"message": told})
        if fault.field == "name" and "pattern" in fault.message
        else fault
        for fault in error.faults
    ]
    return ApiError(error.status, error.problem.model_copy(update={"errors": faults}))

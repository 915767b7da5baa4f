"""Policies: what must be shown before a candidate may replace its base. Versions never change."""

import asyncio
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from assay.models import Policy, Problem
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import pages_of, path_of
from assay_console.screens.policies_document import (
    PolicyDocument,
    document_of,
    example_document,
    read_document,
    refusal,
)
from assay_console.screens.policies_words import conditions, gates, sentence
from assay_console.sign_in import Api, EditorApi

router = APIRouter()


@router.get("/policies", name="policies")
async def policies(request: Request, api: Api, cursor: str = "") -> Response:
    """The newest version of every policy, by name."""
    page = await api.page("/v1/policies", Policy, cursor=cursor, limit=request.app.state.settings.page_size)
    return pages_of(request).page(
        request,
        "policies/list.html",
        policies=[(found, sentence(found)) for found in page.items],
        next_cursor=page.next_cursor,
        cursor=cursor,
    )


# No policy has a name that begins with an underscore.
@router.get("/policies/_new", name="policy_new")
async def new(request: Request, _: EditorApi) -> Response:
    """The form of a new policy, with an example that has every value explained."""
    return _form(request, document=example_document())


@router.post("/policies", name="policy_create")
async def create(request: Request, api: EditorApi, document: Annotated[str, Form()] = "") -> Response:
    """Keep a policy whose name is new, or show the form again with what is wrong and where."""
    try:
        found = await asyncio.to_thread(read_document, document)
        await _refuse_known_name(api, found)
        created = await _kept(api, found)
    except ApiError as error:
        if not error.is_refusal:
            raise
        return _form(request, document=document, error=error)
    return RedirectResponse(path_of(request, "policy", name=created.name, saved="new"), 303)


@router.get("/policies/{name}", name="policy")
async def policy(
    request: Request, api: Api, name: str, version: str = "", cursor: str = "", saved: str = ""
) -> Response:
    """One version, the newest if none is named, beside all versions."""
    newest = await api.get(f"/v1/policies/{quote(name, safe='')}", Policy)
    shown = newest if version in ("", str(newest.version)) else await _version(api, newest.name, version)
    versions = await api.page(
        f"/v1/policies/{newest.name}/versions",
        Policy,
        cursor=cursor,
        limit=request.app.state.settings.page_size,
    )
    return pages_of(request).page(
        request,
        "policies/detail.html",
        policy=shown,
        newest=newest,
        versions=versions.items,
        next_cursor=versions.next_cursor,
        cursor=cursor,
        sentence=sentence(shown),
        gates=gates(shown),
        conditions=conditions(shown),
        document=document_of(shown),
        saved=saved,
    )


@router.get("/policies/{name}/versions/new", name="policy_version_new")
async def new_version(request: Request, api: EditorApi, name: str, version: str = "") -> Response:
    """The form of a next version, which begins with what a version says now."""
    newest = await api.get(f"/v1/policies/{quote(name, safe='')}", Policy)
    start = newest if version in ("", str(newest.version)) else await _version(api, newest.name, version)
    return _form(request, document=document_of(start), newest=newest)


@router.post("/policies/{name}/versions", name="policy_version_create")
async def create_version(
    request: Request, api: EditorApi, name: str, document: Annotated[str, Form()] = ""
) -> Response:
    """Keep the next version of a policy, or show the form again."""
    newest = await api.get(f"/v1/policies/{quote(name, safe='')}", Policy)
    try:
        found = await asyncio.to_thread(read_document, document)
        if found.values.get("name") != newest.name:
            message = f"this form makes a version of {newest.name}; write “name: {newest.name}”"
            raise refusal([found.fault("name", message)])
        created = await _kept(api, found)
    except ApiError as error:
        if not error.is_refusal:
            raise
        return _form(request, document=document, newest=newest, error=error)
    saved = "new" if created.version > newest.version else "same"
    return RedirectResponse(path_of(request, "policy", name=created.name, saved=saved), 303)


def _form(
    request: Request, *, document: str, newest: Policy | None = None, error: ApiError | None = None
) -> Response:
    status = 200 if error is None else error.status
    return pages_of(request).page(
        request, "policies/form.html", status=status, document=document, newest=newest, error=error
    )


async def _version(api: Gateway, name: str, version: str) -> Policy:
    if not version.isdecimal():
        raise ApiError(404, Problem(title="Not found", detail=f"policy {name} has no version {version!r}"))
    return await api.get(f"/v1/policies/{name}/versions/{version}", Policy)


async def _refuse_known_name(api: Gateway, document: PolicyDocument) -> None:
    """The platform would make the next version of it, which who writes a new policy did not ask for."""
    name = document.values.get("name")
    if not isinstance(name, str) or not name:
        return
    try:
        found = await api.get(f"/v1/policies/{quote(name, safe='')}", Policy)
    except ApiError as error:
        if error.status in (404, 422):
            return
        raise
    message = f"there is a policy {found.name} already; take another name, or make a new version on its page"
    raise refusal([document.fault("name", message)], status=409)


async def _kept(api: Gateway, document: PolicyDocument) -> Policy:
    try:
        return await api.post("/v1/policies", Policy, body=document.values)
    except ApiError as error:
        raise document.located(error) from error

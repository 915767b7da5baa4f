"""Signing in with an API key, and out; the console's first page."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from assay_console.gateway import ApiError, Gateway
from assay_console.pages import pages_of, path_of
from assay_console.sign_in import SignedIn, ask_who, forget, is_sendable, remember, safe_target

router = APIRouter()


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a key does not do."""

    status: int
    message: str


@router.get("", name="entrance")
@router.get("/", name="home")
async def home(request: Request) -> Response:
    """To the first screen of the walkthrough."""
    return RedirectResponse(path_of(request, "datasets"), 303)


@router.get("/sign-in", name="sign_in")
async def sign_in(request: Request, next: str | None = None) -> Response:  # noqa: A002 - the usual name of it
    """The form that asks for a key."""
    return pages_of(request).page(request, "session/sign_in.html", next=next or "", error=None)


@router.post("/sign-in", name="sign_in_submit")
async def submit(
    request: Request,
    api_key: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "",  # noqa: A002
) -> Response:
    """Try the key; only one that the platform takes is remembered."""
    found = await _tried(request, api_key.strip())
    if isinstance(found, _Refusal):
        return pages_of(request).page(
            request, "session/sign_in.html", status=found.status, next=next, error=found.message
        )
    target = safe_target(next, otherwise=path_of(request, "datasets"))
    response = RedirectResponse(target, 303)
    remember(response, request, api_key.strip(), found)
    return response


@router.post("/sign-out", name="sign_out")
async def sign_out(request: Request) -> Response:
    """Forget the key."""
    response = RedirectResponse(path_of(request, "sign_in"), 303)
    forget(response)
    return response


async def _tried(request: Request, api_key: str) -> SignedIn | _Refusal:
    """Whose key it is, or why it does not do."""
    if not api_key:
        return _Refusal(422, "Enter an API key.")
    if not is_sendable(api_key):
        return _Refusal(422, "This is no API key: it has characters that keys do not have.")
    try:
        return await ask_who(Gateway(request.app.state.http, api_key=api_key))
    except ApiError as error:
        if error.status == 401:
            return _Refusal(401, f"The platform does not accept this key: {error}.")
        return _Refusal(503, f"The platform could not check the key: {error}. Try again.")

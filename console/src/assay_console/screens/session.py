"""Signing in with an API key, and out; the console's first page."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from assay.models import Dataset
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import pages_of, path_of
from assay_console.sign_in import forget, is_sendable, remember, safe_target

router = APIRouter()


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
    error = await _refusal(request, api_key.strip())
    if error is not None:
        status, message = error
        return pages_of(request).page(
            request, "session/sign_in.html", status=status, next=next, error=message
        )
    target = safe_target(next, otherwise=path_of(request, "datasets"))
    response = RedirectResponse(target, 303)
    remember(response, request, api_key.strip())
    return response


@router.post("/sign-out", name="sign_out")
async def sign_out(request: Request) -> Response:
    """Forget the key."""
    response = RedirectResponse(path_of(request, "sign_in"), 303)
    forget(response)
    return response


async def _refusal(request: Request, api_key: str) -> tuple[int, str] | None:
    """Why the key does not do: a status and a sentence; None where it does."""
    if not api_key:
        return 422, "Enter an API key."
    if not is_sendable(api_key):
        return 422, "This is no API key: it has characters that keys do not have."
    try:
        await Gateway(request.app.state.http, api_key=api_key).page("/v1/datasets", Dataset, limit=1)
    except ApiError as error:
        if error.status in (401, 403):
            return 401, "The platform does not accept this key."
        return 503, f"The platform could not check the key: {error}. Try again."
    return None

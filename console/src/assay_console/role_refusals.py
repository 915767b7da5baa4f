"""The page that says that another role is needed."""

from fastapi import Request, Response

from assay_console.gateway import ApiError
from assay_console.pages import is_part, pages_of, path_of
from assay_console.roles import NotOffered, Role
from assay_console.sign_in import COOKIE, SignedIn, ask_who, remember, signed_in_gateway, signed_in_of


async def not_offered(request: Request, error: NotOffered) -> Response:
    """A form that was opened by its address."""
    return _page(request, str(error), signed_in_of(request))


async def refused_by_role(request: Request, error: ApiError) -> Response:
    """What the API refuses to the key's role (403).

    Pages had offered it, so the role is not what it was when the key signed in: it is asked for again.

    Raises:
        ApiError: the key is not accepted any more (401).
    """
    try:
        signed_in: SignedIn | None = await ask_who(signed_in_gateway(request))
    except ApiError as failure:
        if failure.status == 401:
            raise
        signed_in = None
    response = _page(request, str(error), signed_in or signed_in_of(request))
    if signed_in is not None:
        remember(response, request, request.cookies[COOKIE], signed_in)
    return response


def _page(request: Request, told: str, signed_in: SignedIn | None) -> Response:
    # As with other errors: htmx shows the content of a part only where its status is a success.
    part = is_part(request)
    address = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
    return pages_of(request).page(
        request,
        "parts/forbidden.html" if part else "forbidden.html",
        status=200 if part else 403,
        told=told,
        signed_in=signed_in,
        advice=f"Somebody with the role {Role.ADMIN} can give you a key with the role that is needed.",
        other_key=path_of(request, "sign_in", next=address if request.method == "GET" and not part else None),
    )

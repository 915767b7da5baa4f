"""Who is looking: an API key in a cookie that scripts cannot read and that other sites' pages do not send.

The console keeps nothing about anybody, so that any copy of it can answer any request. The gateway checks the
key with every call.
"""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response

from assay_console.gateway import Gateway

COOKIE = "assay_key"
COOKIE_PATH = "/console"


class NotSignedIn(Exception):
    """There is no key, or the gateway does not accept it (any more)."""


def remember(response: Response, request: Request, api_key: str) -> None:
    """Sign in: the key lasts until the browser is closed or somebody signs out."""
    response.set_cookie(
        COOKIE,
        api_key,
        path=COOKIE_PATH,
        httponly=True,
        samesite="strict",
        secure=request.headers.get("x-forwarded-proto", request.url.scheme) == "https",
    )


def forget(response: Response) -> None:
    """Sign out."""
    response.delete_cookie(COOKIE, path=COOKIE_PATH, httponly=True, samesite="strict")


def signed_in_gateway(request: Request) -> Gateway:
    """The API for the user of this request.

    Raises:
        NotSignedIn: no key has come.
    """
    api_key = request.cookies.get(COOKIE, "")
    if not is_sendable(api_key):
        raise NotSignedIn
    return Gateway(request.app.state.http, api_key=api_key)


def is_sendable(api_key: str) -> bool:
    """Whether the text can be a header and a cookie: printable ASCII without separators."""
    return 0 < len(api_key) <= 512 and all(
        "!" <= letter <= "~" and letter not in '";,\\' for letter in api_key
    )


def safe_target(wanted: str | None, *, otherwise: str) -> str:
    """Where to go after signing in: a path of the console, never another site's."""
    parts = urlsplit(wanted or "")
    is_ours = not parts.scheme and not parts.netloc and parts.path.startswith(f"{COOKIE_PATH}/")
    return wanted if wanted and is_ours and "\\" not in wanted else otherwise


Api = Annotated[Gateway, Depends(signed_in_gateway)]

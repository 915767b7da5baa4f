"""Who is looking: an API key and its role, in cookies that no script reads and no other site's page sends.

The console keeps nothing about anybody, so that any copy of it can answer any request. The gateway checks the
key with every call; the role beside it only says what pages offer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote, unquote, urlsplit

from fastapi import Depends, Request, Response

from assay.models import Me
from assay_console.gateway import Gateway
from assay_console.roles import May, NotOffered, Role

COOKIE = "assay_key"
ROLE_COOKIE = "assay_role"
COOKIE_PATH = "/console"


class NotSignedIn(Exception):
    """There is no key with a role, or the gateway does not accept the key (any more)."""


class KeyInUse(Me):
    """What the platform says of the key that asks; the one of the platform's settings has no id."""

    role: Role
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who is signed in: the name of the client that the key was made for, and the key's role."""

    client: str
    role: Role

    @property
    def may(self) -> May:
        """What pages offer."""
        return May.of(self.role)


async def ask_who(api: Gateway) -> SignedIn:
    """Whose key it is, as the platform says.

    Raises:
        ApiError: the platform does not accept the key, or does not answer.
    """
    found = await api.get("/v1/access/me", KeyInUse)
    return SignedIn(found.client, found.role)


def remember(response: Response, request: Request, api_key: str, signed_in: SignedIn) -> None:
    """Sign in: the key lasts until the browser is closed or somebody signs out."""
    for name, value in (
        (COOKIE, api_key),
        (ROLE_COOKIE, f"{signed_in.role}:{quote(signed_in.client, safe='')}"),
    ):
        response.set_cookie(
            name,
            value,
            path=COOKIE_PATH,
            httponly=True,
            samesite="strict",
            secure=request.headers.get("x-forwarded-proto", request.url.scheme) == "https",
        )


def forget(response: Response) -> None:
    """Sign out."""
    for name in (COOKIE, ROLE_COOKIE):
        response.delete_cookie(name, path=COOKIE_PATH, httponly=True, samesite="strict")


def signed_in_of(request: Request) -> SignedIn | None:
    """Who is signed in by the cookies of this request; None where one is missing or cannot be read."""
    role, colon, client = request.cookies.get(ROLE_COOKIE, "").partition(":")
    if not colon or role not in tuple(Role) or not is_sendable(request.cookies.get(COOKIE, "")):
        return None
    return SignedIn(unquote(client), Role(role))


def signed_in_gateway(request: Request) -> Gateway:
    """The API for the user of this request.

    Raises:
        NotSignedIn: no key has come, or none whose role is known.
    """
    if signed_in_of(request) is None:
        raise NotSignedIn
    return Gateway(request.app.state.http, api_key=request.cookies[COOKIE])


def require(request: Request, needed: Role) -> None:
    """Go on only where the page is offered.

    Raises:
        NotSignedIn: nobody is signed in.
        NotOffered: another role is needed.
    """
    signed_in = signed_in_of(request)
    if signed_in is None:
        raise NotSignedIn
    if not signed_in.role.includes(needed):
        raise NotOffered(needed)


def _gateway_for(needed: Role) -> Callable[[Request], Gateway]:
    def gateway(request: Request) -> Gateway:
        require(request, needed)
        return signed_in_gateway(request)

    return gateway


editing_gateway = _gateway_for(Role.EDITOR)
administering_gateway = _gateway_for(Role.ADMIN)


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
"""For routes that only read."""

EditorApi = Annotated[Gateway, Depends(editing_gateway)]
"""For routes that change something, and for their forms."""

AdminApi = Annotated[Gateway, Depends(administering_gateway)]
"""For routes about API keys, and for their forms."""

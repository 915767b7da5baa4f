"""What browsers are told and held to: where content may come from, and who may send forms."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "font-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
_ALWAYS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def add_headers(headers: MutableHeaders, *, is_static: bool = False) -> None:
    """What browsers are told with every answer, where the answer itself says nothing else."""
    for name, value in _ALWAYS.items():
        headers.setdefault(name, value)
    # Addresses of static files change with their content; pages show what is true now.
    headers.setdefault("cache-control", "public, max-age=31536000, immutable" if is_static else "no-store")


class BrowserRules:
    """Adds the headers above to every answer and refuses forms that other sites' pages send."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request of a browser."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_static = scope["path"].startswith("/console/static/")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                add_headers(MutableHeaders(scope=message), is_static=is_static)
            await send(message)

        if scope["method"] not in _READING and not _is_from_here(Headers(scope=scope)):
            refusal = PlainTextResponse("This form came from another site.\n", status_code=403)
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


def _is_from_here(headers: Headers) -> bool:
    """Whether our own page sent it. Browsers say so; what says neither is no browser, and has no cookie."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")

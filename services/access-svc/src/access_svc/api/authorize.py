"""What the gateway asks before a request that needs a key: ``/authorize`` and then the request's own path."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from access_svc.service import Services
from assay_chassis.errors import ServiceError
from assay_chassis.identity import IDENTITY_HEADER, IdentitySigner
from assay_chassis.web import refusal

AUTHORIZE_PATH = "/authorize"
CLIENT_HEADER = "x-assay-client"
"""For the gateway's access log; the services do not get it."""


class Authorize:
    """ASGI application for every method and path: 200 with a signed identity, or 401 with the problem."""

    def __init__(self, *, signer: IdentitySigner) -> None:
        self._signer = signer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one question of the gateway."""
        request = Request(scope)
        services: Services = request.app.state.services
        response: Response
        try:
            identity = await services.authorizer.identify(_key_of(request))
        except ServiceError as error:
            response = refusal(request, error, instance=request.url.path.removeprefix(AUTHORIZE_PATH))
        else:
            headers = {IDENTITY_HEADER: self._signer.sign(identity), CLIENT_HEADER: identity.client}
            response = Response(headers=headers)
        await response(scope, receive, send)


def _key_of(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.headers.get("x-api-key")

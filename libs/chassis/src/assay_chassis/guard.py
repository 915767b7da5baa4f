"""Which role a route needs: said once, where the route is written; shown in OpenAPI and enforced from there.

``@router.post("/things", openapi_extra=needs(Role.EDITOR))`` on a router of ``route_class=GuardedRoute``. A
route that does not say fails when its module is imported.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from assay_chassis.errors import Forbidden
from assay_chassis.identity import IDENTITY_HEADER, Identity, IdentityReader, Role

ROLE_FIELD = "x-assay-role"
"""The field of an OpenAPI operation that names the role."""


def needs(role: Role, **operation: Any) -> dict[str, Any]:
    """The ``openapi_extra`` of a route for callers of ``role`` and above, with further OpenAPI fields."""
    return {**operation, ROLE_FIELD: role.value}


class GuardedRoute(APIRoute):
    """A route that looks at who calls before it looks at the body.

    The application has the reader of identities in ``app.state.identities``.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """As APIRoute; raises ValueError where ``openapi_extra`` names no role."""
        try:
            self.needed = Role((options.get("openapi_extra") or {})[ROLE_FIELD])
        except KeyError:
            raise ValueError(
                f"{path} ({endpoint.__name__}) says not who may call it: openapi_extra=needs(Role...)"
            ) from None
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler behind the check."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            identities: IdentityReader = request.app.state.identities
            identity = identities.read(request.headers.get(IDENTITY_HEADER))
            if not identity.role.allows(self.needed):
                raise Forbidden(
                    f"this needs the role {self.needed}; the key {identity.client!r} is {identity.role}: "
                    f"ask an admin for one that is (assay keys create NAME --role {self.needed})"
                )
            request.state.identity = identity
            return await handle(request)

        return guarded


def identity_of(request: Request) -> Identity:
    """Who sent the request; raises RuntimeError where its route is none of ``GuardedRoute``."""
    identity: Identity | None = getattr(request.state, "identity", None)
    if identity is None:
        raise RuntimeError(f"{request.url.path} is served without a check of the caller")
    return identity

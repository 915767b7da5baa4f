"""Builds access-svc: reads nothing from the environment, opens everything in the application's lifespan."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from access_svc.api import router
from access_svc.api.authorize import AUTHORIZE_PATH, Authorize
from access_svc.service import Services
from access_svc.service.authorizer import Authorizer, SettingsKey
from access_svc.service.keys import KeyService
from access_svc.settings import Settings
from access_svc.store import open_key_store
from assay_chassis.errors import Unavailable
from assay_chassis.identity import IdentitySigner
from assay_chassis.infrastructure import Infrastructure, open_infrastructure
from assay_chassis.telemetry import Telemetry
from assay_chassis.web import create_web_app

SERVICE_NAME = "access-svc"
VERSION = "0.1.0"
DESCRIPTION = (
    "API keys and roles. A **viewer** reads, and computes what nobody keeps; an **editor** creates and "
    "changes; an **admin** decides who has access. Errors are RFC 9457 problem details."
)


def create_app(settings: Settings) -> FastAPI:
    """The application; its lifespan connects to the store and the bus."""
    telemetry = Telemetry(service_name=SERVICE_NAME, otlp_endpoint=settings.otlp_endpoint)
    internal_key = settings.internal_key.get_secret_value()
    first = SettingsKey(key=settings.api_key.get_secret_value(), client=settings.api_client)
    opened: list[Infrastructure] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_infrastructure(
            settings, service_name=SERVICE_NAME, telemetry=telemetry
        ) as infrastructure:
            store = await open_key_store(infrastructure)
            authorizer = Authorizer(store=store, first=first, accepted_for_s=settings.accepted_for_s)
            app.state.services = Services(
                authorizer=authorizer, keys=KeyService(store=store, authorizer=authorizer, first=first)
            )
            opened.append(infrastructure)
            try:
                yield
            finally:
                opened.clear()
        telemetry.close()

    async def readiness() -> Mapping[str, Any]:
        if not opened:
            raise Unavailable("access-svc is starting")
        return await opened[0].readiness()

    app = create_web_app(
        name="access",
        title="Assay access",
        description=DESCRIPTION,
        version=VERSION,
        routers=[router],
        internal_key=internal_key,
        telemetry=telemetry,
        lifespan=lifespan,
        readiness=readiness,
    )
    signer = IdentitySigner(internal_key=internal_key, issuer=SERVICE_NAME)
    app.mount(AUTHORIZE_PATH, Authorize(signer=signer))
    return app

"""Builds method-svc: reads nothing from the environment, opens everything in the application's lifespan."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI

from assay_chassis.errors import Unavailable
from assay_chassis.infrastructure import Infrastructure, consuming, in_background, open_infrastructure
from assay_chassis.service_client import open_service_client
from assay_chassis.telemetry import Telemetry
from assay_chassis.web import create_web_app
from assay_harness.index import load_task_index
from assay_harness.process import warm_up
from method_svc.api import router
from method_svc.consumers import subscriptions
from method_svc.service import Services
from method_svc.service.catalogue import IndexLoader, TaskCatalogue
from method_svc.service.datasets import SnapshotReader
from method_svc.service.forms import FormService
from method_svc.service.methods import MethodService
from method_svc.service.previews import PreviewService
from method_svc.settings import Settings
from method_svc.store import open_method_store

SERVICE_NAME = "method-svc"
VERSION = "0.1.0"
DESCRIPTION = (
    "Evaluation methods: templates, lm-eval's tasks, forms, immutable versions, previews on real rows. "
    "Errors are RFC 9457 problem details."
)


def create_app(settings: Settings) -> FastAPI:
    """The application; its lifespan connects to the store and the bus and loads the task index.

    It serves at once; until the index is there ``/readyz`` says so, and what needs it answers 503.
    """
    telemetry = Telemetry(service_name=SERVICE_NAME, otlp_endpoint=settings.otlp_endpoint)
    index = IndexLoader(partial(load_task_index, settings.cache_dir))
    opened: list[Infrastructure] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_infrastructure(settings, service_name=SERVICE_NAME, telemetry=telemetry) as infrastructure,
            open_service_client(
                settings.dataset_url,
                peer="dataset-svc",
                caller=SERVICE_NAME,
                internal_key=settings.internal_key.get_secret_value(),
                telemetry=telemetry,
            ) as datasets,
        ):
            tasks = TaskCatalogue(index)
            snapshots = SnapshotReader(datasets=datasets, cache=settings.home / "cache" / "snapshots")
            methods = MethodService(
                store=await open_method_store(infrastructure), tasks=tasks, snapshots=snapshots
            )
            app.state.services = Services(
                methods=methods,
                tasks=tasks,
                forms=FormService(tasks=tasks, snapshots=snapshots),
                previews=PreviewService(
                    tasks=tasks,
                    snapshots=snapshots,
                    concurrent=settings.concurrent_previews,
                    timeout_s=settings.preview_timeout_s,
                ),
            )
            opened.append(infrastructure)
            async with (
                in_background(index.run(), warm_up()),
                consuming(infrastructure.bus, subscriptions(methods)),
            ):
                try:
                    yield
                finally:
                    opened.clear()
        telemetry.close()

    async def readiness() -> Mapping[str, Any]:
        if not opened:
            raise Unavailable("method-svc is starting")
        details = await opened[0].readiness()
        return {**details, "tasks": len(index.get())}

    return create_web_app(
        name="method",
        title="Assay methods",
        description=DESCRIPTION,
        version=VERSION,
        routers=[router],
        internal_key=settings.internal_key.get_secret_value(),
        telemetry=telemetry,
        lifespan=lifespan,
        readiness=readiness,
    )

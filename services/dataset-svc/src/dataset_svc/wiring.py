"""Builds dataset-svc: reads nothing from the environment, opens everything in the application's lifespan."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from fastapi import FastAPI

from assay_chassis.errors import Unavailable
from assay_chassis.infrastructure import Infrastructure, consuming, in_background, open_infrastructure
from assay_chassis.leased_work import Wakeup
from assay_chassis.service_client import open_service_client
from assay_chassis.telemetry import Telemetry
from assay_chassis.web import create_web_app
from dataset_svc.api import router
from dataset_svc.consumers import worker_subscriptions
from dataset_svc.jsonl import Limits
from dataset_svc.service import Services
from dataset_svc.service.analysis import AnalysisService
from dataset_svc.service.datasets import DatasetService
from dataset_svc.service.deletion import DeletionService
from dataset_svc.service.ingest_work import ingest_worker
from dataset_svc.service.ingests import IngestService
from dataset_svc.service.snapshots import SnapshotService
from dataset_svc.service.uploads import UploadService
from dataset_svc.settings import Settings
from dataset_svc.store import open_stores

SERVICE_NAME = "dataset-svc"
VERSION = "0.1.0"
DESCRIPTION = (
    "Datasets and their immutable, content-addressed snapshots. Errors are RFC 9457 problem details."
)


def create_app(settings: Settings) -> FastAPI:
    """The application; its lifespan connects to the store and the bus."""
    telemetry = Telemetry(service_name=SERVICE_NAME, otlp_endpoint=settings.otlp_endpoint)
    opened: list[Infrastructure] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_infrastructure(settings, service_name=SERVICE_NAME, telemetry=telemetry) as infrastructure,
            open_service_client(
                settings.eval_url,
                peer="eval-svc",
                caller=SERVICE_NAME,
                internal_key=settings.internal_key.get_secret_value(),
                telemetry=telemetry,
            ) as evaluations,
        ):
            stores = await open_stores(infrastructure, cache=settings.home / "cache" / "snapshots")
            deletion = DeletionService(
                stores, evaluations=evaluations, grace=timedelta(seconds=settings.deletion_grace_s)
            )
            wakeup = Wakeup()
            worker = ingest_worker(stores, settings=settings.hub, home=settings.home, wakeup=wakeup)
            app.state.services = Services(
                datasets=DatasetService(stores),
                snapshots=SnapshotService(stores),
                uploads=UploadService(
                    stores,
                    limits=Limits(
                        line_bytes=settings.max_line_bytes,
                        nesting=settings.max_nesting,
                        columns=settings.max_columns,
                    ),
                    max_upload_bytes=settings.max_upload_bytes,
                    concurrent_ingests=settings.concurrent_ingests,
                    workspace=settings.home / "uploads",
                ),
                deletion=deletion,
                analysis=AnalysisService(stores, cache=settings.home / "cache" / "diffs"),
                ingests=IngestService(stores, wake=worker.wake),
            )
            async with (
                consuming(infrastructure.bus, worker_subscriptions(worker)),
                in_background(deletion.sweep(every_s=settings.deletion_sweep_s), worker.run()),
            ):
                opened.append(infrastructure)
                try:
                    yield
                finally:
                    opened.clear()
        telemetry.close()

    async def readiness() -> Mapping[str, Any]:
        if not opened:
            raise Unavailable("dataset-svc is starting")
        return await opened[0].readiness()

    return create_web_app(
        name="dataset",
        title="Assay datasets",
        description=DESCRIPTION,
        version=VERSION,
        routers=[router],
        internal_key=settings.internal_key.get_secret_value(),
        telemetry=telemetry,
        lifespan=lifespan,
        readiness=readiness,
    )

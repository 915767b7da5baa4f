"""Puts eval-svc together: the web application and the worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.metadata import version

from fastapi import FastAPI

from assay_chassis.infrastructure import (
    Infrastructure,
    consuming,
    in_background,
    open_infrastructure,
)
from assay_chassis.service_client import open_service_client
from assay_chassis.telemetry import Telemetry
from assay_chassis.web import create_web_app
from assay_harness.index import load_task_index
from assay_harness.process import warm_up
from eval_svc.api import ROUTERS
from eval_svc.artifacts import ArtifactRegistry
from eval_svc.consumers import service_subscriptions, worker_subscriptions
from eval_svc.fleet import ServingFleet
from eval_svc.planning import Planner
from eval_svc.service import EvaluationService
from eval_svc.settings import Settings
from eval_svc.store import EvalStore
from eval_svc.worker import WorkerParts, worker_of

SERVICE = "eval-svc"
WORKER_PATIENCE_S = 120.0

DESCRIPTION = """Artifacts and evaluation runs.

Register an artifact, look at the **effective plan** of a run before you start it, start it, follow its
progress, and read its samples. Scores and comparisons are in the metrics API."""


@asynccontextmanager
async def open_parts(settings: Settings, infrastructure: Infrastructure) -> AsyncIterator[WorkerParts]:
    """Open what the web process and the worker share."""
    key = settings.internal_key.get_secret_value()
    telemetry = infrastructure.telemetry
    async with (
        open_service_client(
            settings.dataset_url, peer="dataset-svc", caller=SERVICE, internal_key=key, telemetry=telemetry
        ) as datasets,
        open_service_client(
            settings.method_url, peer="method-svc", caller=SERVICE, internal_key=key, telemetry=telemetry
        ) as methods,
        ServingFleet.connect(settings.adapter_addresses, carrier=telemetry.carrier) as fleet,
    ):
        store = await EvalStore.open(infrastructure.store)
        # Building the index takes half a minute on a new machine; nobody waits for it before it is needed.
        index = asyncio.ensure_future(asyncio.to_thread(load_task_index, settings.cache_dir))
        planner = Planner(
            datasets=datasets, methods=methods, fleet=fleet, cache=settings.snapshot_cache, index=index
        )
        artifacts = ArtifactRegistry(store=store, events=infrastructure.events, fleet=fleet)
        service = EvaluationService(
            store=store, events=infrastructure.events, planner=planner, fleet=fleet, artifacts=artifacts
        )
        yield WorkerParts(
            settings=settings,
            store=store,
            events=infrastructure.events,
            planner=planner,
            fleet=fleet,
            artifacts=artifacts,
            service=service,
            telemetry=telemetry,
        )


def create_app(settings: Settings) -> FastAPI:
    """The web application; its lifespan opens and closes everything."""
    telemetry = Telemetry(service_name=SERVICE, otlp_endpoint=settings.otlp_endpoint)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_infrastructure(settings, service_name=SERVICE, telemetry=telemetry) as infrastructure,
            open_parts(settings, infrastructure) as parts,
            consuming(infrastructure.bus, service_subscriptions(parts.service)),
            in_background(warm_up()),
        ):
            app.state.infrastructure = infrastructure
            app.state.service = parts.service
            app.state.artifacts = parts.artifacts
            app.state.telemetry = telemetry
            yield
        telemetry.close()

    app = create_web_app(
        name="eval",
        title="Assay evaluations",
        description=DESCRIPTION,
        version=version(SERVICE),
        routers=ROUTERS,
        internal_key=settings.internal_key.get_secret_value(),
        telemetry=telemetry,
        lifespan=lifespan,
        readiness=lambda: app.state.infrastructure.readiness(),
    )
    return app


async def run_worker(settings: Settings) -> None:
    """Run a worker until cancelled."""
    telemetry = Telemetry(service_name="eval-worker", otlp_endpoint=settings.otlp_endpoint)
    settings = settings.model_copy(
        update={"store_patience_s": max(settings.store_patience_s, WORKER_PATIENCE_S)}
    )
    async with (
        open_infrastructure(settings, service_name=SERVICE, telemetry=telemetry) as infrastructure,
        open_parts(settings, infrastructure) as parts,
    ):
        worker = worker_of(replace(parts, settings=settings))
        async with (
            consuming(infrastructure.bus, worker_subscriptions(worker)),
            in_background(warm_up()),
        ):
            await worker.run()

"""Puts metrics-svc together: the web application, the consumer and the scorer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI

from assay_chassis.infrastructure import consuming, in_background, open_infrastructure
from assay_chassis.leased_work import Wakeup
from assay_chassis.service_client import open_service_client
from assay_chassis.telemetry import Telemetry
from assay_chassis.web import create_web_app
from assay_harness.index import load_task_index
from assay_harness.process import warm_up
from metrics_svc.api import ROUTERS
from metrics_svc.consumers import subscriptions
from metrics_svc.service import MetricsService
from metrics_svc.service.clusters import ClusterService
from metrics_svc.service.comparisons import ComparisonService
from metrics_svc.service.decisions import DecisionService
from metrics_svc.service.evidence import EvidenceService
from metrics_svc.service.exports import ExportService
from metrics_svc.service.harness import HarnessOpener
from metrics_svc.service.items import ItemService
from metrics_svc.service.lm_eval_log import LmEvalLogService
from metrics_svc.service.planner import PlannerService
from metrics_svc.service.policies import PolicyService
from metrics_svc.service.runs import RunService
from metrics_svc.service.scorings import ScoringService
from metrics_svc.service.trends import TrendService
from metrics_svc.settings import Settings
from metrics_svc.store import MetricsStore
from metrics_svc.worker import ScorerParts, scorer_of

SERVICE = "metrics-svc"

DESCRIPTION = """Scores, metrics, comparisons and decisions.

Read a run's **quality and runtime metrics**, live while it runs; list its scored samples; **score** the
responses of a finished run **again** with other filters or metrics, without asking the model; **compare**
Succeeded runs with a baseline item by item, and look at the items behind every flip; write a **policy** and
let it **decide** whether a candidate may replace the baseline: with every reason, and with the evidence in
one file that verifies offline; **plan** how many samples a margin needs."""


def create_app(settings: Settings) -> FastAPI:
    """The web application; its lifespan opens and closes everything, the scorer included."""
    telemetry = Telemetry(service_name=SERVICE, otlp_endpoint=settings.otlp_endpoint)
    key = settings.internal_key.get_secret_value()

    connect = partial(open_service_client, caller=SERVICE, internal_key=key, telemetry=telemetry)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_infrastructure(settings, service_name=SERVICE, telemetry=telemetry) as infrastructure,
            connect(settings.eval_url, peer="eval-svc") as evaluations,
            connect(settings.dataset_url, peer="dataset-svc") as datasets,
        ):
            store = await MetricsStore.open(infrastructure.store)
            wakeup = Wakeup()
            index = asyncio.ensure_future(asyncio.to_thread(load_task_index, settings.cache_dir))
            harness = HarnessOpener(datasets=datasets, cache=settings.snapshot_cache, index=index)
            runs = RunService(store=store, evaluations=evaluations, wakeup=wakeup)
            scorings = ScoringService(store=store, runs=runs, harness=harness, wakeup=wakeup)
            evidence = EvidenceService(store=store, runs=runs, release=version(SERVICE))
            policies = PolicyService(store=store, events=infrastructure.events)
            await policies.seed()
            clusters = ClusterService(store=store, harness=harness)
            comparisons = ComparisonService(
                store=store, evidence=evidence, clusters=clusters, events=infrastructure.events
            )
            decisions = DecisionService(
                store=store,
                comparisons=comparisons,
                policies=policies,
                evidence=evidence,
                clusters=clusters,
                events=infrastructure.events,
            )
            items = ItemService(store=store, comparisons=comparisons)
            exports = ExportService(
                store=store,
                evidence=evidence,
                comparisons=comparisons,
                items=items,
                decisions=decisions,
                policies=policies,
            )
            scorer = scorer_of(
                ScorerParts(
                    settings=settings,
                    store=store,
                    events=infrastructure.events,
                    evaluations=evaluations,
                    harness=harness,
                    evidence=evidence,
                    wakeup=wakeup,
                )
            )
            app.state.infrastructure = infrastructure
            app.state.service = MetricsService(
                runs=runs,
                scorings=scorings,
                comparisons=comparisons,
                items=items,
                policies=policies,
                decisions=decisions,
                planner=PlannerService(comparisons=comparisons),
                exports=exports,
                lm_eval_log=LmEvalLogService(store=store, evidence=evidence, harness=harness),
                trends=TrendService(store=store),
            )
            async with (
                in_background(warm_up(), scorer.run()),
                consuming(infrastructure.bus, subscriptions(runs)),
            ):
                yield
        telemetry.close()

    app = create_web_app(
        name="metrics",
        title="Assay metrics",
        description=DESCRIPTION,
        version=version(SERVICE),
        routers=list(ROUTERS),
        internal_key=key,
        telemetry=telemetry,
        lifespan=lifespan,
        readiness=lambda: app.state.infrastructure.readiness(),
    )
    return app

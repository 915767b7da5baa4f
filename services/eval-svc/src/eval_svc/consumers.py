"""Events that eval-svc listens to."""

from assay_chassis.bus import Subscription
from assay_chassis.leased_work import LeasedWorker
from assay_contracts.envelope import Envelope, Event
from assay_contracts.metrics_events import RunScored, RunSettled, ScoringFailed
from assay_contracts.work import RunRequested
from eval_svc.service import EvaluationService


def service_subscriptions(service: EvaluationService) -> list[Subscription]:
    """What the web process listens to: the end of scoring, and looks that decide."""

    async def on_metrics(_: Envelope, event: Event) -> None:
        if isinstance(event, RunScored):
            await service.record_scores(event)
        elif isinstance(event, ScoringFailed):
            await service.record_scoring_failure(event)
        elif isinstance(event, RunSettled):
            await service.record_settlement(event)

    subjects = (RunScored.SUBJECT, ScoringFailed.SUBJECT, RunSettled.SUBJECT)
    return [Subscription("ASSAY_METRICS", "eval-svc", subjects, on_metrics)]


def worker_subscriptions(worker: LeasedWorker) -> list[Subscription]:
    """What a worker listens to: that a run waits."""

    async def on_request(_: Envelope, event: Event) -> None:
        worker.wake()

    return [Subscription("ASSAY_WORK", "eval-worker", (RunRequested.SUBJECT,), on_request)]

"""Events that metrics-svc listens to."""

from assay_chassis.bus import Subscription
from assay_contracts.envelope import Envelope, Event
from assay_contracts.eval_events import RunCancelled, RunFailed, RunResponded, SamplesCompleted
from metrics_svc.domain.scoring import Occurrence
from metrics_svc.service.runs import RunService


def subscriptions(runs: RunService) -> list[Subscription]:
    """One consumer, shared by the instances of the service."""

    async def on_run_event(envelope: Envelope, event: Event) -> None:
        when = Occurrence(id=envelope.id, time=envelope.time)
        match event:
            case SamplesCompleted():
                await runs.record_block(event, when=when)
            case RunResponded():
                await runs.record_responses(event, when=when)
            case RunFailed():
                await runs.record_failure(event, when=when)
            case RunCancelled():
                await runs.record_cancellation(event, when=when)

    classes = (SamplesCompleted, RunResponded, RunFailed, RunCancelled)
    return [
        Subscription(
            stream="ASSAY_EVAL",
            durable="metrics-svc",
            subjects=tuple(event.SUBJECT for event in classes),
            handler=on_run_event,
            concurrency=4,
        )
    ]

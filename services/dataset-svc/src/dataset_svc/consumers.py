"""Messages that dataset-svc listens to."""

from collections.abc import Sequence

from assay_chassis.bus import Subscription
from assay_chassis.leased_work import LeasedWorker
from assay_contracts.envelope import Envelope, Event
from assay_contracts.registry import stream_of
from assay_contracts.work import IngestRequested


def worker_subscriptions(worker: LeasedWorker) -> Sequence[Subscription]:
    """What a worker listens to: that an import waits."""

    async def on_request(_: Envelope, event: Event) -> None:
        worker.wake()

    subject = IngestRequested.SUBJECT
    return (Subscription(stream_of(subject), "dataset-ingest-worker", (subject,), on_request),)

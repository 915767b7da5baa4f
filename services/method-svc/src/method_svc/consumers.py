"""Events that method-svc listens to."""

from collections.abc import Sequence

from assay_chassis.bus import Subscription
from assay_chassis.errors import Reject
from assay_contracts.dataset_events import DatasetDeleted, SnapshotReady
from assay_contracts.envelope import Envelope, Event
from assay_contracts.registry import stream_of
from method_svc.service.methods import MethodService


def subscriptions(service: MethodService) -> Sequence[Subscription]:
    """Subscriptions whose handlers call ``service``."""

    async def on_dataset(envelope: Envelope, event: Event) -> None:
        match event:
            case SnapshotReady():
                await service.remember_snapshot(event)
            case DatasetDeleted():
                await service.forget_dataset(event)
            case _:
                raise Reject(f"{envelope.type} is not what this consumer asks for")

    return (
        Subscription(
            stream=stream_of(SnapshotReady.SUBJECT),
            durable="method-svc-dataset-schemas",
            subjects=(SnapshotReady.SUBJECT, DatasetDeleted.SUBJECT),
            handler=on_dataset,
        ),
    )

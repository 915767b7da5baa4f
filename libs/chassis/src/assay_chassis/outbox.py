"""The outbox relay: the only thing that publishes events.

A change and its events are one document write (``store.Change.events``). The relay publishes what lies in the
outboxes, awaits the acknowledgement, then removes the entry by its id. It is woken after every write of this
process and sweeps on a timer for what other processes, or a crash, left behind. An event may be published
twice (crash between acknowledgement and removal), under the same ``Nats-Msg-Id``.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from assay_chassis.bus import Bus
from assay_chassis.errors import Unavailable
from assay_chassis.store import Collection, Document, OutboxEntry, Store
from assay_chassis.tasks import end
from assay_chassis.telemetry import Telemetry
from assay_contracts.envelope import Event, envelop

logger = logging.getLogger(__name__)

BATCH = 100


class EventWriter:
    """Turns events into outbox entries in the name of one service."""

    def __init__(self, *, service_name: str, telemetry: Telemetry) -> None:
        self._source = f"/assay/{service_name}"
        self._telemetry = telemetry

    def __call__(self, *events: Event) -> tuple[OutboxEntry, ...]:
        """Entries for ``store.Change.events`` or ``Collection.insert(events=...)``."""
        entries = []
        for event in events:
            envelope = envelop(event, source=self._source)
            entries.append(
                OutboxEntry(
                    id=envelope.id,
                    subject=event.SUBJECT,
                    payload=envelope.model_dump_json(),
                    created_at=time.time(),
                    traceparent=self._telemetry.traceparent(),
                )
            )
        return tuple(entries)


class OutboxRelay:
    """Publishes the outboxes of a service's collections.

    Attributes:
        depth: events found waiting at the last sweep.
        lag: age of the oldest of them, seconds.
    """

    def __init__(self, *, store: Store, bus: Bus, interval: float = 1.0) -> None:
        self._store = store
        self._bus = bus
        self._interval = interval
        self._wakeup = asyncio.Event()
        self.depth = 0
        self.lag = 0.0
        store.on_events(self._wakeup.set)

    async def run(self) -> None:
        """Relay until cancelled. An unreachable bus or store only delays."""
        while True:
            self._wakeup.clear()
            try:
                busy = await self.sweep()
            except Unavailable as error:
                logger.warning("outbox relay waits: %s", error)
                busy = False
                await asyncio.sleep(0.5)
            if not busy:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._interval):
                        await self._wakeup.wait()

    async def sweep(self) -> bool:
        """Publish what is waiting now, in order within each document.

        Returns:
            Whether more may be waiting.

        Raises:
            Unavailable: the bus or the store does not answer; nothing is lost.
        """
        depth, oldest, more = 0, time.time(), False
        found: list[tuple[Collection, list[Document]]] = []
        for collection in tuple(self._store.collections.values()):
            documents = await collection.pending_outboxes(limit=BATCH)
            more = more or len(documents) == BATCH
            found.append((collection, documents))
            for document in documents:
                for entry in document.get("outbox", ()):
                    depth += 1
                    oldest = min(oldest, entry["created_at"])
        self.depth, self.lag = depth, time.time() - oldest if depth else 0.0
        for collection, documents in found:
            for document in documents:
                await self._relay(collection, document)
        return more

    async def _relay(self, collection: Collection, document: Document) -> None:
        for entry in document.get("outbox", ()):
            await self._bus.publish(
                entry["subject"],
                entry["payload"].encode(),
                message_id=entry["id"],
                traceparent=entry["traceparent"],
            )
            await collection.outbox_sent(document["_id"], entry["id"])


@asynccontextmanager
async def relaying(*, store: Store, bus: Bus, telemetry: Telemetry) -> AsyncIterator[OutboxRelay]:
    """Run a relay in the background; at the end it makes one last sweep."""
    relay = OutboxRelay(store=store, bus=bus)
    telemetry.gauge(
        "assay.outbox.depth", unit="{event}", description="events waiting", read=lambda: float(relay.depth)
    )
    telemetry.gauge(
        "assay.outbox.lag", unit="s", description="age of the oldest waiting event", read=lambda: relay.lag
    )
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        await end(task)
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(3):
                await relay.sweep()

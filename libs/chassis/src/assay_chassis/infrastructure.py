"""What every service opens at start and closes at the end, in the right order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from assay_chassis.bus import Bus, Subscription, open_bus, read_limits
from assay_chassis.errors import Unavailable
from assay_chassis.outbox import EventWriter, OutboxRelay, relaying
from assay_chassis.settings import ServiceSettings
from assay_chassis.store import Store, open_store
from assay_chassis.tasks import end
from assay_chassis.telemetry import Telemetry

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Infrastructure:
    """The open connections of one service.

    Attributes:
        store: the service's own database.
        bus: NATS.
        relay: publishes the outboxes of ``store``.
        events: turns events into outbox entries in the service's name.
        telemetry: traces and metrics.
    """

    store: Store
    bus: Bus
    relay: OutboxRelay
    events: EventWriter
    telemetry: Telemetry

    async def readiness(self) -> Mapping[str, Any]:
        """Details for ``/readyz``.

        Raises:
            Unavailable: the store or the bus does not answer.
        """
        await self.store.ping()
        if not self.bus.is_connected:
            raise Unavailable("the bus is not connected")
        return {"outbox": {"depth": self.relay.depth, "lag_s": round(self.relay.lag, 3)}}


@asynccontextmanager
async def open_infrastructure(
    settings: ServiceSettings, *, service_name: str, telemetry: Telemetry
) -> AsyncIterator[Infrastructure]:
    """Connect to the store and the bus, create the streams, start the outbox relay.

    The database has the service's name with underscores, after ``settings.database_prefix``.

    Raises:
        Unavailable: the store or the bus does not answer.
    """
    async with (
        open_store(
            settings.mongo_uri,
            database=settings.database_prefix + service_name.replace("-", "_"),
            patience=settings.store_patience_s,
        ) as store,
        open_bus(settings.nats_url, name=service_name, telemetry=telemetry) as bus,
    ):
        await bus.ensure_streams(limits=read_limits(settings.streams_file))
        async with relaying(store=store, bus=bus, telemetry=telemetry) as relay:
            yield Infrastructure(
                store=store,
                bus=bus,
                relay=relay,
                events=EventWriter(service_name=service_name, telemetry=telemetry),
                telemetry=telemetry,
            )


@asynccontextmanager
async def in_background(*jobs: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run endless jobs beside the block. A job's failure is logged when it happens and raised at the end."""
    tasks = [asyncio.create_task(job) for job in jobs]
    for task in tasks:
        task.add_done_callback(_report)
    try:
        yield
    finally:
        await end(*tasks)


@asynccontextmanager
async def consuming(bus: Bus, subscriptions: Sequence[Subscription]) -> AsyncIterator[None]:
    """Deliver messages to the subscriptions' handlers beside the block."""
    async with in_background(*(bus.run(subscription) for subscription in subscriptions)):
        yield


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("background job %s ended: %r", task.get_coro(), error, exc_info=error)

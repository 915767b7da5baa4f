"""NATS JetStream behind a narrow interface. The only module that knows the driver.

A message handler returns, and the message is acknowledged; raises ``Reject``, and the message goes to the
dead-letter stream; raises anything else, and the message comes back after a delay that grows with the number
of its deliveries, until it goes to the dead-letter stream, too.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.client import JetStreamContext
from nats.js.errors import BadRequestError, NotFoundError
from opentelemetry.trace import SpanKind

from assay_chassis.errors import Reject, Unavailable
from assay_chassis.tasks import end
from assay_chassis.telemetry import TRACEPARENT, Telemetry
from assay_contracts.envelope import Envelope, Event
from assay_contracts.registry import STREAMS, MalformedEvent, Stream, UnknownEvent, parse

logger = logging.getLogger(__name__)

Handler = Callable[[Envelope, Event], Awaitable[None]]

MESSAGE_ID = "Nats-Msg-Id"
DEAD_PREFIX = "assay.dead"


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Limits of one stream, from ``deploy/nats/streams.json``."""

    replicas: int = 1
    max_age_days: float = 30.0
    max_bytes: int = 1 << 30
    duplicate_window_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Subscription:
    """A durable pull consumer.

    Attributes:
        stream: name of the stream.
        durable: name of the consumer; instances of one service share it, so each message goes to one.
        subjects: subject filters.
        handler: called for every message.
        concurrency: messages handled at the same time.
        ack_wait: seconds after which an unacknowledged message is delivered again; a running handler keeps
            its message by itself.
        tries: deliveries before the message goes to the dead-letter stream.
        backoff: seconds before each next delivery; the last one repeats.
    """

    stream: str
    durable: str
    subjects: Sequence[str]
    handler: Handler
    concurrency: int = 1
    ack_wait: float = 30.0
    tries: int = 20
    backoff: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


def read_limits(path: Path | None) -> dict[str, StreamLimits]:
    """Read stream limits, ``{"default": {...}, "ASSAY_EVAL": {...}}``; built-in ones if ``path`` is ``None``.

    Raises:
        ValueError: the file names an unknown stream or limit.
    """
    if path is None:
        return {}
    known = {"default", *(stream.name for stream in STREAMS)}
    table = json.loads(path.read_text())
    if unknown := set(table) - known:
        raise ValueError(f"{path} names streams that do not exist: {', '.join(sorted(unknown))}")
    try:
        return {name: StreamLimits(**limits) for name, limits in table.items()}
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error


class Bus:
    """A connection to NATS that survives the server's restarts."""

    def __init__(self, connection: Client, *, telemetry: Telemetry) -> None:
        self._connection = connection
        self._jetstream: JetStreamContext = connection.jetstream(timeout=5)
        self._telemetry = telemetry

    @property
    def is_connected(self) -> bool:
        """Whether the connection is up now."""
        return bool(self._connection.is_connected)

    async def ensure_streams(
        self, streams: Sequence[Stream] = STREAMS, *, limits: Mapping[str, StreamLimits] | None = None
    ) -> None:
        """Create the streams, or bring existing ones to the wanted limits. Idempotent."""
        table = limits or {}
        for stream in streams:
            limit = table.get(stream.name) or table.get("default") or StreamLimits()
            config = StreamConfig(
                name=stream.name,
                subjects=list(stream.subjects),
                retention=RetentionPolicy.WORK_QUEUE if stream.work_queue else RetentionPolicy.LIMITS,
                storage=StorageType.FILE,
                num_replicas=limit.replicas,
                max_age=limit.max_age_days * 86400,
                max_bytes=limit.max_bytes,
                duplicate_window=limit.duplicate_window_s,
            )
            try:
                await self._jetstream.stream_info(stream.name)
            except NotFoundError:
                with suppress(BadRequestError):  # another service created it in between
                    await self._jetstream.add_stream(config)
                    continue
            await self._jetstream.update_stream(config)

    async def publish(
        self, subject: str, payload: bytes, *, message_id: str, traceparent: str | None = None
    ) -> None:
        """Publish and wait until the stream has stored the message. A repeated ``message_id`` is stored once.

        Raises:
            Unavailable: no acknowledgement came; publish again with the same ``message_id``.
        """
        headers = {MESSAGE_ID: message_id}
        if traceparent:
            headers[TRACEPARENT] = traceparent
        try:
            await self._jetstream.publish(subject, payload, timeout=5, headers=headers)
        except (NatsError, TimeoutError, OSError) as error:
            raise Unavailable(f"the bus did not take {subject}: {error!r}") from error

    async def run(self, subscription: Subscription) -> None:
        """Deliver messages to the handler until cancelled; then let running handlers finish.

        Survives the loss of the server: the consumer is looked up again and goes on where it was.
        """
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                try:
                    pull = await self._bind(subscription)
                    await self._pump(subscription, pull, running)
                except (NatsError, TimeoutError, OSError) as error:
                    logger.warning("consumer %s lost the bus (%r); trying again", subscription.durable, error)
                    await asyncio.sleep(0.5)
        finally:
            if running:
                await asyncio.wait(running, timeout=10)
            await end(*running)

    async def _bind(self, subscription: Subscription) -> JetStreamContext.PullSubscription:
        await self._jetstream.add_consumer(
            subscription.stream,
            ConsumerConfig(
                durable_name=subscription.durable,
                filter_subjects=list(subscription.subjects),
                ack_policy=AckPolicy.EXPLICIT,
                deliver_policy=DeliverPolicy.ALL,
                ack_wait=subscription.ack_wait,
                max_deliver=-1,
                max_ack_pending=max(64, subscription.concurrency * 4),
            ),
        )
        return await self._jetstream.pull_subscribe_bind(
            consumer=subscription.durable, stream=subscription.stream
        )

    async def _pump(
        self,
        subscription: Subscription,
        pull: JetStreamContext.PullSubscription,
        running: set[asyncio.Task[None]],
    ) -> None:
        idle = 0
        try:
            while True:
                if len(running) >= subscription.concurrency:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    continue
                try:
                    messages = await pull.fetch(subscription.concurrency - len(running), timeout=2)
                except TimeoutError:
                    idle += 1
                    if idle % 5 == 0:  # the consumer may be gone with a server that lost its disk
                        await pull.consumer_info()
                    continue
                idle = 0
                for message in messages:
                    task = asyncio.create_task(self._deliver(subscription, message))
                    running.add(task)
                    task.add_done_callback(running.discard)
        finally:
            with suppress(NatsError):
                await pull.unsubscribe()

    async def _deliver(self, subscription: Subscription, message: Msg) -> None:
        keeper = asyncio.create_task(_keep(message, every=subscription.ack_wait / 3))
        try:
            with self._telemetry.span(
                f"receive {message.subject}",
                kind=SpanKind.CONSUMER,
                traceparent=(message.headers or {}).get(TRACEPARENT),
                attributes={"messaging.system": "nats", "messaging.consumer": subscription.durable},
            ):
                await self._judge(subscription, message)
        except (NatsError, Unavailable, OSError) as error:
            # No verdict reached the server, so it delivers the message again after ack_wait.
            logger.warning("no verdict on %s could be given: %r", message.subject, error)
        finally:
            await end(keeper)

    async def _judge(self, subscription: Subscription, message: Msg) -> None:
        deliveries = message.metadata.num_delivered
        try:
            envelope, event = parse(message.data)
            await subscription.handler(envelope, event)
        except (Reject, UnknownEvent, MalformedEvent) as error:
            await self._bury(subscription, message, reason=f"{type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001 - the class of the exception is the verdict
            if deliveries >= subscription.tries:
                await self._bury(subscription, message, reason=f"{deliveries} tries; the last: {error!r}")
                return
            delay = subscription.backoff[min(deliveries, len(subscription.backoff)) - 1]
            logger.info("%s on %s, again in %g s: %r", subscription.durable, message.subject, delay, error)
            await message.nak(delay=delay)
        else:
            await message.ack()

    async def _bury(self, subscription: Subscription, message: Msg, *, reason: str) -> None:
        logger.error("%s gives up on %s: %s", subscription.durable, message.subject, reason)
        sequence = message.metadata.sequence.stream
        await self._jetstream.publish(
            f"{DEAD_PREFIX}.{subscription.stream}.{subscription.durable}",
            message.data,
            timeout=5,
            headers={
                **(message.headers or {}),
                MESSAGE_ID: f"dead-{subscription.stream}-{subscription.durable}-{sequence}",
                "Assay-Dead-Subject": message.subject,
                "Assay-Dead-Reason": " ".join(reason.split())[:1000],
            },
        )
        await message.term()

    async def dead_letters(self, *, limit: int = 100) -> list[dict[str, Any]]:
        """The oldest dead letters: their subject, reason and payload."""
        letters: list[dict[str, Any]] = []
        info = await self._jetstream.stream_info("ASSAY_DEAD")
        for sequence in range(info.state.first_seq, info.state.last_seq + 1):
            if len(letters) == limit:
                break
            with suppress(NotFoundError):
                message = await self._jetstream.get_msg("ASSAY_DEAD", sequence)
                headers = message.headers or {}
                letters.append(
                    {
                        "subject": headers.get("Assay-Dead-Subject"),
                        "reason": headers.get("Assay-Dead-Reason"),
                        "consumer": message.subject,
                        "payload": message.data or b"",
                    }
                )
        return letters


async def _keep(message: Msg, *, every: float) -> None:
    while True:
        await asyncio.sleep(every)
        with suppress(NatsError):
            await message.in_progress()


@asynccontextmanager
async def open_bus(url: str, *, name: str, telemetry: Telemetry) -> AsyncIterator[Bus]:
    """Connect to NATS; the connection is restored by itself for as long as the bus is open.

    Raises:
        Unavailable: no server answered within some 10 seconds.
    """

    async def on_error(error: Exception) -> None:
        logger.warning("bus connection %s: %r", name, error)

    try:
        connection = await nats.connect(
            url,
            name=name,
            error_cb=on_error,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.25,
            connect_timeout=2,
            ping_interval=10,
        )
    except (NatsError, TimeoutError, OSError) as error:
        raise Unavailable(f"no NATS server answers at {url}: {error!r}") from error
    try:
        yield Bus(connection, telemetry=telemetry)
    finally:
        with suppress(NatsError, TimeoutError):
            await asyncio.wait_for(connection.close(), timeout=5)

"""Every event there is, by subject, and the streams that keep them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pydantic import ValidationError

from assay_contracts import access_events, dataset_events, eval_events, method_events, metrics_events, work
from assay_contracts.envelope import Envelope, Event

FACTS: Final[tuple[type[Event], ...]] = (
    dataset_events.DatasetCreated,
    dataset_events.DatasetDeleted,
    dataset_events.SnapshotReady,
    dataset_events.SnapshotDeleted,
    dataset_events.IngestFailed,
    dataset_events.IngestCancelled,
    method_events.MethodVersionCreated,
    eval_events.ArtifactRegistered,
    eval_events.RunQueued,
    eval_events.RunProvisioning,
    eval_events.RunStarted,
    eval_events.RunResponded,
    eval_events.RunSucceeded,
    eval_events.RunFailed,
    eval_events.RunCancelled,
    eval_events.SamplesCompleted,
    metrics_events.RunScored,
    metrics_events.ScoringFailed,
    metrics_events.ScoringCompleted,
    metrics_events.ComparisonCreated,
    metrics_events.PolicyCreated,
    metrics_events.DecisionMade,
    metrics_events.RunSettled,
    access_events.KeyCreated,
    access_events.KeyRotated,
    access_events.KeyRevoked,
)
"""Events that other teams may read."""

WORK: Final[tuple[type[Event], ...]] = (work.RunRequested, work.IngestRequested)
"""Messages from a service to its own workers."""

EVENTS: Final[Mapping[str, type[Event]]] = MappingProxyType(
    {event.SUBJECT: event for event in (*FACTS, *WORK)}
)
"""Every message class by its subject."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A JetStream stream and what it keeps.

    Attributes:
        name: stream name.
        subjects: subject filters.
        work_queue: a message is removed once a worker has acknowledged it.
    """

    name: str
    subjects: tuple[str, ...]
    work_queue: bool = False


STREAMS: Final[tuple[Stream, ...]] = (
    Stream("ASSAY_DATASET", ("assay.dataset.>",)),
    Stream("ASSAY_METHOD", ("assay.method.>",)),
    Stream("ASSAY_EVAL", ("assay.eval.>",)),
    Stream("ASSAY_METRICS", ("assay.metrics.>",)),
    Stream("ASSAY_ACCESS", ("assay.access.>",)),
    Stream("ASSAY_WORK", ("assay.work.>",), work_queue=True),
    Stream("ASSAY_DEAD", ("assay.dead.>",)),
)


class UnknownEvent(ValueError):
    """A message names an event type that this version does not know."""


class MalformedEvent(ValueError):
    """A message is not a CloudEvents envelope, or its data does not fit its type."""


def parse(payload: bytes) -> tuple[Envelope, Event]:
    """Read a message.

    Args:
        payload: CloudEvents structured JSON.

    Raises:
        UnknownEvent: no class is registered for the envelope's type.
        MalformedEvent: the envelope or the data is not valid; the message says where.
    """
    try:
        envelope = Envelope.model_validate_json(payload)
    except ValidationError as error:
        raise MalformedEvent(f"not a CloudEvents envelope: {error}") from error
    event_class = EVENTS.get(envelope.type)
    if event_class is None:
        raise UnknownEvent(f"no event of type {envelope.type!r} is known here")
    try:
        return envelope, event_class.model_validate(envelope.data)
    except ValidationError as error:
        raise MalformedEvent(f"data of {envelope.type} is not valid: {error}") from error


def stream_of(subject: str) -> str:
    """Name of the stream that keeps ``subject``.

    Raises:
        UnknownEvent: no stream keeps it.
    """
    for stream in STREAMS:
        if any(subject.startswith(pattern.removesuffix(">")) for pattern in stream.subjects):
            return stream.name
    raise UnknownEvent(f"no stream keeps subject {subject!r}")

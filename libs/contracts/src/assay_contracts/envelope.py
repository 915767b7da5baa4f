"""CloudEvents 1.0 envelope, structured JSON mode, and the base class of every event.

Source: CloudEvents specification 1.0.2, sections "Context Attributes" and "JSON Event Format".
"""

from datetime import UTC, datetime
from typing import Any, ClassVar, Literal
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class Event(BaseModel):
    """A fact in the past tense. A subclass is one version of one event.

    Inside a version only optional fields may be added, so readers ignore fields that they do not know.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", json_schema_serialization_defaults_required=True)

    SUBJECT: ClassVar[str]
    """NATS subject and CloudEvents type: ``assay.<owner>.<aggregate>.<past participle>.v<N>``."""

    def aggregate_id(self) -> str:
        """Identifier of the thing that changed; becomes the CloudEvents ``subject`` attribute."""
        raise NotImplementedError


class Envelope(BaseModel):
    """One event as it travels: CloudEvents attributes around ``data``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(min_length=1)
    source: str = Field(min_length=1)
    type: str = Field(min_length=1)
    subject: str
    time: AwareDatetime
    datacontenttype: Literal["application/json"] = "application/json"
    data: dict[str, Any]


def envelop(event: Event, *, source: str, event_id: str | None = None) -> Envelope:
    """Wrap ``event``.

    Args:
        event: the fact.
        source: the service that says it, for example ``/assay/eval-svc``.
        event_id: identifier that stays the same when the same fact is told again; a random one if ``None``.
    """
    return Envelope(
        id=event_id or uuid4().hex,
        source=source,
        type=event.SUBJECT,
        subject=event.aggregate_id(),
        time=datetime.now(UTC),
        data=event.model_dump(mode="json"),
    )

"""What the service and the ingest process say to each other: JSON, one object a line."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HubTask(_Message):
    """What to read, and where to put it. The first line that the child gets.

    Attributes:
        token: the hub's token; travels here only, never in a command line or an environment.
        directory: empty directory for the canonical files.
        max_rows: most rows of a split.
        max_bytes: most bytes to download, and most bytes of a split in memory format.
        max_memory_bytes: resident memory of the child.
        commit: what an earlier attempt has resolved the revision to; this one reads the same.
        patience_s: how long to wait altogether while the hub asks to come back later.
    """

    repo_id: str
    subset: str | None
    split: str
    revision: str
    fewshot_split: str | None
    token: str | None
    directory: str
    max_rows: int
    max_bytes: int
    max_memory_bytes: int
    commit: str | None = None
    patience_s: float = 120.0


class Progress(_Message):
    """How far it is; numbers are of the phase, totals are ``None`` where they are not known.

    ``commit`` is there from the moment that the revision is resolved.
    """

    kind: Literal["progress"] = "progress"
    phase: Literal["resolving", "downloading", "converting", "storing"]
    rows: int = 0
    rows_total: int | None = None
    bytes: int = 0
    bytes_total: int | None = None
    commit: str | None = None


class HubColumn(_Message):
    """A column as the snapshot shows it."""

    name: str
    type: str
    nulls: int
    examples: list[str | int | float | bool]


class HubPart(_Message):
    """One split as a canonical file in the task's directory."""

    file: str
    split: str
    digest: str
    rows: int
    bytes: int
    columns: list[HubColumn]


class HubResult(_Message):
    """The end of a task that worked. ``repo_id`` and ``subset`` are what the hub calls them."""

    kind: Literal["result"] = "result"
    repo_id: str
    subset: str | None
    commit: str
    evaluation: HubPart
    fewshot: HubPart | None


class HubFailure(_Message):
    """The end of a task that did not. ``hints`` lists what could be asked for instead."""

    kind: Literal["failure"] = "failure"
    code: str
    message: str
    hints: list[str] = []


HubMessage = Annotated[Progress | HubResult | HubFailure, Field(discriminator="kind")]

MESSAGES: TypeAdapter[HubMessage] = TypeAdapter(HubMessage)
"""Reads a line of the child."""

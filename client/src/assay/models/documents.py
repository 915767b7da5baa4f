"""What all documents of the API have in common.

Only the fields that the client reads are named. Whatever else the platform sends is kept, so that a newer
platform loses nothing on its way through an older client: ``model.document()`` is the JSON that came.
"""

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field


class Document(BaseModel):
    """A JSON object of the API."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def document(self) -> dict[str, Any]:
        """The JSON object as the platform sent it."""
        return self.model_dump(mode="json", exclude_unset=True)


class NamedDocument(Document):
    """A resource of the API: its id is unique, its name is for people."""

    id: str
    name: str


class Fault(Document):
    """One thing that is wrong; see ``AssayError.faults``. Lines and columns count from 1, rows from 0."""

    message: str
    field: str | None = None
    line: int | None = None
    column: int | None = None
    row: int | None = None


class Problem(Document):
    """An error of the platform (RFC 9457 problem details)."""

    title: str = "Error"
    status: int | None = None
    detail: str | None = None
    request_id: str | None = None
    errors: list[Fault] = Field(default_factory=list)


Item = TypeVar("Item", bound=Document)


class Page(Document, Generic[Item]):
    """A part of a list, newest first; ``next_cursor`` asks for the next part."""

    items: list[Item]
    next_cursor: str | None = None

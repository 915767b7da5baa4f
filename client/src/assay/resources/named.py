"""Resources with a name: an id or a name will do wherever one is asked for."""

import re
from collections.abc import Iterator
from typing import ClassVar, Generic, TypeVar

from assay.errors import NotFound, RequestRefused
from assay.models import NamedDocument
from assay.transport import Query, Transport

Named = TypeVar("Named", bound=NamedDocument)

_ID = re.compile(r"[a-z]+_[0-9a-hjkmnp-tv-z]{26}")
_SHOWN_IDS = 5


class NamedResources(Generic[Named]):
    """Lists and finds the resources of one kind.

    A subclass says which: ``path`` of their list, ``prefix`` of their ids, ``kind`` in words, and
    ``listing``, the command that lists them.
    """

    path: ClassVar[str]
    prefix: ClassVar[str]
    kind: ClassVar[str]
    listing: ClassVar[str]

    def __init__(self, transport: Transport, model: type[Named]) -> None:
        self._transport = transport
        self._model = model

    def get(self, reference: str) -> Named:
        """The one with that id or name.

        Raises:
            NotFound: there is none; the message says how to list them.
            RequestRefused: several have the name; the message has their ids.
        """
        if is_id(reference, prefix=self.prefix):
            return self._transport.get(f"{self.path}/{reference}", self._model)
        # More than are shown, to know whether there are more.
        matches = list(self._pages({"name": reference}, limit=_SHOWN_IDS + 1))
        if not matches:
            raise NotFound(f"there is no {self.kind} called {reference!r}; `{self.listing}` lists them")
        if len(matches) > 1:
            ids = ", ".join(match.id for match in matches[:_SHOWN_IDS])
            several, more = (len(matches), "") if len(matches) <= _SHOWN_IDS else ("several", ", ...")
            raise RequestRefused(f"{several} {self.kind}s are called {reference!r}; use an id: {ids}{more}")
        return matches[0]

    def list(
        self, *, name: str | None = None, search: str | None = None, limit: int | None = None
    ) -> Iterator[Named]:
        """All of them, newest first; those of exactly that ``name``, or with ``search`` in their name."""
        return self._pages({"name": name, "search": search}, limit=limit)

    def _pages(self, query: Query, *, limit: int | None) -> Iterator[Named]:
        return self._transport.pages(self.path, self._model, query=query, limit=limit)


def is_id(text: str, *, prefix: str) -> bool:
    """Whether ``text`` has the form of an id such as ``run_`` and 26 letters and digits."""
    return text.startswith(f"{prefix}_") and _ID.fullmatch(text) is not None

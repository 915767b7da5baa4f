"""Names and ids: either will do wherever a resource is named."""

import re
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from assay.errors import NotFound, RequestRefused


class Named(Protocol):
    """What has an id and a name."""

    @property
    def id(self) -> str:
        """The id, unique."""
        ...

    @property
    def name(self) -> str:
        """The name."""
        ...


Resource = TypeVar("Resource", bound=Named)

_ID = re.compile(r"(?:ds|snap|mth|art|run|cmp)_[0-9a-hjkmnp-tv-z]{26}")


def is_id(text: str, *, prefix: str) -> bool:
    """Whether ``text`` has the form of an id such as ``run_`` and 26 letters and digits."""
    return text.startswith(f"{prefix}_") and _ID.fullmatch(text) is not None


def only_one(found: Iterator[Resource], *, kind: str, name: str, listing: str) -> Resource:
    """The one resource called ``name``.

    Raises:
        NotFound: there is none; the message says how to list them.
        RequestRefused: there are several; the message has their ids.
    """
    matches = list(found)
    if not matches:
        raise NotFound(f"there is no {kind} called {name!r}; `{listing}` lists them")
    if len(matches) > 1:
        ids = ", ".join(match.id for match in matches[:5])
        more = ", ..." if len(matches) > 5 else ""
        raise RequestRefused(f"{len(matches)} {kind}s are called {name!r}; use an id: {ids}{more}")
    return matches[0]


def resolve(
    reference: str,
    *,
    prefix: str,
    by_id: Callable[[str], Resource],
    by_name: Callable[[str], Resource],
) -> Resource:
    """The resource whose id or name is ``reference``."""
    return by_id(reference) if is_id(reference, prefix=prefix) else by_name(reference)

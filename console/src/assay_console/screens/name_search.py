"""What is typed into the search boxes of lists."""

from collections.abc import Mapping

_MOST_CHARACTERS = 200


def name_search(typed: str) -> Mapping[str, str]:
    """The query of a list of what has ``typed`` in its name, as far as the API takes it."""
    return {"search": typed.replace("\0", "").strip()[:_MOST_CHARACTERS]}

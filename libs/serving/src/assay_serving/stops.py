"""Cutting at stop strings, in one place so that all backends agree."""

from collections.abc import Sequence
from typing import NamedTuple


class StopCut(NamedTuple):
    """Text before the earliest stop string, and that string; `match` is empty where none occurs."""

    text: str
    match: str


def cut_at_earliest_stop(text: str, stops: Sequence[str]) -> StopCut:
    """Cut `text` before the stop string that begins first; of two that begin together the longer counts.

    The whole text is searched, so a stop string that spans tokens or pieces is found. Empty stop strings are
    not allowed: they would match everywhere.
    """
    found = [(position, -len(stop), stop) for stop in stops if (position := text.find(stop)) >= 0]
    if not found:
        return StopCut(text, "")
    position, _, stop = min(found)
    return StopCut(text[:position], stop)

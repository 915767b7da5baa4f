"""Pairing the items of two runs by content, never by position."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class ItemKey(NamedTuple):
    """Content of an item: sha256 of its document, of its rendered prompt and of its target; and its task.

    The same question may be in two tasks of a group, where it counts for each.
    """

    doc_hash: str
    prompt_hash: str
    target_hash: str
    task: str = ""


class Pair(NamedTuple):
    """Positions of an item in the baseline's and in the candidate's sequence of items."""

    baseline: int
    candidate: int


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which items of two runs belong together.

    Attributes:
        pairs: in the order of the baseline's items.
        baseline_only: positions of the baseline's items without a partner.
        candidate_only: positions of the candidate's items without a partner.
        same_document_only: items without a partner though the other run has the document left over, too: the
            prompt or the target differs.
    """

    pairs: list[Pair]
    baseline_only: list[int]
    candidate_only: list[int]
    same_document_only: int

    @property
    def fraction(self) -> float:
        """Share of the larger run's items that have a partner; 0 when there are no items."""
        larger = len(self.pairs) + max(len(self.baseline_only), len(self.candidate_only))
        return len(self.pairs) / larger if larger else 0.0


def pair_items(baseline: Sequence[ItemKey], candidate: Sequence[ItemKey]) -> Pairing:
    """Pair equal keys; where a key occurs several times, in the order given, as far as both have it."""
    waiting: dict[ItemKey, list[int]] = defaultdict(list)
    for position in range(len(candidate) - 1, -1, -1):
        waiting[candidate[position]].append(position)
    pairs: list[Pair] = []
    baseline_only: list[int] = []
    for position, key in enumerate(baseline):
        partners = waiting.get(key)
        if partners:
            pairs.append(Pair(position, partners.pop()))
        else:
            baseline_only.append(position)
    candidate_only = sorted(position for partners in waiting.values() for position in partners)
    return Pairing(
        pairs=pairs,
        baseline_only=baseline_only,
        candidate_only=candidate_only,
        same_document_only=_same_documents(
            [baseline[position].doc_hash for position in baseline_only],
            [candidate[position].doc_hash for position in candidate_only],
        ),
    )


def _same_documents(baseline: Sequence[str], candidate: Sequence[str]) -> int:
    left: dict[str, int] = defaultdict(int)
    for doc_hash in candidate:
        left[doc_hash] += 1
    found = 0
    for doc_hash in baseline:
        if left[doc_hash]:
            left[doc_hash] -= 1
            found += 1
    return found

"""Pairing the items of two runs by content, never by position; and the values of pairs.

An item is a task, a document, its rendered prompt and its target. The same question may be in two tasks of a
group, where it counts for each. Where an item occurs several times, its occurrences are paired in the order
of their documents, as far as both runs have them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

from assay_evidence.tables import RunEvidence

Positions = NDArray[numpy.int64]
Words = NDArray[numpy.uint64]

_ITEM = ("doc_hash", "prompt_hash", "target_hash")
_MULTIPLIER = numpy.uint64(0x9E3779B97F4A7C15)
_SHIFT = numpy.uint64(29)


@dataclass(frozen=True, slots=True, eq=False)
class Pairing:
    """Which samples of two runs belong together; all are positions in their run's evidence.

    Attributes:
        baseline, candidate: the two of each pair, in the order of the baseline's documents.
        baseline_only, candidate_only: samples without a partner.
        prompt_differs: documents left over in both runs, with another prompt.
        target_differs: documents left over in both runs, with the same prompt and another target.
        item: number of each pair's item; equal where an item occurs several times.
    """

    baseline: Positions
    candidate: Positions
    baseline_only: Positions
    candidate_only: Positions
    prompt_differs: int
    target_differs: int
    item: NDArray[numpy.int64]

    def __len__(self) -> int:
        return len(self.baseline)

    def kept(self, keep: NDArray[numpy.bool_]) -> "Pairing":
        """With some of the pairs only; what is left over stays as it is."""
        if keep.all():
            return self
        pairs = {name: getattr(self, name)[keep] for name in ("baseline", "candidate", "item")}
        return replace(self, **pairs)

    @property
    def repeated(self) -> int:
        """Pairs beyond the first of their item; they are not independent of it."""
        return len(self) - int(numpy.count_nonzero(numpy.bincount(self.item)))


@dataclass(frozen=True, slots=True, eq=False)
class PairedValues:
    """Values of one metric over the pairs that have it on both sides.

    Attributes:
        at: those pairs, as positions in the pairing, ascending.
        baseline, candidate: one finite number for each of ``at``.
        not_finite: pairs left out because a value is not a finite number.
    """

    at: Positions
    baseline: NDArray[numpy.float64]
    candidate: NDArray[numpy.float64]
    not_finite: int

    def __len__(self) -> int:
        return len(self.at)

    @property
    def changed(self) -> NDArray[numpy.bool_]:
        """Whether the two values differ."""
        changed: NDArray[numpy.bool_] = self.baseline != self.candidate
        return changed


def paired_values(
    baseline: RunEvidence, candidate: RunEvidence, pairing: Pairing, *, metric: str
) -> PairedValues | None:
    """The values of ``metric``; ``None`` where a run has no such values."""
    first, second = baseline.metric(metric), candidate.metric(metric)
    if first is None or second is None:
        return None
    at = numpy.flatnonzero(first.present[pairing.baseline] & second.present[pairing.candidate])
    here, there = first.values[pairing.baseline[at]], second.values[pairing.candidate[at]]
    finite = numpy.isfinite(here) & numpy.isfinite(there)
    if finite.all():
        return PairedValues(at, here, there, 0)
    return PairedValues(at[finite], here[finite], there[finite], int((~finite).sum()))


class _Side(NamedTuple):
    """Some samples of a run."""

    run: RunEvidence
    at: Positions

    @classmethod
    def whole(cls, run: RunEvidence) -> "_Side":
        return cls(run, numpy.arange(len(run)))


def pair_runs(baseline: RunEvidence, candidate: RunEvidence) -> Pairing:
    """Pair the samples of two runs."""
    first, second = _Side.whole(baseline), _Side.whole(candidate)
    if (same := _same_items(first, second)) is not None:
        return same
    items = _numbered([first, second], _ITEM)
    matched = _match(*items)
    in_order = numpy.argsort(matched.baseline)
    here, there = matched.baseline[in_order], matched.candidate[in_order]
    left = _without(len(baseline), here), _without(len(candidate), there)
    rest = [_Side(baseline, left[0]), _Side(candidate, left[1])]
    other_target = _match(*_numbered(rest, ("doc_hash", "prompt_hash")))
    rest = [
        _Side(baseline, left[0][_without(len(left[0]), other_target.baseline)]),
        _Side(candidate, left[1][_without(len(left[1]), other_target.candidate)]),
    ]
    other_prompt = _match(*_numbered(rest, ("doc_hash",)))
    return Pairing(
        baseline=here,
        candidate=there,
        baseline_only=left[0],
        candidate_only=left[1],
        prompt_differs=len(other_prompt.baseline),
        target_differs=len(other_target.baseline),
        item=items[0][here],
    )


def _without(n: int, taken: Positions) -> Positions:
    left = numpy.ones(n, dtype=bool)
    left[taken] = False
    return numpy.flatnonzero(left)


class _Match(NamedTuple):
    baseline: Positions
    candidate: Positions


def _match(first: Positions, second: Positions) -> _Match:
    """Pair equal numbers; the k-th of one sequence with the k-th of the other."""
    occurrences = _occurrence(first), _occurrence(second)
    most = 1 + max((int(one.max(initial=0)) for one in occurrences), default=0)
    _, here, there = numpy.intersect1d(
        first * most + occurrences[0],
        second * most + occurrences[1],
        assume_unique=True,
        return_indices=True,
    )
    return _Match(here, there)


def _occurrence(numbers: Positions) -> Positions:
    """How many equal numbers precede each."""
    if not len(numbers):
        return numbers
    order = numpy.argsort(numbers, kind="stable")
    ordered = numbers[order]
    begins = numpy.flatnonzero(numpy.concatenate([[True], ordered[1:] != ordered[:-1]]))
    lengths = numpy.diff(numpy.append(begins, len(ordered)))
    found = numpy.empty(len(numbers), dtype=numpy.int64)
    found[order] = numpy.arange(len(ordered)) - numpy.repeat(begins, lengths)
    return found


def _same_items(first: _Side, second: _Side) -> Pairing | None:
    """The pairing of two runs of the same items in the same order, as most are; ``None`` of others."""
    if len(first.at) != len(second.at) or first.run.tasks != second.run.tasks:
        return None
    if any((getattr(first.run, name) != getattr(second.run, name)).any() for name in ("task", *_ITEM)):
        return None
    (items,) = _numbered([first], _ITEM)
    none = numpy.empty(0, dtype=numpy.int64)
    return Pairing(
        baseline=first.at,
        candidate=second.at,
        baseline_only=none,
        candidate_only=none,
        prompt_differs=0,
        target_differs=0,
        item=items,
    )


def _numbered(sides: Sequence[_Side], parts: Sequence[str]) -> list[Positions]:
    """Equal numbers for equal task and ``parts``, over all sides."""
    names = sorted({name for side in sides for name in side.run.tasks})
    words = numpy.concatenate([_content(side, names, parts) for side in sides])
    mixed = _mixed(words)
    order = numpy.argsort(mixed, kind="stable")
    is_new = mixed[order[1:]] != mixed[order[:-1]]
    same = numpy.flatnonzero(~is_new)
    if (words[order[same + 1]] != words[order[same]]).any():
        # Two contents share a mixture, which chance does not bring about: compare whole contents.
        numbers = numpy.unique(words, axis=0, return_inverse=True)[1].reshape(-1)
    else:
        numbers = numpy.empty(len(order), dtype=numpy.int64)
        numbers[order] = numpy.concatenate([[0], numpy.cumsum(is_new)])[: len(order)]
    return numpy.split(numbers, numpy.cumsum([len(side.at) for side in sides])[:-1])


def _content(side: _Side, names: list[str], parts: Sequence[str]) -> Words:
    """The task's number and the words of ``parts``, one row per sample."""
    numbers = numpy.array([names.index(name) for name in side.run.tasks], dtype=numpy.uint64)
    task = numbers[side.run.task[side.at]] if len(numbers) else numpy.empty(0, numpy.uint64)
    return numpy.column_stack([task, *(getattr(side.run, part)[side.at] for part in parts)])


def _mixed(words: Words) -> Words:
    """One number for each row; rows that differ have, but for extremely rare chance, different ones."""
    mixed = numpy.zeros(len(words), dtype=numpy.uint64)
    for column in words.T:
        mixed = (mixed ^ column) * _MULTIPLIER
        mixed ^= mixed >> _SHIFT
    return mixed

"""The table of pairs: where both samples lie, and what became of the item by each metric."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy
import pyarrow
import pyarrow.compute
from numpy.typing import NDArray

from assay_evidence.flips import CLASSES, ResponseChanges
from assay_evidence.pairing import PairedValues, Pairing
from assay_evidence.report import FlipClass
from assay_evidence.tables import RunEvidence

PAIR_COLUMNS = pyarrow.schema(
    [
        pyarrow.field("task", pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), nullable=False),
        pyarrow.field("baseline_index", pyarrow.int64(), nullable=False),
        pyarrow.field("baseline_block", pyarrow.int32(), nullable=False),
        pyarrow.field("baseline_position", pyarrow.int32(), nullable=False),
        pyarrow.field("candidate_index", pyarrow.int64(), nullable=False),
        pyarrow.field("candidate_block", pyarrow.int32(), nullable=False),
        pyarrow.field("candidate_position", pyarrow.int32(), nullable=False),
        # Where the responses part; null where they do not, or one is missing.
        pyarrow.field("first_character", pyarrow.int32()),
        pyarrow.field("first_token", pyarrow.int32()),
    ]
)
"""Columns of every table of pairs, in the order of the baseline's documents.

For each harness key (``exact_match,strict-match``) there are more: ``changed:<key>``, whether the values
differ (null: not on both sides); and of metrics of right and wrong ``flip:<key>`` (``Flip``), ``class:<key>``
(``FlipClass``, null where nothing flipped) and ``unstable:<key>`` (whether the item also changes between two
runs of the baseline's artifact; null where that is not known). A pair's values for its task and for the
group that the task is in are the same, so they share these columns.
"""


class Flip(StrEnum):
    """What became of an item from the baseline to the candidate."""

    GAINED = "gained"
    LOST = "lost"
    BOTH_RIGHT = "both_right"
    BOTH_WRONG = "both_wrong"


_FLIPS = tuple(Flip)


@dataclass(frozen=True, slots=True, eq=False)
class MetricPairs:
    """What the table says of one metric; arrays go with ``values.at``.

    Attributes:
        task, key: the metric's parts; ``task`` may be a group.
        classes: see ``flips.FlipClassifier``; ``None``: not a metric of right and wrong.
        higher_is_better: which of 0 and 1 is right; without meaning where ``classes`` is ``None``.
        unstable: whether the item changes between two runs of the baseline's artifact, where ``known``.
    """

    task: str
    key: str
    values: PairedValues
    classes: NDArray[numpy.int8] | None
    higher_is_better: bool
    unstable: NDArray[numpy.bool_] | None
    known: NDArray[numpy.bool_] | None


class PairTable:
    """Collects what metrics say, one key after the other."""

    def __init__(self, baseline: RunEvidence, candidate: RunEvidence, pairing: Pairing) -> None:
        self._runs = (baseline, candidate)
        self._pairing = pairing
        self._codes: dict[str, NDArray[numpy.int8]] = {}

    def add(self, one: MetricPairs) -> None:
        """Take in a metric; members of a group add to the same columns."""
        self._set("changed", one, one.values.changed)
        if one.classes is None:
            return
        right = 1.0 if one.higher_is_better else 0.0
        before, after = one.values.baseline == right, one.values.candidate == right
        flips = numpy.select([~before & after, before & ~after, before & after], [0, 1, 2], default=3)
        self._set("flip", one, flips)
        self._set("class", one, one.classes)
        if one.unstable is not None and one.known is not None:
            self._set("unstable", one, numpy.where(one.known, one.unstable, -1))

    def _set(self, what: str, one: MetricPairs, codes: NDArray[Any]) -> None:
        """-1 stands for null."""
        column = self._codes.setdefault(
            f"{what}:{one.key}", numpy.full(len(self._pairing), -1, dtype=numpy.int8)
        )
        column[one.values.at] = codes

    def table(self, responses: ResponseChanges) -> pyarrow.Table:
        """The whole table."""
        columns: dict[str, pyarrow.Array] = {}
        baseline, candidate = self._runs
        tasks = baseline.task[self._pairing.baseline]
        columns["task"] = pyarrow.DictionaryArray.from_arrays(
            pyarrow.array(tasks, pyarrow.int32()), pyarrow.array(baseline.tasks, pyarrow.string())
        )
        for side, run, at in (
            ("baseline", baseline, self._pairing.baseline),
            ("candidate", candidate, self._pairing.candidate),
        ):
            for name in ("index", "block", "position"):
                columns[f"{side}_{name}"] = pyarrow.array(getattr(run, name)[at])
        for name, places in (
            ("first_character", responses.first_character),
            ("first_token", responses.first_token),
        ):
            columns[name] = pyarrow.array(places.astype(numpy.int32), mask=places < 0)
        fixed = pyarrow.Table.from_arrays([columns[one.name] for one in PAIR_COLUMNS], schema=PAIR_COLUMNS)
        for name, codes in self._codes.items():
            fixed = fixed.append_column(name, _decoded(name.partition(":")[0], codes))
        return fixed


def _decoded(what: str, codes: NDArray[numpy.int8]) -> pyarrow.Array:
    missing = codes < 0
    if what in ("changed", "unstable"):
        return pyarrow.array(codes == 1, mask=missing)
    names = [one.value for one in (_FLIPS if what == "flip" else CLASSES)]
    return pyarrow.DictionaryArray.from_arrays(
        pyarrow.array(codes, mask=missing), pyarrow.array(names, pyarrow.string())
    )


def select_pairs(
    pairs: pyarrow.Table,
    *,
    metric: str,
    task: str,
    flip: Flip | None = None,
    flip_class: FlipClass | None = None,
) -> pyarrow.Table:
    """The pairs that have ``metric``, and what became of them by it.

    Args:
        pairs: a table of pairs, or a part of one.
        metric: ``<task>.<metric>,<filter>``.
        task: what was run; of a group, the group.
        flip, flip_class: only these.

    Returns:
        ``PAIR_COLUMNS`` and the four; ``flip`` and ``flip_class`` as text, null in metrics that are not of
        right and wrong.
    """
    key, member = _parts(pairs, metric, task)
    wanted: pyarrow.ChunkedArray = pairs.column(f"changed:{key}").is_valid()
    if member is not None:
        wanted = pyarrow.compute.and_(wanted, pyarrow.compute.equal(_text(pairs.column("task")), member))
    named = {"flip": f"flip:{key}", "flip_class": f"class:{key}", "unstable": f"unstable:{key}"}
    selected = pairs.select(PAIR_COLUMNS.names).append_column("changed", pairs.column(f"changed:{key}"))
    for name, column in named.items():
        if column in pairs.schema.names:
            found = pairs.column(column)
            selected = selected.append_column(name, found if name == "unstable" else _text(found))
        else:
            kind = pyarrow.bool_() if name == "unstable" else pyarrow.string()
            selected = selected.append_column(name, pyarrow.nulls(len(pairs), kind))
    for name, value in (("flip", flip), ("flip_class", flip_class)):
        if value is not None:
            fits = pyarrow.compute.equal(selected.column(name), value.value).fill_null(False)
            wanted = pyarrow.compute.and_(wanted, fits)
    return selected.filter(wanted)


def _parts(pairs: pyarrow.Table, metric: str, task: str) -> tuple[str, str | None]:
    """The metric's harness key; and its task, where that is a member of the group that was run.

    Raises:
        KeyError: the table has no such metric.
    """
    keys = [name.removeprefix("changed:") for name in pairs.schema.names if name.startswith("changed:")]
    if metric.removeprefix(f"{task}.") in keys:
        return metric.removeprefix(f"{task}."), None
    for key in sorted(keys, key=len):
        if metric.endswith(f".{key}"):
            return key, metric.removesuffix(f".{key}")
    raise KeyError(f"the pairs have no metric {metric!r}")


def _text(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    return column.cast(pyarrow.string())

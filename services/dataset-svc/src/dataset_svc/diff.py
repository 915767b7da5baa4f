"""Comparing the rows of two canonical files by their hashes.

With a key, rows with the same key are the same row, which may have changed. Without one, rows are matched by
content: of rows that occur several times the surplus counts, the last ones.

A value is the same if it is the same in JSON: ``1`` in a column of whole numbers and in one of doubles,
``null`` and a missing column or field.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from assay_chassis.errors import Fault, InvalidRequest
from dataset_svc.columns import type_name
from dataset_svc.domain.diffs import ColumnChanges, TypeChange
from dataset_svc.parquet import conform_array, read_batches
from dataset_svc.rowhash import Hashes, hashes_of

Indices = npt.NDArray[np.int64]

_BATCH_ROWS = 8192
_KEY_TYPES = (pa.types.is_string, pa.types.is_integer, pa.types.is_boolean)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows that differ, by their numbers from 0, in the order of the file that has them.

    ``changed`` and ``changed_before`` belong together.
    """

    added: Indices
    removed: Indices
    changed: Indices
    changed_before: Indices
    unchanged: int


def column_changes(before: Path, after: Path) -> ColumnChanges:
    """What differs in the columns."""
    old, new = pq.read_schema(before), pq.read_schema(after)
    both = [name for name in new.names if name in old.names]
    return ColumnChanges(
        added=tuple(name for name in new.names if name not in old.names),
        removed=tuple(name for name in old.names if name not in new.names),
        retyped=tuple(
            TypeChange(name, type_name(old.field(name).type), type_name(new.field(name).type))
            for name in both
            if old.field(name).type != new.field(name).type
        ),
    )


def compare(before: Path, after: Path, *, key: str | None) -> Comparison:
    """Compare all rows. Memory: a row group and some 32 bytes a row. Call it in a thread.

    Raises:
        InvalidRequest: ``key`` is no column of both that names each row once.
    """
    schema = _common(pq.read_schema(before), pq.read_schema(after))
    if key is None:
        return _by_content(_hashes(before, schema, schema.names), _hashes(after, schema, schema.names))
    for path in (before, after):
        _check_key(pq.read_schema(path), key)
    return _by_key(
        keys_before=_keys(before, schema, key, what="the older snapshot"),
        keys_after=_keys(after, schema, key, what="the newer snapshot"),
        rows_before=_hashes(before, schema, schema.names),
        rows_after=_hashes(after, schema, schema.names),
    )


def _by_content(before: Hashes, after: Hashes) -> Comparison:
    added, removed = _surplus(after, before), _surplus(before, after)
    none = np.empty(0, np.int64)
    return Comparison(added, removed, none, none, unchanged=len(after) - len(added))


def _surplus(these: Hashes, those: Hashes) -> Indices:
    """Places of ``these`` that ``those`` have no partner for."""
    order = np.argsort(these, kind="stable")
    ordered = these[order]
    earlier = np.arange(len(these)) - np.searchsorted(ordered, ordered)
    others = np.sort(those)
    partners = np.searchsorted(others, ordered, "right") - np.searchsorted(others, ordered)
    return np.sort(order[earlier >= partners])


def _by_key(
    *, keys_before: Hashes, keys_after: Hashes, rows_before: Hashes, rows_after: Hashes
) -> Comparison:
    order = np.argsort(keys_before, kind="stable")
    ordered = keys_before[order]
    places = np.minimum(np.searchsorted(ordered, keys_after), len(ordered) - 1)
    is_known = ordered[places] == keys_after
    partners = order[places]
    is_changed = is_known & (rows_before[partners] != rows_after)
    is_kept = np.zeros(len(keys_before), bool)
    is_kept[partners[is_known]] = True
    return Comparison(
        added=np.flatnonzero(~is_known),
        removed=np.flatnonzero(~is_kept),
        changed=np.flatnonzero(is_changed),
        changed_before=partners[is_changed],
        unchanged=int(np.count_nonzero(is_known & ~is_changed)),
    )


def _check_key(schema: pa.Schema, key: str) -> None:
    if key not in schema.names:
        names = ", ".join(schema.names[:20])
        raise _bad_key(f"there is no column {key!r} in both snapshots; one has {names}")
    if not any(fits(schema.field(key).type) for fits in _KEY_TYPES):
        raise _bad_key(
            f"column {key!r} is {type_name(schema.field(key).type)}; a key is text or a whole number"
        )


def _keys(path: Path, schema: pa.Schema, key: str, *, what: str) -> Hashes:
    keys = _hashes(path, schema, [key])
    null = hashes_of(pa.RecordBatch.from_arrays([pa.nulls(1)], names=[key]), [key])[0]
    missing = np.flatnonzero(keys == null)
    if len(missing):
        row = int(missing[0])
        raise _bad_key(f"row {row} of {what} has no value in {key!r}; take a column that all rows have", row)
    order = np.argsort(keys, kind="stable")
    again = order[1:][keys[order][1:] == keys[order][:-1]]
    if len(again):
        row = int(again.min())
        raise _bad_key(f"row {row} of {what} repeats the {key!r} of an earlier row; a key is unique", row)
    return keys


def _bad_key(message: str, row: int | None = None) -> InvalidRequest:
    return InvalidRequest(message, faults=[Fault(message=message, field="key", row=row)])


def _hashes(path: Path, schema: pa.Schema, names: list[str]) -> Hashes:
    found = [np.empty(0, np.uint64)]
    for batch in read_batches(path, rows=_BATCH_ROWS):
        present = [name for name in names if name in batch.schema.names]
        arrays = [_widened(batch.column(name), schema.field(name).type) for name in present]
        found.append(hashes_of(pa.RecordBatch.from_arrays(arrays, names=present), names))
    return np.concatenate(found)


def _widened(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_null(kind):  # the two snapshots have different kinds of value
        return array
    try:
        return conform_array(array, kind)
    except pa.ArrowInvalid:  # a whole number that a double would change is no number of the other side
        return array


def _common(first: pa.Schema, second: pa.Schema) -> pa.Schema:
    """The columns of both, in types that hold the values of both; ``null`` where there is none."""
    names = [*first.names, *(name for name in second.names if name not in first.names)]
    return pa.schema([(name, _common_of(first, second, name)) for name in names])


def _common_of(first: Any, second: Any, name: str) -> pa.DataType:
    if name not in _names(first):
        return second.field(name).type
    if name not in _names(second):
        return first.field(name).type
    return _common_type(first.field(name).type, second.field(name).type)


def _names(fields: Any) -> list[str]:
    return [field.name for field in fields]


def _common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other:
        return one
    if pa.types.is_list(one) and pa.types.is_list(other):
        inner = _common_type(one.value_type, other.value_type)
        return pa.null() if pa.types.is_null(inner) else pa.list_(inner)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        names = [*_names(one), *(name for name in _names(other) if name not in _names(one))]
        fields = [(name, _common_of(one, other, name)) for name in names]
        return pa.null() if any(pa.types.is_null(kind) for _, kind in fields) else pa.struct(fields)
    numbers = (pa.types.is_integer, pa.types.is_floating)
    if all(any(fits(kind) for fits in numbers) for kind in (one, other)):
        whole = pa.types.is_integer(one) and pa.types.is_integer(other)
        return pa.int64() if whole else pa.float64()
    return pa.null()


def rows_at(path: Path, indices: list[int]) -> list[dict[str, Any]]:
    """The rows of these numbers, in that order. Reads only the row groups they lie in."""
    found: dict[int, dict[str, Any]] = {}
    with pq.ParquetFile(path) as file:
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            wanted = sorted({index for index in indices if start <= index < end})
            if wanted:
                taken = file.read_row_group(group).take([index - start for index in wanted])
                found.update(zip(wanted, taken.to_pylist(), strict=True))
            start = end
    return [found[index] for index in indices]

"""What is said of a snapshot's columns: their types, how many rows lack a value, some examples."""

import json

import pyarrow as pa

from dataset_svc.domain.snapshots import Column, Example
from dataset_svc.parquet import conform_array

_LONGEST_EXAMPLE = 200
_EXAMPLES = 3
_LOOKED_AT = 1000


class ColumnSummaries:
    """Sees the rows batch by batch. Examples are looked for in the first 1,000 values of a column."""

    def __init__(self) -> None:
        self._values: dict[str, int] = {}
        self._examples: dict[str, list[pa.Array]] = {}

    def observe(self, batch: pa.RecordBatch) -> None:
        """Take rows into account; columns may be missing, and types may still widen later."""
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            seen = self._values.get(name, 0)
            self._values[name] = seen + len(column) - column.null_count
            examples = self._examples.setdefault(name, [])
            if seen < _LOOKED_AT and len(examples) < _EXAMPLES and column.null_count < len(column):
                _add_examples(examples, column.drop_null().slice(0, _LOOKED_AT - seen))

    def columns(self, schema: pa.Schema, *, rows: int) -> tuple[Column, ...]:
        """Description of the columns of ``schema``, which are those that were observed, of ``rows`` rows."""
        return tuple(
            Column(
                name=field.name,
                type=type_name(field.type),
                nulls=rows - self._values[field.name],
                examples=tuple(_shown(each, field.type) for each in self._examples[field.name]),
            )
            for field in schema
        )


def _add_examples(examples: list[pa.Array], column: pa.Array) -> None:
    known = [_bare(example[0].as_py()) for example in examples]
    for scalar in column:
        value = scalar.as_py()
        if _bare(value) not in known:
            known.append(_bare(value))
            # A copy: a slice would keep the whole batch in memory.
            examples.append(pa.array([value], type=column.type))
        if len(examples) == _EXAMPLES:
            break


def _bare(value: object) -> object:
    """The value without fields that are null: of a field that was not seen yet nothing is known."""
    if isinstance(value, dict):
        return {name: _bare(each) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_bare(each) for each in value]
    return value


def _shown(example: pa.Array, kind: pa.DataType) -> Example:
    value = conform_array(example, kind)[0].as_py()
    if isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_EXAMPLE else f"{text[:_LONGEST_EXAMPLE]}…"


def type_name(kind: pa.DataType) -> str:
    """``string``, ``int64``, ``double``, ``bool``, ``list<...>``, ``struct<name: ...>``, or Arrow's name."""
    if pa.types.is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{field.name}: {type_name(field.type)}' for field in kind)}>"
    return str(kind)

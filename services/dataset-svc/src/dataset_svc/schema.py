"""One type per column, inferred over all rows of a file.

The rules:

- Text, true/false, whole numbers and numbers with a fraction become ``string``, ``bool``, ``int64`` and
  ``double``; lists and objects become ``list`` and ``struct`` by the same rules inside. Text stays text: a
  date is not recognised.
- ``null`` and a missing key are the same and fit every column. A column with nothing else is ``string``.
- Whole numbers and numbers with a fraction in one column make it ``double``, unless one of the whole numbers
  has more than 53 bits and would change its value.
- Any other mixture is refused, naming the first line of each kind.

Rows come one by one from the exact parser, or by the batch from the columnar one. That takes no kind of
value which was not seen at the same place before, so the first line of each kind is always known; only whole
numbers in a column that has numbers with a fraction go unnoticed, and both are just numbers in the messages
then.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum

import pyarrow as pa

from assay_chassis.errors import Fault
from dataset_svc.columnar import has_inexact_integer
from dataset_svc.jsonl import FaultyLine, Limits, Row

_EXACT_IN_DOUBLE = 2**53
_LONGEST_NAME = 200
_NUMBERS = "numbers"


class Kind(StrEnum):
    """What a JSON value is; the value of the member is the word for it in messages."""

    TEXT = "text"
    BOOLEAN = "true/false"
    INTEGER = "whole numbers"
    FRACTION = "numbers with a fraction"
    LIST = "lists"
    OBJECT = "objects"


_KINDS: dict[type, Kind] = {
    str: Kind.TEXT,
    bool: Kind.BOOLEAN,
    int: Kind.INTEGER,
    float: Kind.FRACTION,
    list: Kind.LIST,
    dict: Kind.OBJECT,
}


class _Shape:
    """What was seen at one place of the rows."""

    __slots__ = ("fields", "first_line", "inexact_line", "item")

    def __init__(self) -> None:
        self.first_line: dict[Kind, int] = {}
        self.inexact_line: int | None = None
        self.item: _Shape | None = None
        self.fields: dict[str, _Shape] = {}


class SchemaInference:
    """Sees every row once, then says the schema or what rules one out."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._root = _Shape()
        self._field_count = 0
        self.rows = 0

    def observe(self, row: Row, *, line: int) -> None:
        """Take a row into account.

        Raises:
            FaultyLine: a name of a column cannot be used.
            TooManyColumns: there are more columns than the limit.
        """
        self.rows += 1
        self._observe_fields(self._root, row, line)

    def observe_batches(self, batches: Sequence[pa.RecordBatch]) -> bool:
        """Take rows into account that were parsed by the types of ``types_seen``.

        Returns:
            Whether they could be: if not, they were not, and have to be observed one by one.
        """
        shapes = self._root.fields
        for batch in batches:
            if any(_has_news(shapes[name], batch.column(name)) for name in batch.schema.names):
                return False
        self.rows += sum(batch.num_rows for batch in batches)
        return True

    def _observe(self, shape: _Shape, value: object, line: int) -> None:
        if value is None:
            return
        kind = _KINDS[type(value)]
        shape.first_line.setdefault(kind, line)
        if isinstance(value, dict):
            self._observe_fields(shape, value, line)
        elif isinstance(value, list):
            item = shape.item = shape.item or _Shape()
            for each in value:
                self._observe(item, each, line)
        elif isinstance(value, int) and abs(value) > _EXACT_IN_DOUBLE and shape.inexact_line is None:
            shape.inexact_line = line

    def _observe_fields(self, shape: _Shape, value: Row, line: int) -> None:
        for name, each in value.items():
            field = shape.fields.get(name)
            if field is None:
                field = shape.fields[name] = self._new_field(name, line)
            self._observe(field, each, line)

    def _new_field(self, name: str, line: int) -> _Shape:
        if not name or len(name) > _LONGEST_NAME or not name.isprintable():
            raise FaultyLine(
                f"the column name {name[:40]!r} cannot be used; a name has 1 to {_LONGEST_NAME} printable "
                "characters"
            )
        self._field_count += 1
        if self._field_count > self._limits.columns:
            raise TooManyColumns(
                f"there are more than {self._limits.columns} columns, counting fields of nested objects; "
                "drop columns, or write varying keys as a list of key and value"
            )
        return _Shape()

    def faults(self) -> list[Fault]:
        """What rules out one type per column; empty if nothing does."""
        return [fault for name, shape in self._root.fields.items() for fault in _faults(shape, name)]

    def is_possible(self) -> bool:
        """Whether there still is one type per column, or may be after more rows."""
        return not any(_clashes(shape, name) for name, shape in self._root.fields.items())

    def schema(self) -> pa.Schema:
        """The schema, in the order in which the columns appear first. Call it when there are no faults."""
        return self._schema(pa.string())

    def types_seen(self) -> pa.Schema:
        """The columns so far; the type of what had no value yet is ``null``."""
        return self._schema(pa.null())

    def _schema(self, unknown: pa.DataType) -> pa.Schema:
        fields = self._root.fields.items()
        return pa.schema([(name, _arrow_type(shape, unknown)) for name, shape in fields])


class TooManyColumns(FaultyLine):
    """There is no use in reading on: the file has more columns than the limit."""


def _has_news(shape: _Shape, array: pa.Array) -> bool:
    """Whether the array holds the first whole number that a double would change."""
    if pa.types.is_int64(array.type):
        return shape.inexact_line is None and has_inexact_integer(array)
    if pa.types.is_list(array.type):
        return shape.item is not None and _has_news(shape.item, array.flatten())
    if pa.types.is_struct(array.type):
        names = [field.name for field in array.type]
        children = zip(names, array.flatten(), strict=True)
        return any(_has_news(shape.fields[name], child) for name, child in children)
    return False


def _faults(shape: _Shape, path: str) -> list[Fault]:
    return _clashes(shape, path) or _empty_objects(shape, path)


def _clashes(shape: _Shape, path: str) -> list[Fault]:
    """What rules out one type here and inside, whatever rows follow."""
    kinds = _words(shape)
    if len(kinds) > 1:
        seen = " and ".join(f"{kind} (first at line {line})" for kind, line in kinds)
        return [Fault(message=f"column {path!r} holds {seen}; make them one type", line=kinds[1][1])]
    if Kind.FRACTION in shape.first_line and shape.inexact_line is not None:
        line = shape.first_line[Kind.FRACTION]
        message = (
            f"column {path!r} holds numbers with a fraction (first at line {line}) "
            "and a whole number of more than 53 bits, which would change its value; write one of them as text"
        )
        return [Fault(message=message, line=shape.inexact_line)]
    return [fault for name, each in _inner(shape, path) for fault in _clashes(each, name)]


def _empty_objects(shape: _Shape, path: str) -> list[Fault]:
    if Kind.OBJECT in shape.first_line and not shape.fields:
        line = shape.first_line[Kind.OBJECT]
        return [Fault(message=f"column {path!r} holds only empty objects; leave it out", line=line)]
    return [fault for name, each in _inner(shape, path) for fault in _empty_objects(each, name)]


def _inner(shape: _Shape, path: str) -> Iterator[tuple[str, _Shape]]:
    if shape.item is not None:
        yield f"{path}[]", shape.item
    for name, field in shape.fields.items():
        yield f"{path}.{name}", field


def _words(shape: _Shape) -> list[tuple[str, int]]:
    """What is in the way of one type, each with its first line, in that order."""
    lines: dict[str, int] = {str(kind): line for kind, line in shape.first_line.items()}
    if Kind.FRACTION in lines:
        fraction = lines.pop(Kind.FRACTION)
        lines[_NUMBERS] = min(fraction, lines.pop(Kind.INTEGER, fraction))
    return sorted(lines.items(), key=lambda item: item[1])


def _arrow_type(shape: _Shape, unknown: pa.DataType) -> pa.DataType:
    kinds = shape.first_line
    if not kinds:
        return unknown
    if Kind.LIST in kinds:
        return pa.list_(_arrow_type(shape.item or _Shape(), unknown))
    if Kind.OBJECT in kinds:
        return pa.struct([(name, _arrow_type(field, unknown)) for name, field in shape.fields.items()])
    if Kind.FRACTION in kinds:
        return pa.float64()
    if Kind.INTEGER in kinds:
        return pa.int64()
    return pa.bool_() if Kind.BOOLEAN in kinds else pa.string()

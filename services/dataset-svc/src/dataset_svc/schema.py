"""One type per column, inferred over all rows of a file.

The rules:

- Text, true/false, whole numbers and numbers with a fraction become ``string``, ``bool``, ``int64`` and
  ``double``; lists and objects become ``list`` and ``struct`` by the same rules inside. Text stays text: a
  date is not recognised.
- ``null`` and a missing key are the same and fit every column. A column with nothing else is ``string``.
- Whole numbers and numbers with a fraction in one column make it ``double``, unless one of the whole numbers
  has more than 53 bits and would change its value.
- Any other mixture is refused, naming the first line of each kind.
"""

import json
from collections.abc import Iterator
from enum import StrEnum

import pyarrow as pa

from assay_chassis.errors import Fault
from dataset_svc.domain.snapshots import Column, Example
from dataset_svc.jsonl import FaultyLine, Limits, Row

_EXACT_IN_DOUBLE = 2**53
_LONGEST_NAME = 200
_LONGEST_EXAMPLE = 200
_EXAMPLES = 3


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

    __slots__ = ("fields", "first_line", "inexact_line", "item", "values")

    def __init__(self) -> None:
        self.first_line: dict[Kind, int] = {}
        self.inexact_line: int | None = None
        self.item: _Shape | None = None
        self.fields: dict[str, _Shape] = {}
        self.values = 0


class SchemaInference:
    """Sees every row once, then says the schema or what rules one out."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._root = _Shape()
        self._examples: dict[str, list[Example]] = {}
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
        for name, value in row.items():
            examples = self._examples.setdefault(name, [])
            if len(examples) < _EXAMPLES and value is not None:
                example = _example_of(value)
                if example not in examples:
                    examples.append(example)

    def _observe(self, shape: _Shape, value: object, line: int) -> None:
        if value is None:
            return
        shape.values += 1
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

    def schema(self) -> pa.Schema:
        """The schema, in the order in which the columns appear first. Call it when there are no faults."""
        return pa.schema([(name, _arrow_type(shape)) for name, shape in self._root.fields.items()])

    def columns(self) -> tuple[Column, ...]:
        """Description of the columns. Call it when there are no faults."""
        return tuple(
            Column(
                name=name,
                type=_type_name(_arrow_type(shape)),
                nulls=self.rows - shape.values,
                examples=tuple(self._examples[name]),
            )
            for name, shape in self._root.fields.items()
        )


class TooManyColumns(FaultyLine):
    """There is no use in reading on: the file has more columns than the limit."""


def _faults(shape: _Shape, path: str) -> Iterator[Fault]:
    kinds = sorted(shape.first_line.items(), key=lambda item: item[1])
    if {kind for kind, _ in kinds} == {Kind.INTEGER, Kind.FRACTION}:
        if shape.inexact_line is not None:
            yield Fault(
                message=f"column {path!r} holds numbers with a fraction (first at line "
                f"{shape.first_line[Kind.FRACTION]}) and a whole number of more than 53 bits, which would "
                "change its value; write one of them as text",
                line=shape.inexact_line,
            )
    elif len(kinds) > 1:
        seen = " and ".join(f"{kind} (first at line {line})" for kind, line in kinds)
        yield Fault(message=f"column {path!r} holds {seen}; make them one type", line=kinds[1][1])
        return
    if Kind.OBJECT in shape.first_line and not shape.fields:
        yield Fault(
            message=f"column {path!r} holds only empty objects; leave it out",
            line=shape.first_line[Kind.OBJECT],
        )
    if shape.item is not None:
        yield from _faults(shape.item, f"{path}[]")
    for name, field in shape.fields.items():
        yield from _faults(field, f"{path}.{name}")


def _arrow_type(shape: _Shape) -> pa.DataType:
    kinds = set(shape.first_line)
    if Kind.LIST in kinds:
        return pa.list_(_arrow_type(shape.item or _Shape()))
    if Kind.OBJECT in kinds:
        return pa.struct([(name, _arrow_type(field)) for name, field in shape.fields.items()])
    if Kind.FRACTION in kinds:
        return pa.float64()
    if Kind.INTEGER in kinds:
        return pa.int64()
    return pa.bool_() if Kind.BOOLEAN in kinds else pa.string()


def _type_name(arrow_type: pa.DataType) -> str:
    if pa.types.is_list(arrow_type):
        return f"list<{_type_name(arrow_type.value_type)}>"
    if pa.types.is_struct(arrow_type):
        return f"struct<{', '.join(f'{field.name}: {_type_name(field.type)}' for field in arrow_type)}>"
    return str(arrow_type)


def _example_of(value: object) -> Example:
    if isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_EXAMPLE else f"{text[:_LONGEST_EXAMPLE]}…"

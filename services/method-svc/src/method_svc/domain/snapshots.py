"""What dataset-svc says of a snapshot: its columns, where its rows come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class SourceKind(StrEnum):
    """Where rows come from."""

    HUGGINGFACE = "huggingface"
    JSONL = "jsonl"


class ColumnShape(StrEnum):
    """What a column's values are, as far as a prompt is concerned."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    LIST = "list"
    NESTED = "nested"
    OTHER = "other"


PRINTABLE = (ColumnShape.TEXT, ColumnShape.NUMBER, ColumnShape.FLAG)
"""Shapes that can stand in a prompt as they are, the most usual first."""

_SHAPES: Sequence[tuple[tuple[str, ...], ColumnShape]] = (
    (("string", "large_string", "utf8"), ColumnShape.TEXT),
    (("bool",), ColumnShape.FLAG),
    (("int", "uint", "double", "float", "half", "ClassLabel", "decimal"), ColumnShape.NUMBER),
    (("list", "large_list", "fixed_size_list", "Sequence", "Array"), ColumnShape.LIST),
    (("struct", "map"), ColumnShape.NESTED),
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a snapshot; ``nulls`` counts rows without a value, ``examples`` are some of the others."""

    name: str
    type: str
    nulls: int = 0
    examples: tuple[Any, ...] = ()

    @property
    def shape(self) -> ColumnShape:
        """What its values are, by the type's name."""
        return next((shape for names, shape in _SHAPES if self.type.startswith(names)), ColumnShape.OTHER)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that can be fetched and drawn a form for.

    Attributes:
        id: the snapshot.
        dataset_id, dataset_name: whose it is.
        digest: sha256 of its Parquet file, hexadecimal.
        split: the split that its rows are.
        rows: how many there are.
        columns: in the order of the file.
        source: where the rows come from, as dataset-svc says it; ``kind`` says which keys there are.
        fewshot_snapshot_id: the companion that few-shot examples are drawn from, where there is one.
    """

    id: str
    dataset_id: str
    dataset_name: str
    digest: str
    split: str
    rows: int
    columns: tuple[Column, ...]
    source: Mapping[str, Any]
    fewshot_snapshot_id: str | None

    @property
    def kind(self) -> SourceKind:
        """Where the rows come from; an unknown source counts as an upload, which promises nothing."""
        known = self.source.get("kind") == SourceKind.HUGGINGFACE
        return SourceKind.HUGGINGFACE if known else SourceKind.JSONL

    @property
    def usable_columns(self) -> tuple[Column, ...]:
        """The columns that have a value in at least one row."""
        return tuple(column for column in self.columns if column.nulls < max(self.rows, 1))


def read_snapshot(document: Mapping[str, Any]) -> Snapshot:
    """The snapshot of dataset-svc's document; fields that came later than the first version may be absent."""
    return Snapshot(
        id=document["id"],
        dataset_id=document["dataset_id"],
        dataset_name=document["dataset_name"],
        digest=document["digest"],
        split=document["split"],
        rows=document["rows"],
        columns=tuple(
            Column(
                name=column["name"],
                type=column["type"],
                nulls=column.get("nulls", 0),
                examples=tuple(column.get("examples", ())),
            )
            for column in document["columns"]
        ),
        source=document.get("source") or {},
        fewshot_snapshot_id=document.get("fewshot_snapshot_id"),
    )

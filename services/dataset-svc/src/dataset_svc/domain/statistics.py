"""What is counted in a snapshot."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Lengths of texts in characters or of lists in items: the smallest that holds for a share of the values.

    Exact up to 65,535, within 1 % above that; ``minimum`` and ``maximum`` are exact.
    """

    minimum: int
    p25: int
    median: int
    p75: int
    p95: int
    p99: int
    maximum: int


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """One column.

    Attributes:
        name: its name.
        type: its type.
        nulls: rows without a value.
        distinct: different values, exact; ``None`` above 1,000 and for lists and objects.
        lengths: of texts and lists; ``None`` for other types and where there is no value.
        minimum: smallest number; ``None`` for other types and where there is no value.
        maximum: largest number.
    """

    name: str
    type: str
    nulls: int
    distinct: int | None
    lengths: Quantiles | None
    minimum: int | float | None
    maximum: int | float | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """A snapshot.

    Attributes:
        rows: rows.
        bytes: size of the canonical Parquet file.
        duplicate_rows: rows that are the same as an earlier one in all columns.
        columns: in the order of the snapshot.
    """

    rows: int
    bytes: int
    duplicate_rows: int
    columns: tuple[ColumnStatistics, ...]

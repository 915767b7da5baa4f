"""Counting in a canonical file, in bounded memory: a row group, 8 bytes a row, and half a MiB a column."""

import math
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset_svc.columns import type_name
from dataset_svc.domain.statistics import ColumnStatistics, Quantiles, Statistics
from dataset_svc.parquet import read_batches
from dataset_svc.rowhash import hashes_of

_BATCH_ROWS = 8192
_MOST_DISTINCT = 1000
_EXACT_LENGTHS = 1 << 16
_STEPS_PER_OCTAVE = 128


def statistics_of(path: Path) -> Statistics:
    """Count everything. Takes seconds for a million rows; call it in a thread."""
    schema: pa.Schema = pq.read_schema(path)
    columns = [_ColumnCounter(field) for field in schema]
    hashes = []
    for batch in read_batches(path, rows=_BATCH_ROWS):
        hashes.append(hashes_of(batch, schema.names))
        for counter, array in zip(columns, batch.columns, strict=True):
            counter.count(array)
    every = np.concatenate(hashes) if hashes else np.empty(0, np.uint64)
    every.sort()
    duplicates = int(np.count_nonzero(every[1:] == every[:-1]))
    return Statistics(
        rows=len(every),
        bytes=path.stat().st_size,
        duplicate_rows=duplicates,
        columns=tuple(counter.statistics() for counter in columns),
    )


class _ColumnCounter:
    def __init__(self, field: pa.Field) -> None:
        kind = field.type
        self._field = field
        self._nulls = 0
        self._is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        self._is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        self._lengths = _Lengths() if self._is_text or pa.types.is_list(kind) else None
        is_plain = self._is_text or self._is_number or pa.types.is_boolean(kind)
        self._distinct: set[Hashable] | None = set() if is_plain else None
        self._lowest: list[Any] = []

    def count(self, array: pa.Array) -> None:
        self._nulls += array.null_count
        values = array.drop_null()
        if not len(values):
            return
        if self._lengths is not None:
            sizes = pc.utf8_length(values) if self._is_text else pc.list_value_length(values)
            self._lengths.count(sizes.to_numpy(zero_copy_only=False).astype(np.int64))
        if self._is_number:
            bounds = pc.min_max(values).as_py()
            seen = [*self._lowest, bounds["min"], bounds["max"]]
            self._lowest = [min(seen), max(seen)]
        if self._distinct is not None:
            different = pc.unique(values)
            self._distinct = (
                self._distinct.union(different.to_pylist()) if len(different) <= _MOST_DISTINCT else None
            )
            if self._distinct is not None and len(self._distinct) > _MOST_DISTINCT:
                self._distinct = None

    def statistics(self) -> ColumnStatistics:
        low, high = self._lowest or (None, None)
        return ColumnStatistics(
            name=self._field.name,
            type=type_name(self._field.type),
            nulls=self._nulls,
            distinct=None if self._distinct is None else len(self._distinct),
            lengths=None if self._lengths is None else self._lengths.quantiles(),
            minimum=_finite(low),
            maximum=_finite(high),
        )


def _finite(value: int | float | None) -> int | float | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Lengths:
    """A histogram: one place for each length up to 65,535, then 128 for each doubling."""

    def __init__(self) -> None:
        self._counts: npt.NDArray[np.int64] = np.zeros(_EXACT_LENGTHS, np.int64)
        self._minimum: int | None = None
        self._maximum = 0

    def count(self, lengths: npt.NDArray[np.int64]) -> None:
        places = lengths
        if int(lengths.max()) >= _EXACT_LENGTHS:
            steps = np.floor(
                np.log2(np.maximum(lengths, _EXACT_LENGTHS) / _EXACT_LENGTHS) * _STEPS_PER_OCTAVE
            )
            places = np.where(lengths < _EXACT_LENGTHS, lengths, _EXACT_LENGTHS + steps.astype(np.int64))
        counted = np.bincount(places)
        if len(counted) > len(self._counts):
            self._counts = np.pad(self._counts, (0, len(counted) - len(self._counts)))
        self._counts[: len(counted)] += counted
        low = int(lengths.min())
        self._minimum = low if self._minimum is None else min(self._minimum, low)
        self._maximum = max(self._maximum, int(lengths.max()))

    def quantiles(self) -> Quantiles | None:
        if self._minimum is None:
            return None
        below = np.cumsum(self._counts)

        def at(share: float) -> int:
            place = int(np.searchsorted(below, math.ceil(share * int(below[-1]))))
            if place < _EXACT_LENGTHS:
                return place
            return min(
                int(_EXACT_LENGTHS * 2 ** ((place - _EXACT_LENGTHS) / _STEPS_PER_OCTAVE)), self._maximum
            )

        return Quantiles(
            minimum=self._minimum,
            p25=at(0.25),
            median=at(0.5),
            p75=at(0.75),
            p95=at(0.95),
            p99=at(0.99),
            maximum=self._maximum,
        )

"""A snapshot as JSON Lines."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataset_svc.parquet import read_batches

_BATCH_ROWS = 256


def json_lines(path: Path) -> Iterator[bytes]:
    """The rows of a canonical file, some at a time; memory is bounded by a row group.

    Every line has every column, in order; ``null`` stands for a missing value. Uploaded again, the lines give
    the same rows. Values that JSON has no form for become ``null`` (``NaN``) or text (times).
    """
    for batch in read_batches(path, rows=_BATCH_ROWS):
        yield b"".join(_line(row) for row in batch.to_pylist())


def _line(row: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        text = json.dumps(_finite(row), ensure_ascii=False, default=str)
    return text.encode() + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

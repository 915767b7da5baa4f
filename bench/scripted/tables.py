"""Cells of the printed tables."""

import os
import platform
import statistics
from datetime import UTC, datetime
from typing import Any


def machine() -> str:
    """The date and what this runs on."""
    where = f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {where}"


def middle(values: Any) -> str:
    """The median, or a dash."""
    found = list(values)
    return f"{statistics.median(found):.2f}" if found else "-"


def spread(values: list[float], digits: int = 2) -> str:
    """Median (least to most), or a dash."""
    if not values:
        return "-"
    least, most = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"

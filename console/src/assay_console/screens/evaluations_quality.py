"""Quality metrics of a run as tables: one table for each task, in the run's own order."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from assay.models.runs import QualityMetrics

_NORMAL_975 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class QualityLine:
    """One metric under its whole name, ``<task>.<metric>,<filter>``.

    Attributes:
        value, stderr: as lm-eval has them; ``None`` does not apply.
        interval: 95 % interval of a share so far, while there is no stderr yet.
        higher_is_better: ``None``: not known.
    """

    name: str
    value: float | None
    stderr: float | None
    interval: tuple[float, float] | None
    higher_is_better: bool | None


@dataclass(frozen=True, slots=True)
class QualityTable:
    """The metrics of one task; ``samples`` and ``failed`` are those that they were made of."""

    task: str
    lines: Sequence[QualityLine]
    samples: int
    failed: int


def quality_tables(metrics: QualityMetrics) -> Sequence[QualityTable]:
    """A table for the run's task and, of a group, one for each member that has metrics."""
    subject = (metrics.model_extra or {}).get("subject") or {}
    members = {member["task"]: member for member in (metrics.model_extra or {}).get("members") or ()}
    tasks = [str(subject.get("task") or ""), *members]
    lines: dict[str, list[QualityLine]] = {}
    for name in metric_names(metrics.quality):
        task = max((one for one in tasks if name.startswith(f"{one}.")), key=len, default=tasks[0])
        counts = members.get(task, {})
        scored = int(counts.get("samples_scored", metrics.samples_scored))
        lines.setdefault(task, []).append(_line(metrics, name, samples=scored))
    return [
        QualityTable(
            task=task,
            lines=found,
            samples=int(members.get(task, {}).get("samples_scored", metrics.samples_scored)),
            failed=int(members.get(task, {}).get("samples_failed", metrics.samples_failed)),
        )
        for task, found in lines.items()
    ]


def metric_names(quality: Mapping[str, float | None]) -> list[str]:
    """Names of metrics, without those of their standard errors."""
    return [name for name in quality if not name.partition(",")[0].endswith("_stderr")]


def stderr_of(quality: Mapping[str, float | None], name: str) -> float | None:
    """The standard error that stands beside a metric, if there is one."""
    metric, comma, chosen = name.partition(",")
    return quality.get(f"{metric}_stderr{comma}{chosen}")


@dataclass(frozen=True, slots=True)
class Headline:
    """The metric that is told first of a run."""

    name: str
    value: float | None
    stderr: float | None


def headline(quality: Mapping[str, float | None] | None, *, wanted: Iterable[str] = ()) -> Headline | None:
    """The first metric of a run that has a value; one of ``wanted`` goes before."""
    if not quality:
        return None
    names = metric_names(quality)
    valued = [name for name in names if quality[name] is not None] or names
    if not valued:
        return None
    name = next((one for one in wanted if one in valued), valued[0])
    return Headline(name, quality[name], stderr_of(quality, name))


def _line(metrics: QualityMetrics, name: str, *, samples: int) -> QualityLine:
    value, stderr = metrics.quality[name], stderr_of(metrics.quality, name)
    is_so_far = metrics.state == "scoring" and stderr is None
    return QualityLine(
        name=name,
        value=value,
        stderr=stderr,
        interval=_share_interval(value, samples) if is_so_far and value is not None else None,
        higher_is_better=metrics.higher_is_better.get(name),
    )


def _share_interval(share: float, samples: int) -> tuple[float, float] | None:
    """Wilson's 95 % interval; of numbers between 0 and 1, too wide rather than too short."""
    if samples < 1 or not 0 <= share <= 1:
        return None
    squared = _NORMAL_975**2
    middle = (share + squared / (2 * samples)) / (1 + squared / samples)
    half = (
        _NORMAL_975
        * math.sqrt(share * (1 - share) / samples + squared / (4 * samples**2))
        / (1 + squared / samples)
    )
    return max(0.0, middle - half), min(1.0, middle + half)

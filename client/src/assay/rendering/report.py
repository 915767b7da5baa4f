"""The metrics of one run as text."""

from rich.console import Group, RenderableType
from rich.text import Text

from assay.models import RunMetrics
from assay.rendering.quality import quality_table
from assay.rendering.runtime import runtime_table
from assay.rendering.text import clean


def metrics_report(metrics: RunMetrics, *, with_deviations: bool = False) -> RenderableType:
    """Quality and runtime metrics of a run; ``with_deviations`` also why they are not the published ones."""
    if metrics.state == "failed":
        reason = (metrics.error or {}).get("message", "the reason is not known")
        return Text(f"scoring failed: {reason}", style="red")
    failed = f", {metrics.samples_failed} failed" if metrics.samples_failed else ""
    if failed and metrics.failure_policy:
        failed += f" (failed samples: {metrics.failure_policy})"
    so_far = "" if metrics.state == "final" else " (so far)"
    return Group(
        Text(f"{metrics.samples_scored} samples scored{so_far}{failed}"),
        quality_table(metrics.quality, metrics.higher_is_better),
        *(_deviations(metrics) if with_deviations else ()),
        runtime_table(metrics),
    )


def _deviations(metrics: RunMetrics) -> list[Text]:
    return [
        Text(clean(f"not as published: {deviation.message}"), style="yellow")
        for deviation in metrics.deviations
    ]

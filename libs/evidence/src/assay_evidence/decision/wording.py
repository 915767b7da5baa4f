"""Numbers as reasons show them."""

from assay_evidence.report import Interval, QualityComparison


def amount(quality: QualityComparison, value: float) -> str:
    """A difference or margin in the metric's unit: points of a share, else the plain number."""
    return f"{100 * value:.2f} points" if quality.kind == "binary" else f"{value:.4g}"


def span(quality: QualityComparison, interval: Interval | None) -> str:
    """An interval of differences."""
    if interval is None:
        return "no interval"
    return f"{amount(quality, interval[0])} to {amount(quality, interval[1])}"


def probability(value: float | None) -> str:
    """A p-value."""
    if value is None:
        return "none"
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def percent(share: float) -> str:
    """A share, to two digits at most."""
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + " %"

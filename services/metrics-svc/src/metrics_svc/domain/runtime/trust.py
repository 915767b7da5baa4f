"""What makes runtime metrics less trustworthy than they look, told in sentences."""

from collections.abc import Iterator, Mapping

from assay_evidence.report import RuntimeEstimate
from assay_evidence.runtime.gaps import TOLD_SPREAD
from assay_evidence.runtime.resampling import ObservedGaps
from metrics_svc.domain.runtime.counts import RequestCounts
from metrics_svc.domain.runtime.serving import CalibrationErrors, Serving

MOST_ERROR = 0.1
"""Share of a median above which the adapter's own p99 error is told."""


def warnings_of(
    estimates: Mapping[str, RuntimeEstimate],
    gaps: ObservedGaps,
    counts: RequestCounts,
    serving: Serving | None,
) -> list[str]:
    """Sentences for people; empty where nothing speaks against the numbers."""
    errors = [one for instance in (serving.instances if serving else ()) for one in instance.errors()]
    return [*_calibrated(estimates, errors), *_spread(gaps, errors), *_mismatched(counts)]


def _calibrated(estimates: Mapping[str, RuntimeEstimate], errors: list[CalibrationErrors]) -> Iterator[str]:
    for name, what, error in (
        ("itlP50", "a gap between tokens", max((one.itl_error_p99 for one in errors), default=0.0)),
        ("ttftP50", "a first token", max((one.ttft_error_p99 for one in errors), default=0.0)),
    ):
        median = estimates[name].value
        if median is not None and error > MOST_ERROR * median:
            yield (
                f"the adapter's own error of {what}, {1000 * error:.3g} ms (p99 of its calibration), is more "
                f"than {100 * MOST_ERROR:.0f} % of the median it measured, {1000 * median:.3g} ms"
            )


def _spread(gaps: ObservedGaps, errors: list[CalibrationErrors]) -> Iterator[str]:
    if gaps.spread_share <= TOLD_SPREAD:
        return
    told = (
        f"{100 * gaps.spread_share:.1f} % of the gaps between tokens are shares of a longer one, because "
        "their tokens came together"
    )
    if not errors:
        yield f"{told}: the engine sends several at once, or the adapter was too slow to keep them apart"
        return
    own = max(one.merged_gap_share for one in errors)
    why = "it may have been too slow" if own > TOLD_SPREAD else "the engine sends several at once"
    yield f"{told}; the adapter merged {100 * own:.1f} % in its own calibration, so {why}"


def _mismatched(counts: RequestCounts) -> Iterator[str]:
    if counts.mismatched:
        yield (
            f"of {counts.mismatched} of {counts.generated} responses another number of tokens arrived than "
            "the server reports; counts are the server's, and gaps of these responses are left out"
        )

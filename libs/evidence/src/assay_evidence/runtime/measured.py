"""One runtime metric of one run: its value, its resamples, its interval."""

from dataclasses import dataclass

from assay_evidence.report import RuntimeEstimate
from assay_evidence.runtime.resampling import interval
from assay_evidence.runtime.timeline import FloatArray

ORDER_STATISTICS = "order statistics"
EXACT_BINOMIAL = "exact binomial"


@dataclass(frozen=True, slots=True)
class OwnInterval:
    """A 95 % interval that needs no resampling; an end is ``None`` where it cannot be bounded."""

    low: float | None
    high: float | None
    method: str


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of one run.

    Attributes:
        value: ``None``: not measured, and ``note`` says why.
        resampled: (resamples,); ``None``: there can be no interval over time blocks, and ``note`` says why.
        note: why a value or an interval is missing.
        at_least: a percentile that has too few observations to be bounded from above.
        n: observations.
        own: interval of the observations themselves, where there is one.
    """

    value: float | None
    resampled: FloatArray | None = None
    note: str | None = None
    at_least: bool = False
    n: int = 0
    own: OwnInterval | None = None

    def estimate(self, *, blocks: int, few_blocks: str | None, window_s: float | None) -> RuntimeEstimate:
        """The metric with its 95 % interval.

        Args:
            blocks: time blocks of the run; ``few_blocks``: why they are too few, if they are.
            window_s: time with a request in flight, summed over instances.
        """
        made = RuntimeEstimate(
            value=self.value, n=self.n, window_s=window_s, at_least=self.at_least, note=self.note
        )
        if self.value is None:
            return made
        over_blocks = self._over_blocks(blocks)
        if self.own is not None:
            return _with(made, _wider(self.own, over_blocks))
        if over_blocks is not None:
            return _with(made, over_blocks)
        return made.model_copy(update={"note": self.note or few_blocks})

    def _over_blocks(self, blocks: int) -> OwnInterval | None:
        if self.resampled is None:
            return None
        found = interval(self.resampled, blocks=blocks, confidence=0.95)
        return None if found is None else OwnInterval(*found, f"{blocks} time blocks")


def _with(made: RuntimeEstimate, found: OwnInterval) -> RuntimeEstimate:
    note = made.note
    if found.low is None and note is None:
        note = "too few observations to bound it from below"
    return made.model_copy(
        update={"low": found.low, "high": found.high, "method": found.method, "note": note}
    )


def _wider(own: OwnInterval, blocks: OwnInterval | None) -> OwnInterval:
    """Both in one.

    That of the observations themselves takes them as independent, and is too short where the machine has
    moods; that over blocks is too short where few observations decide.
    """
    if blocks is None or own.low is None or own.high is None or blocks.low is None or blocks.high is None:
        return own
    return OwnInterval(
        min(own.low, blocks.low), max(own.high, blocks.high), f"{own.method}, and {blocks.method}"
    )

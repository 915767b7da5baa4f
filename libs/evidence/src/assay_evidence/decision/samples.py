"""How many pairs would settle a rule that is open."""

import math
from statistics import NormalDist

from assay_evidence.report import QualityComparison
from assay_evidence.statistics.power import samples_needed, zero_flips_needed

MOST_SAMPLES = 10_000_000
"""Beyond this, more samples are no advice."""


def to_settle_quality(
    quality: QualityComparison, *, loss: float, margin: float, alpha: float, power: float
) -> int | None:
    """Pairs in all that show the rule with ``power`` at the observed churn; ``None`` where they do not help.

    ``loss`` is the observed one, positive where the candidate is worse. A candidate that looks as good as the
    baseline, or better, is taken to be as good; one that looks worse, to be as bad as it looks. One that
    looks worse by more than the margin is settled by a proof of that.
    """
    worse = max(loss, 0.0)
    if quality.kind == "binary":
        worse = min(worse, quality.changed_rate)  # it is never more but for rounding
    room = abs(margin - worse)
    if room <= margin * 1e-6:
        return None
    if quality.kind == "binary" and quality.clusters is None:
        if worse >= margin:
            needed = _from_spread(math.sqrt(max(quality.changed_rate - loss**2, 0.0)), room, alpha, power)
        else:
            needed = samples_needed(
                margin=margin, churn=quality.changed_rate, alpha=alpha, power=power, difference=-worse
            )
    elif quality.stderr is None:
        return None
    else:
        # Of a clustered metric this spread holds the design effect: more clusters like those that there are.
        needed = _from_spread(quality.stderr * math.sqrt(quality.n), room, alpha, power)
    return _advice(max(needed, quality.n + 1, zero_flips_needed(margin=margin, alpha=alpha)))


def to_settle_ratio(
    *, n: int, ratio: float, interval: tuple[float, float], bound: float, power: float
) -> int | None:
    """Requests' samples in all after which a 90 % interval of the ratio lies on one side of ``bound`` with
    ``power``, if the ratio is as observed; ``None`` where none would do."""
    if min(ratio, bound, *interval) <= 0 or ratio == bound:
        return None
    normal = NormalDist()
    one_sided = normal.inv_cdf(0.95)
    spread = (math.log(interval[1]) - math.log(interval[0])) / 2 / one_sided * math.sqrt(max(n, 1))
    return _advice(max(_from_spread(spread, abs(math.log(ratio / bound)), 0.05, power), n + 1))


def _from_spread(spread: float, room: float, alpha: float, power: float) -> int:
    normal = NormalDist()
    needed = (spread * (normal.inv_cdf(1 - alpha) + normal.inv_cdf(power)) / room) ** 2
    return math.ceil(min(needed, 2.0 * MOST_SAMPLES))


def _advice(needed: int) -> int | None:
    return needed if needed <= MOST_SAMPLES else None

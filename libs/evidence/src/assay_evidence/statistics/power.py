"""How many pairs a margin needs, and which loss a number of pairs can show, for 0/1 scores.

The figures are of the exact test that decides (``trinomial``). The usual formula,
(z_alpha + z_power)^2 * churn / margin^2, is too small where flips are few: at a churn of 2 % and a margin of
3 points it promises a power of 80 %, and the test has 55 %.
"""

import math
from itertools import count

from scipy.special import bdtr, ndtri

from assay_evidence.statistics.trinomial import score_variance

MOST = 10**9
"""The largest answer; it means "not with samples"."""

FEW_FLIPS = 2.0
"""Expected flips below which the number of losses is counted exactly."""


def samples_needed(
    *, margin: float, churn: float, alpha: float, power: float, difference: float = 0.0
) -> int:
    """Pairs with which non-inferiority at ``margin`` is shown with probability ``power``.

    Args:
        margin: largest tolerated loss, above 0.
        churn: share of pairs that change.
        alpha: one-sided error.
        difference: true candidate - baseline, above ``-margin``; in the direction in which more is better.

    Raises:
        ValueError: an argument out of range; a true loss of the margin or more, which no number shows.
    """
    _check(margin=margin, churn=churn, alpha=alpha, power=power)
    distance = margin + difference
    if distance <= 0:
        raise ValueError(f"a true difference of {difference} is not inside the margin of {margin}")
    if abs(difference) > churn:
        raise ValueError(f"a true difference of {difference} needs a churn of at least that, not {churn}")
    rate_lost = (churn - difference) / 2
    by_spread = _by_spread(margin, alpha, power, churn=churn, difference=difference)
    if by_spread * churn < FEW_FLIPS:
        return _by_losses(margin, alpha, power, rate_lost)
    return min(MOST, by_spread)


def _by_spread(margin: float, alpha: float, power: float, *, churn: float, difference: float) -> int:
    """Normal approximation of the score test: its spread at the margin for alpha, the true one for power."""
    gained, lost = (churn + difference) / 2, (churn - difference) / 2
    assumed = score_variance(gained, lost, -margin)
    reach = float(ndtri(1 - alpha)) * math.sqrt(assumed) + float(ndtri(power)) * math.sqrt(
        churn - difference * difference
    )
    return math.ceil(min(float(MOST), (reach / (margin + difference)) ** 2))


def _by_losses(margin: float, alpha: float, power: float, rate_lost: float) -> int:
    """Exact, for few flips: pairs of which k may be lost, for the first k that is likely enough."""
    for losses in count():
        n = pairs_for_losses(losses, margin=margin, alpha=alpha)
        if n >= MOST or float(bdtr(losses, n, rate_lost)) >= power:
            return min(n, MOST)
    raise AssertionError("unreachable")


def zero_flips_needed(*, margin: float, alpha: float) -> int:
    """Fewest pairs of which none may flip to show a loss below ``margin``."""
    return pairs_for_losses(0, margin=margin, alpha=alpha)


def pairs_for_losses(losses: int, *, margin: float, alpha: float) -> int:
    """Fewest pairs of which ``losses`` may be lost, and none gained, to show a loss below ``margin``.

    With no loss: ``(1 - margin)^n <= alpha``.
    """
    low, high = losses + 1, losses + 2
    while float(bdtr(losses, high, margin)) > alpha and high < MOST:
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        if float(bdtr(losses, middle, margin)) <= alpha:
            high = middle
        else:
            low = middle + 1
    return high


def detectable_difference(*, n: int, churn: float, alpha: float, power: float) -> float:
    """Smallest margin that ``n`` pairs of an equally good candidate show with probability ``power``.

    Raises:
        ValueError: an argument out of range.
    """
    _check(margin=0.5, churn=churn, alpha=alpha, power=power)
    if n < 1:
        raise ValueError(f"n is {n}, not at least 1")
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if samples_needed(margin=middle, churn=churn, alpha=alpha, power=power) <= n:
            high = middle
        else:
            low = middle
    return high


def _check(*, margin: float, churn: float, alpha: float, power: float) -> None:
    if not 0 < margin <= 1:
        raise ValueError(f"the margin is {margin}, not above 0 and at most 1")
    if not 0 <= churn <= 1:
        raise ValueError(f"the churn is {churn}, not between 0 and 1")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}, not between 0 and 0.5")
    if not 0.5 <= power < 1:
        raise ValueError(f"the power is {power}, not between 0.5 and 1")

"""How many pairs a margin needs, and which loss a number of pairs can show. For 0/1 scores."""

import math

from scipy.special import ndtri

MOST = 10**9
"""Larger answers mean "not with samples"."""


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
    reach = float(ndtri(1 - alpha) + ndtri(power))
    by_spread = math.ceil(reach * reach * (churn - difference * difference) / (distance * distance))
    return min(MOST, max(by_spread, zero_flips_needed(margin=margin, alpha=alpha)))


def zero_flips_needed(*, margin: float, alpha: float) -> int:
    """Pairs from which on no flip at all shows a loss below ``margin``: ``(1 - margin)^n <= alpha``."""
    return 1 if margin >= 1 else math.ceil(math.log(alpha) / math.log1p(-margin))


def detectable_difference(*, n: int, churn: float, alpha: float, power: float) -> float:
    """Smallest margin that ``n`` pairs of an equally good candidate show with probability ``power``.

    Raises:
        ValueError: an argument out of range.
    """
    _check(margin=0.5, churn=churn, alpha=alpha, power=power)
    if n < 1:
        raise ValueError(f"n is {n}, not at least 1")
    low, high = 0.0, 1.0
    for _ in range(60):
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

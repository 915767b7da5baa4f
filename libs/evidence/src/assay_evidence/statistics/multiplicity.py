"""Correction of p-values for testing several hypotheses."""

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's (1979) step-down adjustment; compare each with alpha.

    ``None`` (not tested) stays ``None`` and does not count as a hypothesis.

    Raises:
        ValueError: a p-value that is not between 0 and 1.
    """
    tested = [(p, position) for position, p in enumerate(p_values) if p is not None]
    for p, position in tested:
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"p-value {position} is {p}, not between 0 and 1")
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, position) in enumerate(sorted(tested)):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[position] = largest
    return adjusted

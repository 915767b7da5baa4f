"""What the samples of a run can show, told before it is paid for."""

from typing import Any

from assay_evidence.statistics.power import detectable_difference, samples_needed

ASSUMED_CHURN = 0.06
"""Share of answers that change from right to wrong or back between two builds of one model."""
ALPHA = 0.05
POWER = 0.8
MARGINS = (0.01, 0.02, 0.03)


def power_figures(samples: int) -> dict[str, Any]:
    """The ``power`` beside a plan of so many samples.

    Returns:
        ``samples``, ``assumed_churn``, ``detectable_difference`` (smallest loss that so many samples show;
        ``None`` where none does), ``needed`` (``margin`` and ``samples`` each) and a ``note``.
    """
    shown = detectable_difference(n=samples, churn=ASSUMED_CHURN, alpha=ALPHA, power=POWER)
    needed = [
        {
            "margin": margin,
            "samples": samples_needed(margin=margin, churn=ASSUMED_CHURN, alpha=ALPHA, power=POWER),
        }
        for margin in MARGINS
    ]
    return {
        "samples": samples,
        "assumed_churn": ASSUMED_CHURN,
        "detectable_difference": shown if shown < 1 else None,
        "needed": needed,
        "note": (
            f"of an accuracy, with {POWER:.0%} power at a one-sided alpha of {ALPHA}, if {ASSUMED_CHURN:.0%} "
            "of the answers change between the two runs and both are equally good; POST /v1/plan/power takes "
            "another churn, or the one observed for the method"
        ),
    }

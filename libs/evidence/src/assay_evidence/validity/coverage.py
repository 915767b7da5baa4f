"""How many items two runs share, and why the others are not paired."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from assay_evidence.pairing import Pairing
from assay_evidence.report import Coverage, Finding, PlanDifference, Severity
from assay_evidence.tables import RunEvidence
from assay_evidence.validity.plans import described, first_unexpected


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Two paired runs.

    Attributes:
        baseline, candidate: the samples that count; after an early stop those of the evaluated prefix.
        baseline_total, candidate_total: items that each was to evaluate.
    """

    baseline: RunEvidence
    candidate: RunEvidence
    pairing: Pairing
    baseline_total: int
    candidate_total: int


def coverage_of(sides: Sides, *, floor: float) -> Coverage:
    """Counts of what is paired and of what is not.

    A document that both runs have with different prompts or targets counts there, and not as missing.
    """
    pairing = sides.pairing
    paired, alike = len(pairing), pairing.prompt_differs + pairing.target_differs
    return Coverage(
        paired=paired,
        baseline_total=sides.baseline_total,
        candidate_total=sides.candidate_total,
        fraction=_share(paired, max(sides.baseline_total, sides.candidate_total)),
        baseline_fraction=_share(paired, sides.baseline_total),
        candidate_fraction=_share(paired, sides.candidate_total),
        missing_in_candidate=len(pairing.baseline_only) - alike,
        missing_in_baseline=len(pairing.candidate_only) - alike,
        failed_in_baseline=int(sides.baseline.failed.sum()),
        failed_in_candidate=int(sides.candidate.failed.sum()),
        prompt_differs=pairing.prompt_differs,
        target_differs=pairing.target_differs,
        floor=floor,
    )


def coverage_findings(
    sides: Sides, coverage: Coverage, *, differences: Sequence[PlanDifference], max_failed_share: float
) -> list[Finding]:
    """What is wrong with what the runs share."""
    found = _nothing(sides, coverage)
    reasons = _reasons(sides, coverage)
    if coverage.paired and coverage.fraction < coverage.floor:
        larger = max(coverage.baseline_total, coverage.candidate_total)
        named = ", ".join(f"{count} {name}" for name, count in reasons.items() if count)
        found.append(
            Finding(
                code="coverage-below-floor",
                severity=Severity.INVALID,
                message=(
                    f"{coverage.paired} of {larger} items are paired ({coverage.fraction:.1%}), below the "
                    f"floor of {coverage.floor:.1%}: {named}"
                ),
                details={"paired": coverage.paired, "of": larger, **reasons},
            )
        )
    found += _other_content(coverage, differences)
    found += _failed(coverage, max_failed_share)
    if sides.pairing.repeated:
        found.append(
            Finding(
                code="repeated-items",
                severity=Severity.INFO,
                message=(
                    f"{sides.pairing.repeated} of {coverage.paired} pairs repeat an item (equal document, "
                    "prompt and target); repeated items are one cluster"
                ),
                details={"repeated": sides.pairing.repeated},
            )
        )
    return found


def _reasons(sides: Sides, coverage: Coverage) -> dict[str, JsonValue]:
    """Why items are not paired, counted."""
    excluded = {
        side: total if run.facts.failure_policy != "score_zero" else 0
        for side, run, total in (
            ("baseline", sides.baseline, coverage.failed_in_baseline),
            ("candidate", sides.candidate, coverage.failed_in_candidate),
        )
    }
    return {
        "missing in the candidate": coverage.missing_in_candidate,
        "missing in the baseline": coverage.missing_in_baseline,
        "with another prompt": coverage.prompt_differs,
        "with another target": coverage.target_differs,
        "failed and excluded in the baseline": excluded["baseline"],
        "failed and excluded in the candidate": excluded["candidate"],
        "not recorded in the baseline": max(0, sides.baseline_total - len(sides.baseline)),
        "not recorded in the candidate": max(0, sides.candidate_total - len(sides.candidate)),
    }


def _nothing(sides: Sides, coverage: Coverage) -> list[Finding]:
    """That a side has no response at all, or that no item is shared."""
    found = [
        Finding(
            code="nothing-evaluated",
            severity=Severity.INVALID,
            message=f"the {side} has {len(run)} samples, none of them with a response",
            details={"side": side},
        )
        for side, run in (("baseline", sides.baseline), ("candidate", sides.candidate))
        if run.failed.all()  # also true of a run without samples
    ]
    if not found and not coverage.paired:
        found.append(
            Finding(
                code="no-shared-items",
                severity=Severity.INVALID,
                message=(
                    f"no item of the two runs is the same ({len(sides.baseline)} in the baseline, "
                    f"{len(sides.candidate)} in the candidate)"
                ),
                details=_reasons(sides, coverage),
            )
        )
    return found


def _other_content(coverage: Coverage, differences: Sequence[PlanDifference]) -> list[Finding]:
    """Documents of both runs that were asked or judged otherwise, and what in the plans explains it."""
    found = []
    first = first_unexpected(differences)
    because = described(first) if first else "the plans do not tell why"
    for code, count, what in (
        ("prompts-differ", coverage.prompt_differs, "prompt"),
        ("targets-differ", coverage.target_differs, "target"),
    ):
        if count:
            found.append(
                Finding(
                    code=code,
                    severity=Severity.WARNING,
                    message=f"{count} documents of both runs have unlike {what}s, not paired: {because}",
                    details={"documents": count, "path": first.path if first else None},
                )
            )
    return found


def _failed(coverage: Coverage, most: float) -> list[Finding]:
    found = []
    for side, failed, total in (
        ("baseline", coverage.failed_in_baseline, coverage.baseline_total),
        ("candidate", coverage.failed_in_candidate, coverage.candidate_total),
    ):
        if failed:
            share = _share(failed, total)
            found.append(
                Finding(
                    code=f"failed-samples-{side}",
                    severity=Severity.INVALID if share > most else Severity.WARNING,
                    message=(
                        f"{failed} of {total} samples of the {side} have no response ({share:.1%}; at most "
                        f"{most:.1%} may be without)"
                    ),
                    details={"failed": failed, "total": total, "share": share},
                )
            )
    return found


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0

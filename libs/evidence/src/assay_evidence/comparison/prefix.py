"""What counts of runs that a sequential stopping rule may have ended."""

import itertools
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from assay_evidence.facts import EarlyStop, RunFacts
from assay_evidence.report import Finding, Severity
from assay_evidence.statistics.sequential import evaluation_order, nominal_alphas
from assay_evidence.tables import RunEvidence

_FROZEN = ("looks", "order_seed", "planned_samples")


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """The samples of two runs that count.

    Attributes:
        baseline, candidate: of the prefix at which the run ended, where one stopped early; else all.
        baseline_total, candidate_total: items that each was to evaluate.
        looks: of the candidate's stopping rule, and ``look`` at which it ended; ``None`` without a rule.
        findings: that a rule was used, or cannot be understood.
    """

    baseline: RunEvidence
    candidate: RunEvidence
    baseline_total: int
    candidate_total: int
    looks: tuple[int, ...] | None
    look: int
    findings: list[Finding]

    def level(self, alpha: float) -> float:
        """One-sided level at which a test of this candidate has error ``alpha`` over all looks together.

        Looking at other margins or metrics than the rule did, or at another baseline, does not change that:
        it holds however the look was chosen.
        """
        return alpha if self.looks is None else nominal_alphas(self.looks, alpha)[self.look]


def evaluated(baseline: RunEvidence, candidate: RunEvidence) -> Evaluated:
    """Restrict both runs to the documents that were evaluated by design.

    What a run evaluated beyond the look at which it ended is there by chance of speed, and is left out.
    """
    findings: list[Finding] = []
    totals = [max(run.facts.samples_expected, len(run)) for run in (baseline, candidate)]
    rules = []
    for side, run in (("baseline", baseline), ("candidate", candidate)):
        rule = run.facts.early_stop
        if problem := _problem(run.facts):
            findings.append(
                Finding(
                    code="early-stop-unclear",
                    severity=Severity.INVALID,
                    message=f"the stopping rule of the {side} {problem}",
                )
            )
            rule = None
        rules.append(rule)
    findings += _planned_findings(baseline, candidate)
    planned = [frozenset(_prefix(rule).tolist()) for rule in rules if rule is not None]
    if planned:
        prefix = numpy.array(sorted(frozenset.intersection(*planned)), dtype=numpy.int64)
        baseline, candidate = (_restricted(run, prefix) for run in (baseline, candidate))
        totals = [max(len(prefix), len(run)) for run in (baseline, candidate)]
        findings += [
            _told(side, rule) for side, rule in zip(("baseline", "candidate"), rules, strict=True) if rule
        ]
    own = rules[1]
    return Evaluated(
        baseline=baseline,
        candidate=candidate,
        baseline_total=totals[0],
        candidate_total=totals[1],
        looks=None if own is None else tuple(own.looks),
        look=0 if own is None else _look(own),
        findings=findings,
    )


def _restricted(run: RunEvidence, documents: NDArray[numpy.int64]) -> RunEvidence:
    keep = numpy.isin(run.index, documents)
    return run if keep.all() else run.selected(keep)


def _look(rule: EarlyStop) -> int:
    return len(rule.looks) - 1 if rule.stopped_at_look is None else rule.stopped_at_look


def _prefix(rule: EarlyStop) -> NDArray[numpy.int64]:
    return evaluation_order(rule.planned_samples, rule.order_seed)[: rule.looks[_look(rule)]]


def _problem(facts: RunFacts) -> str | None:
    """What is wrong with the stopping rule of a run; the looks must be those that its plan froze."""
    rule, planned = facts.early_stop, facts.plan.get("early_stop")
    if rule is None:
        return None if planned is None else "is in its plan, and nothing says at which look the run ended"
    if not _is_sound(rule):
        return f"makes no sense: looks at {rule.looks} of {rule.planned_samples} documents"
    frozen = planned if isinstance(planned, dict) else {}
    unlike = [name for name in _FROZEN if frozen.get(name) != getattr(rule, name)]
    return f"is not the one of its plan: {', '.join(unlike)} differ" if unlike else None


def _planned_findings(baseline: RunEvidence, candidate: RunEvidence) -> list[Finding]:
    """A rule says how many documents were planned: they must be as many as the other side's."""
    planned = [
        run.facts.samples_expected if run.facts.early_stop is None else run.facts.early_stop.planned_samples
        for run in (baseline, candidate)
    ]
    has_rule = any(run.facts.early_stop is not None for run in (baseline, candidate))
    if not has_rule or planned[0] == planned[1]:
        return []
    return [
        Finding(
            code="early-stop-other-documents",
            severity=Severity.INVALID,
            message=(
                f"the baseline was to evaluate {planned[0]} documents and the candidate {planned[1]}, so the "
                "part that a stopping rule left is not of the same documents"
            ),
        )
    ]


def _is_sound(rule: EarlyStop) -> bool:
    looks = rule.looks
    ascending = all(first < second for first, second in itertools.pairwise(looks))
    return (
        bool(looks)
        and looks[0] >= 1
        and ascending
        and looks[-1] == rule.planned_samples
        and 0 <= _look(rule) < len(looks)
        and 0 <= rule.order_seed < 2**64
    )


def _told(side: str, rule: EarlyStop) -> Finding:
    look, ended = _look(rule), rule.looks[_look(rule)]
    return Finding(
        code="early-stop" if side == "candidate" else "early-stop-baseline",
        severity=Severity.INFO if side == "candidate" else Severity.WARNING,
        message=(
            f"a stopping rule on {rule.metric} ended the {side} at look {look + 1} of {len(rule.looks)} "
            f"({rule.outcome}): the first {ended} of {rule.planned_samples} documents in random order count"
            + ("; tests use the level of that look" if side == "candidate" else "")
        ),
        details={"look": look, "documents": ended, "planned": rule.planned_samples, "outcome": rule.outcome},
    )

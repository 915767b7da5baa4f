"""Where two effective plans differ, and what that means."""

import re
from collections.abc import Iterator, Sequence

from pydantic import JsonValue

from assay_evidence.report import Finding, PlanDifference, Severity

SUBJECT = "plan"

EXPECTED = (
    # What is compared: the artifacts.
    "artifact",
    "artifact.*",
    # Identifiers, names and origins; what the rows are, their digest says.
    "plan_hash",
    "dataset.id",
    "dataset.name",
    "dataset.snapshot_id",
    "dataset.source*",
    "fewshot.id",
    "fewshot.name",
    "fewshot.snapshot_id",
    "fewshot.source*",
    "members.*.dataset.id",
    "members.*.dataset.name",
    "members.*.dataset.snapshot_id",
    "members.*.dataset.source*",
    "members.*.fewshot.id",
    "members.*.fewshot.name",
    "members.*.fewshot.snapshot_id",
    "members.*.fewshot.source*",
    "harness.*snapshot_id",
    "harness.*origin*",
    "method.id",
    "method.name",
    "method.version",
    "*created_at",
    "*created_by",
    # What follows from other parts of the plan.
    "canonical",
    "deviations",
    "deviations.*",
    "notes",
    "notes.*",
    # How requests are sent and served, and how long a resampled stderr takes.
    "options.concurrency",
    "options.batch_size",
    "options.max_retries",
    "options.reuse_responses",
    "options.serving*",
    "options.goodput*",
    "options.bootstrap_iterations",
    "harness.options.bootstrap_iterations",
    # The order in which documents are evaluated, and when to stop; a finding of its own tells of it.
    "options.early_stop*",
    "early_stop*",
)
"""Paths that must differ, or cannot bear on quality; ``*`` stands for any text."""

DECISIVE = (
    "task.generation_kwargs*",
    "task.until*",
    "task.max_gen_toks",
    "task.repeats",
    "members.*.generation_kwargs*",
    "members.*.repeats",
    "scoring*",
)
"""Paths that change what is generated, or how it is scored, while prompts stay equal."""

NAMED = 5
"""Paths that a message names."""


def plan_differences(
    baseline: JsonValue, candidate: JsonValue, *, allowed: Sequence[str] = ()
) -> list[PlanDifference]:
    """Where two effective plans differ, by path: equal JSON gives equal reports, however it is ordered.

    Args:
        allowed: further paths that may differ, with ``*`` for any text.
    """
    return [
        PlanDifference(
            path=path, baseline=first, candidate=second, expected=_matches(path, (*EXPECTED, *allowed))
        )
        for path, first, second in _differing(baseline, candidate, "")
    ]


def plan_findings(
    baseline: JsonValue, candidate: JsonValue, differences: Sequence[PlanDifference]
) -> list[Finding]:
    """What the differences mean; a plan without a task can vouch for nothing."""
    found = []
    for side, plan in (("baseline", baseline), ("candidate", candidate)):
        if not isinstance(plan, dict) or not isinstance(plan.get("task"), dict):
            found.append(
                Finding(
                    code="plan-missing",
                    severity=Severity.INVALID,
                    message=f"the {side} has no effective plan, so nobody knows how its responses were made",
                    subject=SUBJECT,
                )
            )
    unexpected = [one for one in differences if not one.expected]
    decisive = [one for one in unexpected if _matches(one.path, DECISIVE)]
    if decisive:
        found.append(
            _finding(
                "generation-differs",
                Severity.INVALID,
                "the runs generate or score in different ways, so equal prompts do not make equal questions",
                decisive,
            )
        )
    others = [one for one in unexpected if one not in decisive]
    if others:
        found.append(
            _finding(
                "plan-differs", Severity.WARNING, "the effective plans differ beside the artifact", others
            )
        )
    return found


def first_unexpected(differences: Sequence[PlanDifference]) -> PlanDifference | None:
    """The difference that most likely explains others: the first unexpected one that is no digest."""
    unexpected = [one for one in differences if not one.expected]
    telling = [one for one in unexpected if not _matches(one.path, ("*hash", "*sha256*", "*digest"))]
    return next(iter(telling or unexpected), None)


def described(difference: PlanDifference) -> str:
    """One difference in words."""
    first, second = (_short(value) for value in (difference.baseline, difference.candidate))
    return f"{difference.path} is {first} in the baseline and {second} in the candidate"


def _finding(code: str, severity: Severity, message: str, differences: Sequence[PlanDifference]) -> Finding:
    first = first_unexpected(differences)
    assert first is not None, "there are differences, none of them expected"
    paths = [one.path for one in differences]
    more = f" ({len(paths)} paths differ: {', '.join(paths[:NAMED])}{', ...' if len(paths) > NAMED else ''})"
    return Finding(
        code=code,
        severity=severity,
        message=f"{message}: {described(first)}{more if len(paths) > 1 else ''}",
        subject=SUBJECT,
        details={"paths": list(paths)},
    )


def _differing(first: JsonValue, second: JsonValue, path: str) -> Iterator[tuple[str, JsonValue, JsonValue]]:
    if first == second and type(first) is type(second):
        return
    if isinstance(first, dict) and isinstance(second, dict):
        for name in sorted({*first, *second}):
            yield from _differing(first.get(name), second.get(name), f"{path}.{name}" if path else name)
    elif _is_rows(first) and _is_rows(second) and len(first) == len(second):  # type: ignore[arg-type]
        for place, (one, other) in enumerate(zip(first, second, strict=True)):  # type: ignore[arg-type]
            yield from _differing(one, other, f"{path}.{place}" if path else str(place))
    elif first != second:
        yield path, first, second


def _is_rows(value: JsonValue) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(
        re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), path, re.DOTALL) for pattern in patterns
    )


def _short(value: JsonValue) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

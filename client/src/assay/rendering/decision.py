"""Decisions and policies as text."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from assay.models import Decision, Policy, QualityRule, Reason, RuntimeRule
from assay.rendering.comparison import subject_name
from assay.rendering.text import MISSING, Heading, clean, counted, fields, moment, one_line, share, table

VERDICT_STYLES = {"ACCEPT": "green", "REJECT": "red", "INCONCLUSIVE": "yellow"}
NOTED = "noted"
_EFFECTS = {"rejects": "red", "blocks": "yellow", "supports": "green", NOTED: "dim"}
_MEANINGS = {
    "ACCEPT": "{candidate} may replace {base}",
    "REJECT": "{candidate} may not replace {base}",
    "INCONCLUSIVE": "the evidence does not say whether {candidate} may replace {base}",
}


def verdict_line(decision: Decision) -> Text:
    """The verdict and what it means, on one line."""
    base = subject_name(decision.baseline, other=decision.candidate)
    candidate = subject_name(decision.candidate, other=decision.baseline)
    if not decision.valid:
        return Text(
            clean(f"INVALID EVIDENCE: nothing may be concluded about {candidate} and {base}"),
            style="bold red",
        )
    words = _MEANINGS.get(decision.verdict, "").format(candidate=candidate, base=base)
    style = VERDICT_STYLES.get(decision.verdict, "")
    return Text(clean(f"{decision.verdict}: {words}"), style=f"bold {style}")


def decision_report(decision: Decision) -> RenderableType:
    """The verdict, its reasons, and what to do next."""
    return Group(
        verdict_line(decision),
        Text(clean(decision.summary)),
        Text(""),
        _reasons(decision.reasons),
        Text(""),
        Text(clean(next_step(decision)), style="bold"),
        Text(""),
        fields(_origin(decision)),
    )


def next_step(decision: Decision) -> str:
    """What to do now, in words."""
    if not decision.valid:
        return "Next: remove what makes the evidence invalid (above), run again, and decide again."
    if decision.verdict == "ACCEPT":
        return f"Next: keep the evidence: assay decision bundle {decision.id} --to evidence.zip"
    if decision.verdict == "REJECT":
        pair = f"{decision.baseline.view_id} {decision.candidate.view_id}"
        return f"Next: look at what was lost: assay compare {pair} --items lost"
    if decision.samples_needed is not None:
        return (
            f"Next: run both on at least {decision.samples_needed} items; if nothing changes but their "
            "number, that settles it."
        )
    return "Next: more items do not settle it; see the reasons that block."


def decision_table(decisions: Iterable[Decision]) -> Table:
    """Decisions, one a line."""
    rows = (
        (
            Text(
                decision.verdict if decision.valid else "INVALID",
                style=VERDICT_STYLES.get(decision.verdict, "") if decision.valid else "red",
            ),
            subject_name(decision.baseline, other=decision.candidate),
            subject_name(decision.candidate, other=decision.baseline),
            decision.policy.label,
            moment(decision.created_at or None),
            decision.id,
        )
        for decision in decisions
    )
    headings = (
        Heading("verdict"),
        Heading("base"),
        Heading("candidate"),
        Heading("policy"),
        Heading("created (UTC)"),
        Heading("id", style="dim"),
    )
    return table(headings, rows)


def policy_table(policies: Iterable[Policy]) -> Table:
    """Policies, one a line."""
    rows = (
        (
            f"{policy.name}@{policy.version}",
            "; ".join(_short(rule) for rule in policy.quality if rule.role == "critical"),
            str(len(policy.runtime)),
            moment(policy.created_at or None),
            one_line(policy.description, width=60),
        )
        for policy in policies
    )
    headings = (
        Heading("policy"),
        Heading("must be shown"),
        Heading("runtime bounds", number=True),
        Heading("created (UTC)"),
        Heading("description"),
    )
    return table(headings, rows)


def policy_card(policy: Policy) -> RenderableType:
    """One version of a policy, every rule of it."""
    lines: list[tuple[str, str | Text]] = [
        ("policy", f"{policy.name}@{policy.version}  {policy.id}"),
        ("description", policy.description or MISSING),
        ("tests", f"one-sided error {policy.alpha}, power {policy.power}"),
        (
            "pairs",
            f"at least {policy.min_samples}, at least {share(policy.coverage_floor)} of the larger run",
        ),
        ("failed samples", f"at most {share(policy.max_failed_share)} on either side"),
        ("ceiling", f"a base at or above {policy.ceiling} leaves no room to see a loss"),
        ("noise floor", "an A/A run is required" if policy.require_noise_floor else "not required"),
        ("power grade", f"{policy.min_power_grade} or better for critical energy rules"),
        ("digest", policy.digest),
    ]
    if policy.allowed_plan_differences:
        lines.append(("plans may differ in", ", ".join(policy.allowed_plan_differences)))
    parts: list[RenderableType] = [fields(lines), _quality_rules(policy.quality)]
    if policy.runtime:
        parts.append(_runtime_rules(policy.runtime))
    return Group(*parts)


def _reasons(reasons: Iterable[Reason]) -> Table:
    """Effects and messages; the codes are for programs, which read JSON."""
    grid = Table(title=Text("reasons"), title_justify="left", title_style="bold", box=None, show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    noted: dict[str, list[Reason]] = {}
    for reason in reasons:
        if reason.effect == NOTED:
            noted.setdefault(reason.code, []).append(reason)
        else:
            effect = Text(reason.effect, style=_EFFECTS.get(reason.effect, ""))
            grid.add_row(effect, Text(clean(reason.message)))
    # What decides nothing, and holds for several metrics, is told of one.
    for first, *others in noted.values():
        remark = f" (and so for {counted(len(others), 'other metric')})" if others else ""
        grid.add_row(Text(NOTED, style=_EFFECTS[NOTED]), Text(clean(f"{first.message}{remark}")))
    return grid


def _origin(decision: Decision) -> list[tuple[str, str]]:
    early = " (with early stopping, and its stricter bounds)" if decision.early_stop else ""
    return [
        ("policy", f"{decision.policy.label}{early}"),
        ("base", _run(decision.baseline.run_name, decision.baseline.view_id)),
        ("candidate", _run(decision.candidate.run_name, decision.candidate.view_id)),
        ("decision", decision.id),
        ("comparison", decision.comparison_id),
        ("evidence", f"sha256:{decision.bundle_digest.removeprefix('sha256:')}"),
    ]


def _run(name: str, run_id: str) -> str:
    return f"run {name} {run_id}" if name else run_id


def _short(rule: QualityRule) -> str:
    return f"{rule.metric} {_test(rule)}"


def _test(rule: QualityRule) -> str:
    words = "equal within" if rule.test == "equivalence" else "not worse by"
    unit = " of the base's score" if rule.margin_kind == "relative" else ""
    return f"{words} {rule.margin:g}{unit}"


def _quality_rules(rules: Iterable[QualityRule]) -> Table:
    rows = (
        (
            rule.metric,
            rule.role,
            _test(rule),
            f"{rule.direction} is better" if rule.direction else "as the task says",
            MISSING if rule.order is None else str(rule.order),
        )
        for rule in rules
    )
    headings = (
        Heading("quality"),
        Heading("role"),
        Heading("test"),
        Heading("direction"),
        Heading("order", number=True),
    )
    return table(headings, rows)


def _runtime_rules(rules: Iterable[RuntimeRule]) -> Table:
    rows = ((rule.metric, rule.role, _bound(rule)) for rule in rules)
    return table((Heading("runtime"), Heading("role"), Heading("bound")), rows)


def _bound(rule: RuntimeRule) -> str:
    bounds = {
        "candidate / base at most": rule.max_ratio,
        "candidate / base at least": rule.min_ratio,
        "candidate at most": rule.max_value,
        "candidate at least": rule.min_value,
    }
    return ", ".join(f"{words} {value:g}" for words, value in bounds.items() if value is not None)

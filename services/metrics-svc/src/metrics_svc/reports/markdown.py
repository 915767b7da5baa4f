"""Comparisons and decisions as Markdown for the comment of a pull request."""

import html
import re
from collections.abc import Iterable, Sequence

from assay_evidence.decision import Judgement, Verdict
from assay_evidence.report import CandidateReport, EnergyComparison, Finding, QualityComparison, Severity
from metrics_svc.reports import wording
from metrics_svc.reports.material import ComparisonMaterial, DecisionMaterial
from metrics_svc.reports.terms import (
    FLIP_TERMS,
    comparison_words,
    measured_metrics,
    runtime_remarks,
    runtime_title,
)

MOST_BYTES = 60_000
"""GitHub and GitLab refuse comments of more than 65,536 characters."""
LONGEST_CELL = 160
LONGEST_TEXT = 600
MOST_FINDINGS = 20
MOST_REASONS = 30
MOST_METRICS = 40

_MARKS = {Verdict.ACCEPT: "✅", Verdict.REJECT: "❌", Verdict.INCONCLUSIVE: "⚠️"}
_EFFECTS = {"supports": "supports", "blocks": "**blocks**", "rejects": "**rejects**", "noted": "noted"}
# What has a meaning anywhere, at the beginning of a line, or as part of an address.
_SPECIAL = re.compile(r"([\\`*_{}\[\]|~$]|^[-+#=:]|(?<=:)//)")
_PUNCTUATED = re.compile(r"(?i)(^\d+(?=[.)](?:\s|$))|\bwww(?=\.))")
_LOOKED_UP = re.compile(r"@(?=\w)|#(?=\d)")
_WORDS = {
    Severity.INVALID: "**invalid**",
    Severity.NOT_COMPARABLE: "**not comparable**",
    Severity.WARNING: "warning",
    Severity.INFO: "note",
}


def text(value: object, *, longest: int = LONGEST_TEXT) -> str:
    """A text in one line that no Markdown reader takes for markup, a link, a mention or a cell's end."""
    escaped = _SPECIAL.sub(r"\\\1", html.escape(wording.name_of(value, longest=longest), quote=False))
    # Names and numbers behind these signs are looked up after rendering; a space without width prevents it.
    return _LOOKED_UP.sub("\\g<0>\u200b", _PUNCTUATED.sub(r"\1\\", escaped))


def decision_markdown(material: DecisionMaterial) -> str:
    """A decision: the verdict in the first line, its reasons, and the evidence in collapsed parts."""
    comparison, judgement = material.comparison, material.judgement
    (candidate,) = comparison.candidates
    report = candidate.report
    baseline = comparison.baseline
    parts = [
        f"## {_MARKS[judgement.verdict]} {judgement.verdict.value}: "
        f"{text(report.candidate.artifact_name)} in place of {text(baseline.artifact_name)}",
        text(judgement.summary),
        *_more_samples(judgement),
        *_reasons(judgement),
        *_quality(report),
        *_sections(report),
        f"<sub>Decision `{_code(material.id)}` by policy {text(material.policy.name)} version "
        f"{material.policy.version}, comparison `{_code(comparison.id)}`, evidence bundle sha256 "
        f"`{_code(material.bundle_digest)}`</sub>",
    ]
    return _bounded(parts)


def comparison_markdown(material: ComparisonMaterial) -> str:
    """A comparison, candidate by candidate."""
    parts: list[str] = []
    for candidate in material.candidates:
        report = candidate.report
        words = comparison_words(report)
        name, baseline = text(report.candidate.artifact_name), text(material.baseline.artifact_name)
        parts += [
            f"## {words.word}: {name} against {baseline}",
            text(words.summary),
            *_quality(report),
            *_sections(report),
        ]
    settings = material.settings
    parts.append(
        f"<sub>Comparison `{_code(material.id)}`, margin {wording.plain(settings.margin)}, α "
        f"{wording.plain(settings.alpha)}</sub>"
    )
    return _bounded(parts)


def _more_samples(judgement: Judgement) -> list[str]:
    if not judgement.samples_needed:
        return []
    return [f"**{wording.count(judgement.samples_needed)} pairs** in all would settle it."]


def _reasons(judgement: Judgement) -> list[str]:
    rows = [
        (_EFFECTS[one.effect], text(one.message), f"`{_code(one.code)}`")
        for one in judgement.reasons[:MOST_REASONS]
    ]
    left = len(judgement.reasons) - len(rows)
    return [_table(("", "Reason", "Code"), rows), *([f"{left} more reasons."] if left else [])]


def _quality(report: CandidateReport) -> list[str]:
    if not report.quality:
        return ["No metric has a value on both sides of any pair."]
    rows = [_quality_row(one) for one in report.quality[:MOST_METRICS]]
    left = len(report.quality) - len(rows)
    head = (
        "Metric",
        "Baseline",
        "Candidate",
        "Difference (90 %)",
        "Margin test",
        "Lost / gained",
        "Weak rule",
    )
    note = (
        "<sub>Weak rule: the difference is within the baseline's stderr. It ignores the pairing and proves "
        "nothing.</sub>"
    )
    return [_table(head, rows), *([f"{left} more metrics."] if left else []), note]


def _quality_row(compared: QualityComparison) -> tuple[str, ...]:
    score = wording.Score(compared)
    words, _ = wording.margin_words(compared)
    margin = f", margin {score.width(compared.margin_test.margin)}" if compared.margin_test else ""
    flips = (
        f"{wording.count(compared.flips.lost)} / {wording.count(compared.flips.gained)}"
        if compared.flips
        else ""
    )
    within = {None: "", True: "within", False: "outside"}[compared.weak_rule.within_stderr]
    interval = f" ({score.interval(compared.interval_90)})" if compared.interval_90 else ""
    return (
        text(compared.metric, longest=LONGEST_CELL),
        score.value(compared.baseline),
        score.value(compared.candidate),
        f"{score.difference(compared.difference)}{interval}",
        f"**{words}**{margin}",
        flips,
        within,
    )


def _sections(report: CandidateReport) -> list[str]:
    """Everything else, collapsed; findings open where something is wrong."""
    guards = [guard for one in report.quality for guard in one.guards]
    findings = sorted(
        [*report.findings, *guards, *report.workload.findings],
        key=lambda one: list(Severity).index(one.severity),
    )
    return [
        *_findings(findings),
        *_details("Flips by kind", _flips(report)),
        *_details("Noise floor", _noise(report)),
        *_details("Runtime", _runtime(report)),
        *_details("Coverage and workload", _coverage(report)),
    ]


def _findings(findings: Sequence[Finding]) -> list[str]:
    shown = findings[:MOST_FINDINGS]
    lines = [f"- {_WORDS[one.severity]}: {text(one.message)}" for one in shown]
    if len(findings) > len(shown):
        lines.append(f"- {len(findings) - len(shown)} more findings")
    return ["\n".join(lines)] if lines else []


def _flips(report: CandidateReport) -> list[str]:
    parts = []
    for one in report.flips[:MOST_METRICS]:
        rows = [
            (FLIP_TERMS[kind].title, wording.count(lost), wording.count(gained))
            for kind in FLIP_TERMS
            if (lost := one.lost_by_class.get(kind, 0)) + (gained := one.gained_by_class.get(kind, 0))
        ]
        if rows:
            parts += [
                text(one.metric, longest=LONGEST_CELL),
                _table(("Kind of change", "Lost", "Gained"), rows),
            ]
    return parts


def _noise(report: CandidateReport) -> list[str]:
    rows = [
        (
            text(one.metric, longest=LONGEST_CELL),
            wording.share(one.churn_aa),
            wording.share(one.churn_ab),
            f"{wording.points(one.excess)}, p {wording.probability(one.excess_p)}",
            "above the noise" if one.above_noise else "within the noise",
        )
        for one in report.noise[:MOST_METRICS]
    ]
    return [_table(("Metric", "Baseline twice", "Candidate", "Excess", ""), rows)] if rows else []


def _runtime(report: CandidateReport) -> list[str]:
    rows = []
    for one in measured_metrics(report):
        interval = one.ratio_interval_95
        sign = "≥ " if one.at_least else ""
        rows.append(
            (
                text(runtime_title(one.metric), longest=LONGEST_CELL),
                sign + text(wording.measured(one.baseline, one.unit), longest=LONGEST_CELL),
                sign + text(wording.measured(one.candidate, one.unit), longest=LONGEST_CELL),
                wording.ratio(one.ratio)
                + (f" ({wording.measured_interval(interval, '')})" if interval else ""),
            )
        )
    if not rows:
        return []
    energy = report.energy
    grades = f"Energy: baseline grade {energy.baseline.grade}, candidate grade {energy.candidate.grade}"
    note = f": {text(energy.note)}" if energy.note else ""
    comparable = "" if energy.comparable else ", **not comparable**"
    remarks = [f"- {text(', '.join(one.metrics))}: {text(one.remark)}" for one in runtime_remarks(report)]
    return [
        _table(("", "Baseline", "Candidate", "Ratio (95 %)"), rows),
        *(["\n".join(remarks)] if remarks else []),
        f"{grades}{comparable}{note}",
        *_power_records(energy),
    ]


def _power_records(energy: EnergyComparison) -> list[str]:
    """What the power of each device was read from."""
    rows = [
        (
            f"{role}: {text(one.device_id, longest=LONGEST_CELL)}",
            f"{text(one.sensor)} of the {text(one.scope)}, {text(one.method)}",
            wording.measured(one.watts, "W"),
            f"{wording.measured(one.covered_s, 's')} of {wording.measured(one.window_s, 's')}",
            f"{wording.count(one.readings)}, largest gap {wording.measured(one.largest_gap_s, 's')}",
            wording.measured(one.idle_watts_before, "W"),
            one.grade,
        )
        for role, side in (("Baseline", energy.baseline), ("Candidate", energy.candidate))
        for one in side.devices
    ]
    headings = ("Device", "Sensor", "Mean power", "Covered", "Readings", "Idle before", "Grade")
    return [_table(headings, rows)] if rows else []


def _coverage(report: CandidateReport) -> list[str]:
    cover, work = report.coverage, report.workload
    rows = [
        ("Paired", f"{wording.count(cover.paired)} ({wording.share(cover.fraction)})"),
        ("Floor", wording.share(cover.floor)),
        (
            "Only in the baseline / the candidate",
            f"{cover.missing_in_candidate} / {cover.missing_in_baseline}",
        ),
        ("Failed, baseline / candidate", f"{cover.failed_in_baseline} / {cover.failed_in_candidate}"),
        ("Same document, other prompt / target", f"{cover.prompt_differs} / {cover.target_differs}"),
        ("Work", "comparable" if work.comparable else "**not comparable**"),
        ("Unexpected plan differences", str(sum(not one.expected for one in report.plan_differences))),
    ]
    unexpected = [one.path for one in report.plan_differences if not one.expected][:MOST_FINDINGS]
    paths = [", ".join(text(path, longest=LONGEST_CELL) for path in unexpected)] if unexpected else []
    return [_table(("", ""), rows), *paths]


def _details(title: str, parts: Sequence[str]) -> list[str]:
    """A collapsed part; the empty lines make readers take its inside for Markdown."""
    if not parts:
        return []
    inside = "\n\n".join(parts)
    return [f"<details><summary>{title}</summary>\n\n{inside}\n\n</details>"]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def _code(value: str) -> str:
    """Text between backticks: an identifier of ours, so whatever else is in it is left out."""
    return re.sub(r"[^\w.:@-]", "", value)[:100]


def _bounded(parts: Sequence[str]) -> str:
    """The parts as one text; whole parts are left out at the end of one that is too long."""
    kept: list[str] = []
    size = 0
    last = parts[-1]
    room = MOST_BYTES - len(last.encode()) - 200
    for number, part in enumerate(parts[:-1]):
        size += len(part.encode()) + 2
        if size > room:
            kept.append(
                f"{len(parts) - 1 - number} parts are left out: the whole report is longer than a comment."
            )
            break
        kept.append(part)
    return "\n\n".join([*kept, last]).replace(wording.UNIT_SPACE, " ") + "\n"

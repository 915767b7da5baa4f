"""Reports as one HTML file each: no script, nothing loaded from elsewhere, every text escaped.

Templates are part of the package. What the data brings goes through autoescaping and ``wording.visible``, so
that neither markup nor invisible characters of a prompt or a name get into the page.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import JsonValue

from assay_evidence.decision import Verdict
from assay_evidence.report import (
    CandidateReport,
    ComparisonSettings,
    Finding,
    FlipAnalysis,
    FlipClass,
    Severity,
    WorkloadParity,
)
from metrics_svc.reports import wording
from metrics_svc.reports.figures import forest_plots, latency_curves
from metrics_svc.reports.latencies import RunLatencies
from metrics_svc.reports.material import CandidateMaterial, ComparisonMaterial, DecisionMaterial, Example
from metrics_svc.reports.rules import quality_rule, runtime_rule
from metrics_svc.reports.terms import (
    FLIP_TERMS,
    FlipTerm,
    comparison_words,
    is_further,
    measured_metrics,
    runtime_remarks,
    runtime_title,
)

EXAMPLES_PER_CLASS = 3
"""For each direction; more would bury the page."""
LONGEST_JSON = 400

_SEVERITIES = {
    Severity.INVALID: ("invalid", "bad"),
    Severity.NOT_COMPARABLE: ("not comparable", "open"),
    Severity.WARNING: ("warning", "open"),
    Severity.INFO: ("note", "note"),
}
_EFFECTS = {"supports": "good", "blocks": "open", "rejects": "bad", "noted": ""}
_VERDICTS = {Verdict.ACCEPT: "good", Verdict.REJECT: "bad", Verdict.INCONCLUSIVE: "open"}
_CURVES = (
    ("ttft", "Time to first token"),
    ("itl", "Between tokens"),
    ("latency", "Whole request"),
)


@dataclass(frozen=True, slots=True)
class _ExampleView:
    """An example as the template shows it."""

    metric: str
    flip: str
    headline: str
    doc_hash: str
    unstable: bool
    prompt: wording.Excerpt
    target: wording.Excerpt
    baseline: wording.Excerpt
    candidate: wording.Excerpt
    baseline_value: str
    candidate_value: str
    baseline_filtered: str
    candidate_filtered: str


@dataclass(frozen=True, slots=True)
class _CandidateView:
    """A candidate as the template shows it; ``unexpected`` counts plan differences."""

    report: CandidateReport
    settings: ComparisonSettings
    word: str
    tone: str
    summary: str
    banners: list[Finding]
    unexpected: int
    forests: list[Markup]
    curves: list[tuple[str, Markup]]
    examples: list[tuple[str, list[_ExampleView]]]


def comparison_page(material: ComparisonMaterial) -> str:
    """The report of a comparison, with every candidate. Takes up to a second: not for the event loop."""
    title = f"{_names(material.candidates)} against {material.baseline.artifact_name}"
    return _render("comparison.html.jinja", title=title, material=material, views=_views(material))


def decision_page(material: DecisionMaterial) -> str:
    """The report of a decision: the verdict, its reasons, the policy, then the evidence."""
    comparison, judgement = material.comparison, material.judgement
    names = f"{_names(comparison.candidates)} in place of {comparison.baseline.artifact_name}"
    return _render(
        "decision.html.jinja",
        title=f"{judgement.verdict.value}: {names}",
        material=material,
        judgement=judgement,
        policy=material.policy,
        tone=_VERDICTS[judgement.verdict],
        views=_views(comparison),
    )


def _render(template: str, **context: Any) -> str:
    environment = _environment()
    # The package's own file, so it needs no escaping.
    css = Markup(environment.loader.get_source(environment, "report.css")[0])  # type: ignore[union-attr]
    return environment.get_template(template).render(css=css, **context)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("metrics_svc.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "name": wording.name_of,
        "breakable": _breakable,
        "number": wording.number,
        "plain": wording.plain,
        "count": wording.count,
        "share": wording.share,
        "p": wording.probability,
        "measured": wording.measured,
        "measured_interval": wording.measured_interval,
        "measured_difference": wording.measured_difference,
        "ratio": wording.ratio,
        "points": wording.points,
        "points_interval": wording.points_interval,
        "score": wording.Score,
        "margin_words": wording.margin_words,
        "severity_word": lambda severity: _SEVERITIES[severity][0],
        "severity_tone": lambda severity: _SEVERITIES[severity][1],
        "effect_tone": _EFFECTS.__getitem__,
        "runtime_title": runtime_title,
        "runtime_remarks": runtime_remarks,
        "measured_metrics": measured_metrics,
        "flip_rows": _flip_rows,
        "workload_rows": _workload_rows,
        "quality_rule": quality_rule,
        "runtime_rule": runtime_rule,
        "json": _json,
        "moment": _moment,
    }
    environment.tests["further"] = is_further
    return environment


def _visible(value: Any) -> Any:
    return wording.visible(value) if type(value) is str else value


def _breakable(text: object) -> Markup:
    """A name that may be broken behind its separators."""
    parts = re.split(r"(?<=[.,_/])", wording.name_of(text))
    return Markup("<wbr>").join(parts)  # which escapes them


def _names(candidates: Sequence[CandidateMaterial]) -> str:
    names = [wording.name_of(one.report.candidate.artifact_name, longest=80) for one in candidates]
    return names[0] if len(names) == 1 else f"{len(names)} candidates"


def _views(material: ComparisonMaterial) -> list[_CandidateView]:
    return [_view(one, material) for one in material.candidates]


def _view(material: CandidateMaterial, comparison: ComparisonMaterial) -> _CandidateView:
    report = material.report
    words = comparison_words(report)
    banners = [*report.findings, *(guard for one in report.quality for guard in one.guards)]
    banners.sort(key=lambda finding: list(Severity).index(finding.severity))
    return _CandidateView(
        report=report,
        settings=comparison.settings,
        word=words.word,
        tone=words.tone,
        summary=words.summary,
        banners=_once(banners),
        unexpected=sum(not one.expected for one in report.plan_differences),
        forests=[Markup(plot) for plot in forest_plots(report.quality)],
        curves=_curves(comparison.baseline_latencies, material.latencies),
        examples=_examples(material.examples),
    )


def _once(findings: Sequence[Finding]) -> list[Finding]:
    """Findings without those that say the same of the same subject again."""
    return list({(one.code, one.subject, one.message): one for one in findings}.values())


def _curves(baseline: RunLatencies | None, candidate: RunLatencies | None) -> list[tuple[str, Markup]]:
    found = []
    for name, caption in _CURVES:
        plot = latency_curves(getattr(baseline, name, None), getattr(candidate, name, None), title=caption)
        if plot is not None:
            found.append((caption, Markup(plot)))
    return found


def _examples(examples: Sequence[Example]) -> list[tuple[str, list[_ExampleView]]]:
    """Examples under the title of their class, in the order of the classes, a few of each direction."""
    groups: dict[tuple[str, str], list[Example]] = {}
    for one in examples:
        group = groups.setdefault((one.flip_class or FlipClass.OTHER.value, one.flip), [])
        if len(group) < EXAMPLES_PER_CLASS:
            group.append(one)
    shown = []
    for kind in FlipClass:
        items = [one for flip in ("lost", "gained") for one in groups.get((kind.value, flip), ())]
        if items:
            shown.append((FLIP_TERMS[kind].title, [_example(one) for one in items]))
    return shown


def _example(example: Example) -> _ExampleView:
    baseline, candidate = wording.excerpts(example.baseline.response, example.candidate.response)
    return _ExampleView(
        metric=example.metric,
        flip=example.flip,
        headline=wording.last_line(example.prompt) or example.target,
        doc_hash=example.doc_hash,
        unstable=bool(example.unstable_under_aa),
        prompt=wording.cut(example.prompt, from_end=True),
        target=wording.cut(example.target),
        baseline=baseline,
        candidate=candidate,
        baseline_value=wording.plain(example.baseline.value),
        candidate_value=wording.plain(example.candidate.value),
        baseline_filtered=_filtered(example.baseline.filtered),
        candidate_filtered=_filtered(example.candidate.filtered),
    )


def _filtered(filtered: Mapping[str, JsonValue]) -> str:
    return ", ".join(f"{name}: {_json(value)}" for name, value in filtered.items())


def _json(value: JsonValue) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_JSON else f"{text[:LONGEST_JSON]}…"


def _moment(text: str) -> str:
    """A time in UTC, to the minute."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _flip_rows(analysis: FlipAnalysis) -> list[tuple[FlipTerm, int, int]]:
    """Classes that occur, with how many were lost and gained."""
    rows = [
        (FLIP_TERMS[kind], analysis.lost_by_class.get(kind, 0), analysis.gained_by_class.get(kind, 0))
        for kind in FlipClass
    ]
    return [row for row in rows if row[1] or row[2]]


def _workload_rows(work: WorkloadParity) -> list[tuple[str, str, str]]:
    left, right = work.baseline, work.candidate
    rows = [
        ("Requests", wording.count(left.requests), wording.count(right.requests)),
        ("Input tokens", wording.count(left.prompt_tokens), wording.count(right.prompt_tokens)),
        ("Output tokens", wording.count(left.completion_tokens), wording.count(right.completion_tokens)),
        (
            "Output tokens of a request, mean",
            wording.number(left.output_tokens_mean),
            wording.number(right.output_tokens_mean),
        ),
        (
            "Output tokens of a request, median",
            wording.number(left.output_tokens_p50),
            wording.number(right.output_tokens_p50),
        ),
        (
            "Output tokens of a request, 90th percentile",
            wording.number(left.output_tokens_p90),
            wording.number(right.output_tokens_p90),
        ),
        ("Cut at the token limit", wording.share(left.truncated_share), wording.share(right.truncated_share)),
        ("Without a response", wording.share(left.error_share), wording.share(right.error_share)),
        ("Retries", wording.count(left.retries), wording.count(right.retries)),
        ("Requests in flight, at most", wording.count(left.concurrency), wording.count(right.concurrency)),
    ]
    reasons = list(dict.fromkeys([*left.stop_reasons, *right.stop_reasons]))
    rows += [
        (
            f"Ended by {wording.name_of(reason)}",
            wording.share(left.stop_reasons.get(reason, 0.0)),
            wording.share(right.stop_reasons.get(reason, 0.0)),
        )
        for reason in reasons
    ]
    return rows

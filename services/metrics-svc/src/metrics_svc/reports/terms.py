"""Titles and meanings of what a comparison counts and measures."""

from typing import NamedTuple

from assay_evidence.report import CandidateReport, FlipClass, RuntimeComparison, Severity
from assay_evidence.runtime_metrics import RUNTIME_METRICS, metric_families
from metrics_svc.reports.wording import Tone, count, margin_words, share


class FlipTerm(NamedTuple):
    """A class of flips in words."""

    title: str
    meaning: str


FLIP_TERMS = {
    FlipClass.ERROR: FlipTerm("No response", "one side has no response"),
    FlipClass.EMPTY: FlipTerm("Empty", "one side's response is blank"),
    FlipClass.TRUNCATED: FlipTerm("Truncated", "the wrong side ran into the token limit"),
    FlipClass.FORMAT_ONLY: FlipTerm("Format only", "another filter of the same metric agrees"),
    FlipClass.CHOICE_CHANGED: FlipTerm("Another choice", "multiple choice: another one is most probable"),
    FlipClass.NUMERIC_ANSWER: FlipTerm("Another number", "both sides give a number, but not the same"),
    FlipClass.OTHER: FlipTerm("Other", "none of the above"),
}


def runtime_title(metric: str) -> str:
    """A runtime metric in words; its own name where there are none."""
    known = RUNTIME_METRICS.get(metric)
    return metric if known is None else known.title


class RuntimeRemark(NamedTuple):
    """What must be known of some runtime metrics, by their names, beside their numbers."""

    metrics: list[str]
    remark: str


def measured_metrics(report: CandidateReport) -> list[RuntimeComparison]:
    """Those that at least one of the runs has a value of."""
    return [one for one in report.runtime if one.baseline is not None or one.candidate is not None]


def is_further(metric: str) -> bool:
    """Whether a metric says more of what another one sums up: percentiles beside p50 and p99, and means."""
    return metric.endswith(("P90", "P95", "Mean"))


def runtime_remarks(report: CandidateReport) -> list[RuntimeRemark]:
    """Why values and intervals are missing, and what else bears on them: each remark with its metrics."""
    found: dict[str, list[str]] = {}
    for one in report.runtime:
        if one.note:
            found.setdefault(one.note, []).append(one.metric)
        if one.difference is not None and one.difference_interval_95 is None:
            why = one.interval_method.removeprefix("none").removeprefix(": ")
            found.setdefault(f"no interval{why and ': '}{why}", []).append(one.metric)
    return [RuntimeRemark(metric_families(metrics), remark) for remark, metrics in found.items()]


class ComparisonWords(NamedTuple):
    """What a comparison without a policy says, in a word and in a sentence."""

    word: str
    tone: Tone
    summary: str


def comparison_words(report: CandidateReport) -> ComparisonWords:
    """Sum up one candidate: a comparison states what was shown, it does not decide."""
    paired = f"{count(report.coverage.paired)} items are paired ({share(report.coverage.fraction)})"
    if not report.valid:
        first = next((one for one in report.findings if one.severity is Severity.INVALID), None)
        why = f" {first.message}" if first else ""
        return ComparisonWords("INVALID", "bad", f"Nothing may be concluded: {paired}.{why}")
    tones = [margin_words(one)[1] for one in report.quality if one.margin_test is not None]
    parts = [
        f"{tones.count(tone)} {words}"
        for tone, words in (("good", "not worse"), ("bad", "worse"), ("open", "not shown"))
        if tone in tones
    ]
    total = len(tones)
    metrics = (
        f"Of {total} tested metric{'' if total == 1 else 's'}: {', '.join(parts)}."
        if total
        else ("No metric could be tested.")
    )
    if "bad" in tones:
        return ComparisonWords("WORSE", "bad", f"{metrics} {paired}.")
    if tones and set(tones) == {"good"}:
        return ComparisonWords("NOT WORSE", "good", f"{metrics} {paired}.")
    return ComparisonWords("NOT SHOWN", "open", f"{metrics} {paired}.")

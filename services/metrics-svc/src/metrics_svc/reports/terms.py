"""Titles and meanings of what a comparison counts and measures."""

from typing import NamedTuple

from assay_evidence.report import CandidateReport, FlipClass, Severity
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

_RUNTIME_TITLES = {
    "ttftP50": "Time to first token, median",
    "ttftP99": "Time to first token, 99th percentile",
    "itlP50": "Between tokens, median",
    "itlP99": "Between tokens, 99th percentile",
    "latencyP50": "Whole request, median",
    "latencyP99": "Whole request, 99th percentile",
    "tps": "Output tokens per second",
    "requestsPerSecond": "Requests per second",
    "power": "Power",
    "tokensPerWatt": "Tokens per joule",
    "joulesPerToken": "Energy of a token",
    "joulesPerCorrectAnswer": "Energy of a correct answer",
}


def runtime_title(metric: str) -> str:
    """A runtime metric in words; its own name where there are none."""
    return _RUNTIME_TITLES.get(metric, metric)


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

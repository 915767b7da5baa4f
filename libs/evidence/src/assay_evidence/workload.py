"""Whether two runs did the same work, so that their runtime may be compared.

Limits, chosen so that a difference below them moves tps or energy per answer by no more than runs of one
artifact differ by themselves:

- mean output length differs by more than ``MAX_LENGTH_CHANGE``: not comparable where the 95 % interval of the
  ratio leaves out 1, else a warning;
- truncated share differs by more than ``MAX_TRUNCATION_CHANGE``: not comparable;
- shares of stop reasons differ by more than ``MAX_STOP_CHANGE`` in all (total variation): a warning;
- more than ``MAX_ERROR_SHARE`` of a side's requests have no response: not comparable, because what is
  measured is then what survived;
- more than ``MAX_RETRY_SHARE`` retries per request: a warning, because retries wait and load the engine;
- other numbers of requests in flight: not comparable, because latency and throughput depend on them;
- other numbers of input tokens for an item: a warning, and not comparable where their sum differs by more
  than ``MAX_PROMPT_CHANGE``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy
import pyarrow
import pyarrow.compute
from numpy.typing import NDArray

from assay_evidence.pairing import Pairing
from assay_evidence.report import (
    ComparisonSettings,
    Finding,
    Interval,
    Severity,
    WorkloadParity,
    WorkloadSide,
)
from assay_evidence.tables import RunEvidence

MAX_LENGTH_CHANGE = 0.05
MAX_TRUNCATION_CHANGE = 0.02
MAX_STOP_CHANGE = 0.05
MAX_ERROR_SHARE = 0.01
MAX_RETRY_SHARE = 0.01
MAX_PROMPT_CHANGE = 0.01
TRUNCATED = "length"
"""Finish reason of a response that ran into its token limit."""

_COLUMNS = ("kind", "answered", "reused", "retries", "finish_reason", "prompt_tokens", "completion_tokens")
_MOST_GROUPS = 1000
_SUBJECT = "workload"

FloatArray = NDArray[numpy.float64]
IntArray = NDArray[numpy.int64]


@dataclass(frozen=True, slots=True)
class _Work:
    """One side's work over the paired items.

    Attributes:
        prompt, output: tokens per item; NaN of an item without a response, or a generated one.
        asked: requests of the whole run.
    """

    side: WorkloadSide
    prompt: FloatArray
    output: FloatArray
    asked: int

    @property
    def retry_share(self) -> float:
        """Retries per request."""
        return self.side.retries / self.asked if self.asked else 0.0


def workload_parity(
    baseline: RunEvidence,
    candidate: RunEvidence,
    pairing: Pairing,
    *,
    settings: ComparisonSettings,
) -> WorkloadParity:
    """Compare the work of two runs over the paired items.

    Args:
        settings: number of resamples and seed of the bootstrap over pairs.
    """
    first = _work(baseline, baseline.index[pairing.baseline])
    second = _work(candidate, candidate.index[pairing.candidate])
    both = ~numpy.isnan(first.output + second.output)
    ratio, interval = _length_ratio(first.output[both], second.output[both], settings=settings)
    answered = ~numpy.isnan(first.prompt + second.prompt)
    prompts = numpy.stack([first.prompt[answered], second.prompt[answered]])
    findings = [
        *_prompt_findings(prompts[0], prompts[1]),
        *_length_findings(ratio, interval),
        *_stop_findings(first.side, second.side),
        *_error_findings({"baseline": first, "candidate": second}),
        *_concurrency_findings(first.side, second.side),
    ]
    return WorkloadParity(
        baseline=first.side,
        candidate=second.side,
        prompts_equal=bool((prompts[0] == prompts[1]).all()),
        output_length_ratio=ratio,
        output_length_ratio_interval_95=interval,
        comparable=all(finding.severity is not Severity.NOT_COMPARABLE for finding in findings),
        findings=findings,
    )


def _work(run: RunEvidence, index: IntArray) -> _Work:
    """Work of the items with these document indexes; errors and retries of the whole run."""
    requests = run.requests(_COLUMNS)
    errors, retries = _errors(requests), int(pyarrow.compute.sum(requests["retries"]).as_py() or 0)
    asked = len(requests)
    of = requests["index"].to_numpy()
    kept = numpy.isin(of, index)
    requests, of = requests.filter(pyarrow.array(kept)), of[kept]
    order = numpy.argsort(index, kind="stable")
    item = order[numpy.searchsorted(index[order], of)] if len(index) else of
    answered = requests["answered"].to_numpy()
    generated = answered & pyarrow.compute.equal(requests["kind"], "generate").to_numpy()
    prompt, output = (
        requests[name].fill_null(0).to_numpy().astype(numpy.float64)
        for name in ("prompt_tokens", "completion_tokens")
    )
    n = len(index)
    outputs = _per_item(item[generated], output[generated], n=n)
    lengths = outputs[~numpy.isnan(outputs)]
    reasons = _shares(requests["finish_reason"].filter(pyarrow.array(generated)))
    side = WorkloadSide(
        requests=len(requests),
        prompt_tokens=int(prompt[answered].sum()),
        completion_tokens=int(output[generated].sum()),
        output_tokens_mean=float(lengths.mean()) if len(lengths) else None,
        output_tokens_p50=_nearest_rank(lengths, 0.50),
        output_tokens_p90=_nearest_rank(lengths, 0.90),
        truncated_share=reasons.get(TRUNCATED, 0.0),
        stop_reasons=reasons,
        error_share=errors,
        retries=retries,
        concurrency=_in_flight(run.facts.plan),
    )
    return _Work(side, _per_item(item[answered], prompt[answered], n=n), outputs, asked)


def _errors(requests: pyarrow.Table) -> float:
    answered = requests["answered"].to_numpy()
    return int((~answered).sum()) / len(answered) if len(answered) else 0.0


def _per_item(item: IntArray, tokens: FloatArray, *, n: int) -> FloatArray:
    sums = numpy.bincount(item, weights=tokens, minlength=n)
    return numpy.where(numpy.bincount(item, minlength=n) > 0, sums, numpy.nan)


def _shares(reasons: pyarrow.ChunkedArray) -> dict[str, float]:
    """Share of each finish reason; what has none counts as ``unknown``."""
    total = len(reasons)
    counts = pyarrow.compute.value_counts(reasons.fill_null("unknown")).to_pylist()
    return {
        one["values"]: one["counts"] / total for one in sorted(counts, key=lambda one: str(one["values"]))
    }


def _nearest_rank(values: FloatArray, share: float) -> float | None:
    return float(numpy.quantile(values, share, method="inverted_cdf")) if len(values) else None


def _in_flight(plan: Mapping[str, object]) -> int | None:
    """Requests that the run kept in flight: bursts at the same time, times requests in a burst."""
    options = plan.get("options")
    if not isinstance(options, Mapping):
        return None
    concurrency, burst = options.get("concurrency"), options.get("batch_size", 1)
    return concurrency * burst if isinstance(concurrency, int) and isinstance(burst, int) else None


def _length_ratio(
    baseline: FloatArray, candidate: FloatArray, *, settings: ComparisonSettings
) -> tuple[float | None, Interval | None]:
    """Ratio of mean output lengths and its bootstrap interval over pairs.

    Above ``_MOST_GROUPS`` pairs, neighbours in the order of the items are drawn together in that many groups,
    so that the cost does not grow with the run.
    """
    n = len(baseline)
    if not n or not baseline.sum():
        return None, None
    ratio = float(candidate.sum() / baseline.sum())
    groups = min(n, _MOST_GROUPS)
    if groups < 2:
        return ratio, None
    starts = (numpy.arange(groups) * n) // groups
    sums = numpy.stack([numpy.add.reduceat(side, starts) for side in (baseline, candidate)], axis=1)
    generator = numpy.random.default_rng([settings.seed, 2])
    weights = generator.multinomial(groups, numpy.full(groups, 1 / groups), size=settings.bootstrap_resamples)
    drawn = numpy.einsum("rg,gs->rs", weights, sums)
    if not drawn[:, 0].all():
        return ratio, None
    low, high = numpy.quantile(drawn[:, 1] / drawn[:, 0], [0.025, 0.975])
    return ratio, (float(low), float(high))


def _prompt_findings(baseline: FloatArray, candidate: FloatArray) -> list[Finding]:
    differing = int(numpy.count_nonzero(baseline != candidate))
    if not differing:
        return []
    before, after = int(baseline.sum()), int(candidate.sum())
    change = abs(after / before - 1) if before else 1.0
    return [
        Finding(
            code="input-tokens-differ",
            severity=Severity.NOT_COMPARABLE if change > MAX_PROMPT_CHANGE else Severity.WARNING,
            message=f"{differing} items have other numbers of input tokens ({before} against {after} in all)",
            subject=_SUBJECT,
            details={"items": differing, "baseline": before, "candidate": after},
        )
    ]


def _length_findings(ratio: float | None, interval: Interval | None) -> list[Finding]:
    if ratio is None or abs(ratio - 1) <= MAX_LENGTH_CHANGE:
        return []
    is_shown = interval is not None and not interval[0] <= 1.0 <= interval[1]
    return [
        Finding(
            code="output-length-differs",
            severity=Severity.NOT_COMPARABLE if is_shown else Severity.WARNING,
            message=f"the candidate's responses are {abs(ratio - 1):.1%} "
            f"{'longer' if ratio > 1 else 'shorter'} on average"
            + ("" if is_shown else ", which may be chance"),
            subject=_SUBJECT,
            details={"ratio": ratio, "interval_95": list(interval) if interval else None},
        )
    ]


def _stop_findings(baseline: WorkloadSide, candidate: WorkloadSide) -> list[Finding]:
    findings = []
    truncation = candidate.truncated_share - baseline.truncated_share
    if abs(truncation) > MAX_TRUNCATION_CHANGE:
        findings.append(
            Finding(
                code="truncation-differs",
                severity=Severity.NOT_COMPARABLE,
                message=f"{baseline.truncated_share:.1%} of the baseline's responses ran into the token "
                f"limit, and {candidate.truncated_share:.1%} of the candidate's",
                subject=_SUBJECT,
                details={"baseline": baseline.truncated_share, "candidate": candidate.truncated_share},
            )
        )
    before, after = baseline.stop_reasons, candidate.stop_reasons
    moved = sum(abs(before.get(name, 0.0) - after.get(name, 0.0)) for name in {*before, *after}) / 2
    if before and after and moved > MAX_STOP_CHANGE:
        findings.append(
            Finding(
                code="stop-reasons-differ",
                severity=Severity.WARNING,
                message=f"{moved:.1%} of the responses ended for another reason",
                subject=_SUBJECT,
                details={"baseline": dict(before), "candidate": dict(after)},
            )
        )
    return findings


def _error_findings(sides: Mapping[str, _Work]) -> list[Finding]:
    findings = []
    for name, work in sides.items():
        if work.side.error_share > MAX_ERROR_SHARE:
            findings.append(
                Finding(
                    code="requests-failed",
                    severity=Severity.NOT_COMPARABLE,
                    message=f"{work.side.error_share:.1%} of the {name} run's requests have no response",
                    subject=_SUBJECT,
                    details={"side": name, "share": work.side.error_share},
                )
            )
        if work.retry_share > MAX_RETRY_SHARE:
            findings.append(
                Finding(
                    code="requests-retried",
                    severity=Severity.WARNING,
                    message=f"{work.side.retries} retries of {work.asked} requests in the {name} run",
                    subject=_SUBJECT,
                    details={"side": name, "retries": work.side.retries},
                )
            )
    return findings


def _concurrency_findings(baseline: WorkloadSide, candidate: WorkloadSide) -> list[Finding]:
    before, after = baseline.concurrency, candidate.concurrency
    if before is None or after is None or before == after:
        return []
    return [
        Finding(
            code="concurrency-differs",
            severity=Severity.NOT_COMPARABLE,
            message=f"{before} requests in flight in the baseline run, {after} in the candidate: latency and "
            "throughput depend on it",
            subject=_SUBJECT,
            details={"baseline": before, "candidate": after},
        )
    ]

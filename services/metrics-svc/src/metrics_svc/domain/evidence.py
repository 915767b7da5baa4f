"""The evidence of a final view: its facts, and its samples and requests as rows of tables."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from assay_evidence.facts import RunFacts
from assay_evidence.tables import RequestRow, SampleRow
from metrics_svc.domain.early_stop import early_stop_of
from metrics_svc.domain.plans import telemetry_records
from metrics_svc.domain.runs import QualityMetrics, RunMetrics, RunSubject
from metrics_svc.domain.samples import RequestRecord, ScoredSample


@dataclass(frozen=True, slots=True)
class ViewEvidence:
    """What comparisons read of a final view.

    Attributes:
        id: as stored. Made from the content when it was written, and never made again: facts that were
            written before facts had a field read with it.
        facts: all but the samples.
        samples_sha256: of the table of samples.
        requests_sha256: of the table of requests.
    """

    id: str
    facts: RunFacts
    samples_sha256: str
    requests_sha256: str


def new_evidence_id(facts: RunFacts, *, samples_sha256: str, requests_sha256: str) -> str:
    """An identifier for new evidence: the same evidence is the same document."""
    content = f"{facts.model_dump_json()}:{samples_sha256}:{requests_sha256}"
    return f"evd_{hashlib.sha256(content.encode()).hexdigest()[:26]}"


@dataclass(frozen=True, slots=True)
class FinalView:
    """A view at its end, and the run behind it.

    Attributes:
        run: as eval-svc returns it.
        metrics: the view's final metrics.
        subject: what the run evaluates.
        served: metrics of the run's own view, which has the runtime metrics.
        scoring_id: the view, where it is not the run's own; ``scoring``: what was asked for, then.
        expected: documents of the complete sample log.
        release: version of this service.
    """

    run: Mapping[str, Any]
    metrics: QualityMetrics
    subject: RunSubject
    served: RunMetrics
    scoring_id: str | None
    scoring: JsonValue
    expected: int
    release: str

    def facts(self) -> RunFacts:
        """The view's facts."""
        metrics, subject, plan = self.metrics, self.subject, self.run["plan"]
        details = self.served.runtime_details
        assert metrics.failure_policy is not None, "known once anything was scored"
        return RunFacts(
            run_id=metrics.run_id,
            scoring_id=self.scoring_id,
            scoring=self.scoring,
            run_name=subject.run_name,
            artifact=dict(plan["artifact"]),
            dataset_id=subject.dataset_id,
            dataset_name=subject.dataset_name,
            snapshot_digest=subject.snapshot_digest,
            method_id=subject.method_id,
            method_name=subject.method_name,
            method_version=subject.method_version,
            recipe_hash=subject.recipe_hash,
            task=subject.task,
            plan_hash=plan["plan_hash"],
            plan=dict(plan),
            quality=metrics.quality,
            higher_is_better=metrics.higher_is_better,
            sample_metrics=metrics.sample_metrics,
            failure_policy=metrics.failure_policy.value,
            canonical=metrics.canonical,
            samples_scored=metrics.samples_scored,
            samples_failed=metrics.samples_failed,
            samples_expected=self.expected,
            runtime=self.served.runtime,
            runtime_details=details.model_dump(mode="json") if details else None,
            telemetry=telemetry_records(self.run),
            early_stop=early_stop_of(self.run),
            versions={**plan["task"].get("library_versions", {}), "metrics-svc": self.release},
            finished_at=metrics.finished_at,
        )


def sample_rows(samples: Sequence[ScoredSample], *, block: int, task: str) -> list[SampleRow]:
    """The samples of one block as rows.

    Args:
        samples: all of them, in the order of the block.
        block: its number in the scored log.
        task: what was run; the task of samples that name none.
    """
    return [
        _sample_row(sample, block=block, position=position, task=task)
        for position, sample in enumerate(samples)
    ]


def _sample_row(sample: ScoredSample, *, block: int, position: int, task: str) -> SampleRow:
    record = sample.record
    requests = sorted(record.requests, key=lambda request: (request.index, request.repeat))
    first = requests[0] if requests else None
    return SampleRow(
        index=record.index,
        task=record.task or task,
        doc_hash=record.doc_hash,
        prompt_hash=record.prompt_hash,
        target_hash=record.target_hash,
        block=block,
        position=position,
        failed=sample.failed,
        target=record.target,
        response=sample.response_text(),
        token_text_lengths=first.token_text_lengths or None if first else None,
        finish_reason=first.finish_reason if first else None,
        choices=_choices(requests),
        values={} if sample.score is None else sample.score.numbers,
        filtered={name: _text(result) for name, result in sample.filtered().items()},
        requests=[request_row(request) for request in requests],
    )


def _choices(requests: Sequence[RequestRecord]) -> int:
    """Continuations that the task gives to choose from, or contexts for one; a single one is no choice."""
    given = [request for request in requests if request.kind == "loglikelihood"]
    counts = (len({one.continuation for one in given}), len({one.prompt for one in given}))
    return next((count for count in counts if count > 1), 0)


def _text(result: JsonValue) -> str | None:
    return result if result is None or isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def request_row(request: RequestRecord) -> RequestRow:
    """A request as a row of the requests table."""
    times = request.times
    return RequestRow(
        kind=request.kind,
        instance=request.instance_id,
        answered=request.response is not None or request.log_probability is not None,
        reused=request.reused_from is not None,
        retries=request.retries,
        finish_reason=request.finish_reason,
        prompt_tokens=request.prompt_tokens,
        completion_tokens=request.completion_tokens,
        sent_ns=times.sent_ns if times else None,
        first_token_ns=(times.first_token_ns or None) if times else None,
        done_ns=times.done_ns if times else None,
        exact_token_times=times is not None and times.exact_token_times,
        token_offsets_us=times.token_offsets_us if times else None,
        schedule_delay_s=request.schedule_delay_s,
    )

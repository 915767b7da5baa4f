"""One example of every event: documentation for readers, and a fixture that the contract tests parse."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from assay_contracts.access_events import KeyCreated, KeyRevoked, KeyRotated
from assay_contracts.dataset_events import (
    DatasetCreated,
    DatasetDeleted,
    IngestCancelled,
    IngestFailed,
    SnapshotDeleted,
    SnapshotReady,
)
from assay_contracts.envelope import Envelope, Event, envelop
from assay_contracts.eval_events import (
    ArtifactRegistered,
    RunCancelled,
    RunFailed,
    RunProvisioning,
    RunQueued,
    RunResponded,
    RunStarted,
    RunSucceeded,
    SamplesCompleted,
)
from assay_contracts.method_events import MethodVersionCreated
from assay_contracts.metrics_events import (
    ComparisonCreated,
    DecisionMade,
    PolicyCreated,
    RunScored,
    RunSettled,
    ScoringCompleted,
    ScoringFailed,
)
from assay_contracts.work import IngestRequested, RunRequested

EXAMPLE_TIME: Final = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)

_DIGEST = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
_SNAPSHOT_ID = "snap_01kas3sx6p9r2u5x8a1d4g7j0m"
_INGEST_ID = "ing_01kas3sp1r4u7x0a3d6g9j2m5p"
_KEY: dict[str, str] = {
    "key_id": "key_01kas3r1a4d7g0j3m6p9s2v5x8",
    "name": "ci",
    "prefix": "assay_k7m2x9qd",
    "by": "owner",
}
_RUN: dict[str, Any] = {
    "run_id": "run_01kas3v7qe8m5w2t9c4xhz6bnd",
    "artifact_id": "art_01kas3tr0d3g6k9p2s5v8y1b4e",
    "backend": "cpu",
    "dataset_id": "ds_01kas3sj4m7q0t3w6z9c2f5h8k",
    "snapshot_digest": _DIGEST,
    "method_id": "mth_01kas3t9x2b5e8h1k4n7q0t3w6",
    "method_version": 1,
}
_CANDIDATE_ID = "run_01kas3z1d4g7j0m3p6s9v2y5b8"
_COMPARISON_ID = "cmp_01kas4a2b5e8h1k4n7q0t3w6z9"
_QUALITY: dict[str, float | None] = {
    "gsm8k.exact_match,strict-match": 0.3,
    "gsm8k.exact_match_stderr,strict-match": 0.1051,
}
_RUNTIME: dict[str, float | None] = {
    "ttftP50": 0.081,
    "ttftP99": 0.214,
    "itlP50": 0.0093,
    "itlP99": 0.0142,
    "tps": 104.2,
    "power": None,
    "tokensPerWatt": None,
}


def examples() -> tuple[Event, ...]:
    """One instance of every event class."""
    return (
        DatasetCreated(dataset_id=_RUN["dataset_id"], name="tutorial-eval", version="main"),
        DatasetDeleted(dataset_id=_RUN["dataset_id"], name="tutorial-eval", version="main"),
        SnapshotReady(
            dataset_id=_RUN["dataset_id"],
            dataset_name="tutorial-eval",
            snapshot_id=_SNAPSHOT_ID,
            digest=_DIGEST,
            rows=1319,
            columns={"question": "string", "answer": "string"},
            split="test",
            fewshot_snapshot_id="snap_01kas3sw3k6n9q2t5w8z1c4f7h",
            source_kind="huggingface",
        ),
        SnapshotDeleted(dataset_id=_RUN["dataset_id"], snapshot_id=_SNAPSHOT_ID, digest=_DIGEST),
        IngestFailed(
            ingest_id=_INGEST_ID,
            dataset_id=_RUN["dataset_id"],
            code="unknown-split",
            message="openai/gsm8k has no split 'validation' in subset 'main'; there are: train, test",
        ),
        IngestCancelled(ingest_id=_INGEST_ID, dataset_id=_RUN["dataset_id"], cancelled_by="ci"),
        MethodVersionCreated(
            method_id=_RUN["method_id"],
            name="tutorial-eval-method",
            version=1,
            template="builtin-lm-eval",
            recipe_hash=_DIGEST,
        ),
        ArtifactRegistered(
            artifact_id=_RUN["artifact_id"],
            name="smollm2-135m-base",
            model="SmolLM2-135M-Instruct",
            backend="cpu",
        ),
        RunQueued(**_RUN),
        RunProvisioning(**_RUN),
        RunStarted(**_RUN, instance_id="inst-7f3a"),
        RunResponded(**_RUN, blocks=21, samples=1319, failed_samples=0),
        RunSucceeded(**_RUN, samples=1319, failed_samples=0, quality=_QUALITY, runtime=_RUNTIME),
        RunFailed(**_RUN, code="serving-lost", reason="5 serving instances were lost in a row"),
        RunCancelled(**_RUN, cancelled_by="ci"),
        SamplesCompleted(run_id=_RUN["run_id"], block=0, samples=64, failed_samples=0),
        RunScored(run_id=_RUN["run_id"], samples=1319, quality=_QUALITY, runtime=_RUNTIME),
        ScoringFailed(run_id=_RUN["run_id"], code="harness-error", reason="row 7 cannot be scored"),
        ScoringCompleted(
            scoring_id="scr_5f8e1c0d7a934b26e1f05a7c9d",
            run_id=_RUN["run_id"],
            name="last number",
            samples=1319,
            quality={"gsm8k.exact_match,last-number": 0.42},
        ),
        ComparisonCreated(
            comparison_id=_COMPARISON_ID,
            baseline_run_id=_RUN["run_id"],
            candidate_run_id=_CANDIDATE_ID,
            paired_items=1319,
            candidate_run_ids=[_CANDIDATE_ID],
            valid=True,
        ),
        PolicyCreated(policy_id="pol_01kas49z3c6f9j2m5p8s1v4y7b", name="default", version=1, digest=_DIGEST),
        DecisionMade(
            decision_id="dec_01kas4b8e1h4k7n0q3t6w9z2c5",
            verdict="ACCEPT",
            valid=True,
            summary="gsm8k.exact_match,strict-match is not worse by 0.02 or more",
            baseline_run_id=_RUN["run_id"],
            candidate_run_id=_CANDIDATE_ID,
            policy_name="default",
            policy_version=1,
            policy_digest=_DIGEST,
            comparison_id=_COMPARISON_ID,
            bundle_digest=_DIGEST,
            samples_needed=None,
        ),
        RunSettled(
            run_id=_CANDIDATE_ID,
            baseline_run_id=_RUN["run_id"],
            metric="gsm8k.exact_match,strict-match",
            look=2,
            samples=792,
            outcome="proven",
        ),
        KeyCreated(**_KEY, role="editor", expires_at=EXAMPLE_TIME + timedelta(days=90)),
        KeyRotated(**_KEY, old_secret_until=EXAMPLE_TIME + timedelta(hours=1)),
        KeyRevoked(**_KEY),
        RunRequested(run_id=_RUN["run_id"]),
        IngestRequested(ingest_id=_INGEST_ID),
    )


def example_envelopes() -> dict[str, Envelope]:
    """The examples as they travel, by subject; identifiers and times are fixed."""
    envelopes = {}
    for number, event in enumerate(examples()):
        envelope = envelop(event, source=_source(event), event_id=f"{number:032x}")
        envelopes[event.SUBJECT] = envelope.model_copy(update={"time": EXAMPLE_TIME})
    return envelopes


def _source(event: Event) -> str:
    if isinstance(event, RunRequested):
        owner = "eval"
    elif isinstance(event, IngestRequested):
        owner = "dataset"
    else:
        owner = event.SUBJECT.split(".")[1]
    return f"/assay/{owner}-svc"

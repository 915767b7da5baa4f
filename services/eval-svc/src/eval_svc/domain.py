"""Artifacts, runs, plans and samples: plain values and the rules on them."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from assay_contracts.eval_events import RunEvent

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
BackendName = Literal["gpu", "rngd", "cpu"]


class RunState(StrEnum):
    """Where a run is."""

    QUEUED = "Queued"
    PROVISIONING = "Provisioning"
    RUNNING = "Running"
    SCORING = "Scoring"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


NEEDS_WORKER = (RunState.QUEUED, RunState.PROVISIONING, RunState.RUNNING)
FINISHED = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)
RESUMABLE = (RunState.FAILED, RunState.CANCELLED)


class Strict(BaseModel):
    """Refuses unknown fields, so that a misspelt option is an error and not a surprise."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ArtifactSpec(Strict):
    """A model in a form that one backend serves."""

    name: Name
    model: str = Field(min_length=1, max_length=300, description="model id, as people know it")
    backend: BackendName
    uri: str = Field(min_length=1, max_length=2000, description="where the adapter finds it")
    format: str = Field(default="gguf", max_length=50)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="checked before serving")
    revision: str | None = Field(default=None, max_length=200)
    serving_parameters: dict[str, str] = Field(
        default_factory=dict, description="names and choices as GET /v1/backends lists them"
    )
    description: str = Field(default="", max_length=10_000)


class ServingResources(Strict):
    """What the temporary serving instance asks for; the adapter's defaults where not set."""

    cpus: float | None = Field(default=None, gt=0)
    memory_bytes: int | None = Field(default=None, gt=0)
    accelerators: int | None = Field(default=None, ge=1)
    max_context_tokens: int | None = Field(default=None, ge=128)


class RunOptions(Strict):
    """How a run is carried out.

    ``batch_size`` is the number of prompts handed to the serving side in one burst. ``on_failure`` says what
    becomes of a sample whose request failed ``max_retries`` + 1 times.
    """

    limit: int | None = Field(default=None, ge=1, description="evaluate the first N rows; all if not set")
    batch_size: int = Field(default=1, ge=1, le=256)
    concurrency: int = Field(default=1, ge=1, le=1024)
    num_fewshot: int | None = Field(default=None, ge=0, le=1000)
    generation_kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    on_failure: Literal["score_zero", "exclude", "fail"] = "score_zero"
    max_retries: int = Field(default=3, ge=0, le=20)
    serving: ServingResources = ServingResources()


class RunRequest(Strict):
    """What a caller asks for. Exactly one of ``dataset_id`` (its current snapshot) and ``snapshot_id``."""

    name: Name | None = None
    artifact_id: str
    dataset_id: str | None = None
    snapshot_id: str | None = None
    method_id: str
    method_version: int | None = Field(default=None, ge=1)
    fewshot_dataset_id: str | None = None
    column_mapping: dict[str, str] = Field(
        default_factory=dict, description="column that the method reads -> column of the dataset"
    )
    options: RunOptions = RunOptions()


class SampleRecord(BaseModel):
    """One evaluated document: what was asked, what came back, when.

    ``index`` is the row's position in the evaluation rows, from 0. Times are nanoseconds of the adapter's
    monotonic clock and may be subtracted only within one ``instance_id``.
    """

    index: int
    doc_hash: str
    prompt_hash: str
    target_hash: str
    target: str
    status: Literal["ok", "failed"]
    error: dict[str, Any] | None = None
    requests: list[dict[str, Any]]


def now() -> str:
    """The time, RFC 3339, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def canonical_hash(value: Any) -> str:
    """sha256 of the canonical JSON of ``value``, hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def uses_of(plan: Mapping[str, Any]) -> list[str]:
    """Identifiers of all datasets and snapshots that ``plan`` reads, for every member of a group too."""
    parts = [plan["dataset"], plan["fewshot"]]
    for member in plan.get("members") or ():
        parts += [member["dataset"], member["fewshot"]]
    return sorted({part[name] for part in parts if part for name in ("id", "snapshot_id")})


def event_fields(run: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that every event about ``run`` carries (see ``RunEvent``)."""
    plan = run["plan"]
    return {
        "run_id": run["_id"],
        "artifact_id": plan["artifact"]["id"],
        "backend": plan["artifact"]["backend"],
        "dataset_id": plan["dataset"]["id"],
        "snapshot_digest": plan["dataset"]["digest"],
        "method_id": plan["method"]["id"],
        "method_version": plan["method"]["version"],
    }


def run_event(event: type[RunEvent], run: Mapping[str, Any], **more: Any) -> RunEvent:
    """An event about ``run``."""
    return event(**event_fields(run), **more)

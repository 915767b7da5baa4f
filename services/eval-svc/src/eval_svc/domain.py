"""Artifacts, runs, plans and samples: plain values and the rules on them."""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    model_validator,
)

from assay_contracts.eval_events import RunEvent

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
BackendName = Literal["gpu", "rngd", "cpu"]
ENDPOINT = "endpoint"
"""Format of an artifact that somebody else serves."""


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


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; those that satisfy all that is set.

    Attributes:
        name: of exactly this name.
        search: with this text in their name, in upper or lower case.
        state: in this state.
        dataset_id: on this dataset.
        artifact_id: of this artifact.
        uses: identifiers of datasets and snapshots which a run has to refer to, all of them, as evaluated
            rows, as few-shot rows or for a member of a group.
    """

    name: str | None = None
    search: str | None = None
    state: RunState | None = None
    dataset_id: str | None = None
    artifact_id: str | None = None
    uses: Sequence[str] = ()


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


EndpointKey = Annotated[
    SecretStr,
    Field(min_length=1, max_length=8192),
    AfterValidator(lambda key: _sendable(key)),
]
"""Sent as a bearer token; shows in no representation."""


class ArtifactRegistration(ArtifactSpec):
    """What is registered, with the secret that an endpoint asks for."""

    endpoint_key: EndpointKey | None = Field(
        default=None,
        description="write-only: of an artifact of format `endpoint` whose server wants a bearer token",
    )


class EndpointKeyBody(Strict):
    """The new key of an endpoint."""

    endpoint_key: EndpointKey


class ServingResources(Strict):
    """What the temporary serving instance asks for; the adapter's defaults where not set."""

    cpus: float | None = Field(default=None, gt=0)
    memory_bytes: int | None = Field(default=None, gt=0)
    accelerators: int | None = Field(default=None, ge=1)
    max_context_tokens: int | None = Field(default=None, ge=128)


class RunSeeds(Strict):
    """Where the random numbers of a run begin; the defaults are lm-eval's."""

    random: int = Field(default=0, ge=0, lt=2**63, description="of Python's generator, which tasks may use")
    numpy: int = Field(default=1234, ge=0, lt=2**32, description="of NumPy's generator")
    fewshot: int = Field(default=1234, ge=0, lt=2**63, description="of the draw of few-shot examples")


class EarlyStopOptions(Strict):
    """When a run may end before all its rows are evaluated; see docs/early-stop.md."""

    baseline_run_id: str = Field(
        min_length=1, description="finished run of the same rows and method that the run is judged against"
    )
    margin: float = Field(
        default=0.02, gt=0, lt=1, description="largest tolerated loss, in the metric's own unit"
    )
    metric: str | None = Field(
        default=None,
        min_length=1,
        max_length=300,
        description="`<task>.<metric>,<filter>`; the run's first metric if not set",
    )
    alpha: float = Field(default=0.05, gt=0, le=0.2, description="one-sided error over all looks together")
    looks: int = Field(default=5, ge=2, le=20, description="how often the run is judged, its end included")
    order_seed: int = Field(
        default=1, ge=0, lt=2**63, description="of the random order in which the rows are evaluated"
    )


class GoodputBounds(Strict):
    """Within which times an answer counts for goodput: all that are set, at least one."""

    ttft_s: float | None = Field(default=None, gt=0, description="to the first token")
    itl_s: float | None = Field(default=None, gt=0, description="between tokens, mean over the answer")
    latency_s: float | None = Field(default=None, gt=0, description="from the request to the last token")

    @model_validator(mode="after")
    def _bounds_something(self) -> "GoodputBounds":
        if self.ttft_s is None and self.itl_s is None and self.latency_s is None:
            raise ValueError("give at least one of ttft_s, itl_s and latency_s")
        return self


class RunOptions(Strict):
    """How a run is carried out.

    The options that change prompts or numbers are handed to lm-eval and frozen in the plan; ``batch_size``,
    ``concurrency`` and ``max_retries`` change only how the requests are sent.
    """

    limit: int | None = Field(
        default=None, ge=1, description="evaluate the first N rows (of every task of a group); all if not set"
    )
    batch_size: int = Field(
        default=1,
        ge=1,
        le=256,
        description="submit-burst: so many requests are handed to the serving side at once, and the next "
        "burst only when all of them are answered. Each is still a request and a stream of its own, measured "
        "by itself; how many the engine computes together is the engine's choice",
    )
    concurrency: int = Field(default=1, ge=1, le=1024, description="bursts in flight at the same time")
    num_fewshot: int | None = Field(
        default=None, ge=0, le=1000, description="examples in a prompt; the task's own number if not set"
    )
    generation_kwargs: dict[str, JsonValue] = Field(
        default_factory=dict, description="update the task's own, key by key; `until` replaces the stop list"
    )
    system_instruction: str | None = Field(
        default=None, min_length=1, max_length=100_000, description="put before every prompt"
    )
    apply_chat_template: bool = Field(
        default=False, description="send chat messages; only where the backend takes them"
    )
    fewshot_as_multiturn: bool = Field(
        default=True,
        description="with a chat template: every example is a turn of its own instead of part of one message",
    )
    seeds: RunSeeds = RunSeeds()
    repeats: int | None = Field(
        default=None, ge=1, le=1000, description="ask every prompt so often; the task's own number if not set"
    )
    bootstrap_iterations: int = Field(
        default=1000,
        ge=0,
        le=100_000,
        description="for the stderr of metrics without a closed form; lm-eval's own default is 100000",
    )
    reuse_responses: bool = Field(
        default=False,
        description="take an earlier response of this run where artifact digest, serving instance, prompt "
        "and generation arguments are all equal; such samples say so in `reused_from`",
    )
    on_failure: Literal["score_zero", "exclude", "fail"] = Field(
        default="score_zero",
        description="what becomes of a sample whose request failed `max_retries` + 1 times",
    )
    max_retries: int = Field(default=3, ge=0, le=20)
    serving: ServingResources = ServingResources()
    early_stop: EarlyStopOptions | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # plans without it stay what they were, hash included
        description="end the run as soon as it is shown not to be worse than another by the margin, or that "
        "this can hardly be shown any more; the rows are then evaluated in a random order",
    )
    goodput: GoodputBounds | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # as above
        description="bounds for the metrics `goodput` (answers within them, per second) and `goodputShare`",
    )


MemberDatasets = Annotated[dict[str, str], Field(max_length=1000)]


class RunRequest(Strict):
    """What a caller asks for.

    The rows are exactly one of ``dataset_id`` (its current snapshot), ``snapshot_id`` and, for a group,
    ``member_datasets``. The few-shot examples come from at most one of ``fewshot_dataset_id``,
    ``fewshot_snapshot_id`` and ``member_fewshot_datasets``; else from the few-shot split that was ingested
    with the rows; else from the evaluated rows, each left out of its own prompt.
    """

    name: Name | None = None
    artifact_id: str
    dataset_id: str | None = Field(default=None, description="of a group: one dataset for all its tasks")
    snapshot_id: str | None = None
    member_datasets: MemberDatasets = Field(
        default_factory=dict, description="task of the group -> dataset; every task must be there"
    )
    method_id: str
    method_version: int | None = Field(default=None, ge=1)
    fewshot_dataset_id: str | None = None
    fewshot_snapshot_id: str | None = None
    member_fewshot_datasets: MemberDatasets = Field(
        default_factory=dict, description="task of the group -> dataset of its examples"
    )
    column_mapping: dict[str, str] = Field(
        default_factory=dict, description="column that the method reads -> column of the dataset"
    )
    options: RunOptions = RunOptions()


class SampleRecord(BaseModel):
    """One evaluated document: what was asked, what came back, when.

    ``index`` is the row's position in the evaluation rows, from 0; in a group it is counted on from one task
    to the next. ``task`` is the task that the row belongs to. Times are nanoseconds of the adapter's
    monotonic clock and may be subtracted only within one ``instance_id``.
    """

    index: int
    task: str = ""
    doc_hash: str
    prompt_hash: str
    target_hash: str
    target: str
    status: Literal["ok", "failed"]
    error: dict[str, Any] | None = None
    requests: list[dict[str, Any]]


class RunProgress:
    """Counts the samples in a run's log, for every task of a group too, in the form in which runs store it.

    Args:
        plan: of the run.
    """

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._members = [
            {"task": each["task"], "samples_total": each["samples"], "samples_done": 0, "samples_failed": 0}
            for each in plan.get("members") or ()
        ]
        self._starts = [each["start"] for each in plan.get("members") or ()]
        self.total: int = plan["task"]["document_count"]
        self.done = 0
        self.failed = 0

    def add(self, *, finished: Iterable[int], failed: Collection[int]) -> list[int]:
        """Take in documents by index, of which some have failed; which tasks they are of, by position."""
        touched: set[int] = set()
        for index in finished:
            self.done += 1
            self.failed += index in failed
            if self._members:
                position = bisect_right(self._starts, index) - 1
                self._members[position]["samples_done"] += 1
                self._members[position]["samples_failed"] += index in failed
                touched.add(position)
        return sorted(touched)

    def document(self) -> dict[str, Any]:
        """The ``progress`` of a run."""
        counts = {"samples_total": self.total, "samples_done": self.done, "samples_failed": self.failed}
        return {**counts, "members": [dict(each) for each in self._members] or None}

    def changes(self, touched: Iterable[int]) -> dict[str, Any]:
        """What to set in a stored run after ``add`` has named the tasks ``touched``."""
        whole = self.document()
        fields = {f"progress.{name}": whole[name] for name in ("samples_done", "samples_failed")}
        return fields | {f"progress.members.{position}": whole["members"][position] for position in touched}


def _sendable(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("a key is sent in a header: printable ASCII characters without blanks")
    return key


def now() -> str:
    """The time, RFC 3339, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def canonical_hash(value: Any) -> str:
    """sha256 of the canonical JSON of ``value``, hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def is_settled(run: Mapping[str, Any]) -> bool:
    """Whether a look of the run has decided, so that samples which are missing are not wanted any more."""
    return run.get("settled") is not None


def uses_of(plan: Mapping[str, Any]) -> list[str]:
    """Identifiers of all datasets and snapshots that ``plan`` reads, for every member of a group too."""
    parts = [plan["dataset"], plan["fewshot"]]
    for member in plan.get("members") or ():
        parts += [member["dataset"], member["fewshot"]]
    return sorted({part[name] for part in parts if part for name in ("id", "snapshot_id") if part[name]})


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

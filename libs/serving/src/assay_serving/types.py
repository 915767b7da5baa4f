"""What the serving interface talks about, in plain Python.

These mirror `proto/assay_serving/v1/serving.proto`; callers see them instead of generated messages.
`dataclasses.asdict` of any of them is JSON. Durations are seconds; names ending in `_ns` are nanoseconds,
and `mono_ns` values are CLOCK_MONOTONIC of the adapter's host.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Backend(StrEnum):
    """The kind of device that computes."""

    GPU = "gpu"
    RNGD = "rngd"
    CPU = "cpu"


class Support(StrEnum):
    """What an engine does with a request field: honours it, refuses it, or takes and ignores it."""

    YES = "yes"
    REFUSED = "refused"
    IGNORED = "ignored"


class ScoreMethod(StrEnum):
    """How log-probabilities of a given continuation come about."""

    PROMPT_LOGPROBS = "prompt_logprobs"
    FORCED_DECODE = "forced_decode"


class Determinism(StrEnum):
    """When greedy output repeats."""

    NOT_REPEATABLE = "not_repeatable"
    REPEATABLE_SERIAL = "repeatable_serial"
    REPEATABLE_ANY_BATCH = "repeatable_any_batch"


class StampSource(StrEnum):
    """Where token times were taken."""

    KERNEL = "kernel"
    USER_SPACE = "user_space"


class InstanceState(StrEnum):
    """Life of a serving instance, in order; the last two are final."""

    PENDING = "pending"
    PULLING = "pulling"
    STARTING = "starting"
    READY = "ready"
    RELEASED = "released"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self in (InstanceState.RELEASED, InstanceState.FAILED)


class FinishReason(StrEnum):
    """Why generation ended."""

    STOP_STRING = "stop_string"
    END_OF_SEQUENCE = "end_of_sequence"
    LENGTH = "length"


class SensorKind(StrEnum):
    """What a reading comes from."""

    NVML_POWER = "nvml_power"
    NVML_ENERGY = "nvml_energy"
    RNGD_POWER = "rngd_power"
    RAPL_ENERGY = "rapl_energy"
    CPU_TIME = "cpu_time"
    DCGM_POWER = "dcgm_power"
    DCGM_ENERGY = "dcgm_energy"
    RNGD_EXPORTER_POWER = "rngd_exporter_power"


class ErrorCode(StrEnum):
    """What went wrong; `assay_serving.errors` has one exception class for each."""

    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_FIELD = "unsupported_field"
    CONTEXT_TOO_LONG = "context_too_long"
    NO_CAPACITY = "no_capacity"
    ARTIFACT_NOT_FOUND = "artifact_not_found"
    ARTIFACT_MISMATCH = "artifact_mismatch"
    START_FAILED = "start_failed"
    ENGINE_DIED = "engine_died"
    ENGINE_ERROR = "engine_error"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    NOT_READY = "not_ready"
    UNKNOWN_INSTANCE = "unknown_instance"
    FENCED = "fenced"
    ADAPTER_UNAVAILABLE = "adapter_unavailable"  # never on the wire: the client's own finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error as data: what an instance stores and a stream carries."""

    code: ErrorCode
    message: str
    retryable: bool = False
    engine_detail: str = ""
    tokens_before_error: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an adapter, or one of its instances, can do."""

    generate: Support = Support.YES
    score: Support = Support.REFUSED
    score_method: ScoreMethod | None = None
    seed: Support = Support.REFUSED
    top_k: Support = Support.REFUSED
    min_p: Support = Support.REFUSED
    repetition_penalty: Support = Support.REFUSED
    presence_penalty: Support = Support.REFUSED
    frequency_penalty: Support = Support.REFUSED
    chat: Support = Support.REFUSED
    ignore_eos: Support = Support.REFUSED
    greedy_determinism: Determinism = Determinism.NOT_REPEATABLE
    max_context_tokens: int = 0
    max_concurrency: int = 1
    power_sensors: tuple[SensorKind, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device that the adapter can compute on."""

    id: str
    product: str
    memory_bytes: int = 0
    driver: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingParameter:
    """A name that `ProvisionSpec.serving_parameters` may use; empty `choices` mean free text."""

    name: str
    description: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterDescription:
    """What an adapter is and can run, now."""

    adapter: str
    adapter_version: str
    backend: Backend
    engine: str
    engine_version: str
    devices: tuple[Device, ...] = ()
    capabilities: Capabilities
    artifact_formats: tuple[str, ...] = ()
    healthy: bool = True
    unhealthy_reason: str = ""
    serving_parameters: tuple[ServingParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """The model to serve. `sha256` (lower-case hex, of the file at `uri`) is checked unless it is empty."""

    uri: str
    format: str = ""
    sha256: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the instance should get; 0 means the adapter's default."""

    cpus: float = 0.0
    memory_bytes: int = 0
    accelerators: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionSpec:
    """What to provision. `lease` and `ready_timeout` are seconds; 0 tokens means the adapter's default.

    `owner` is whom the instance serves and `fencing_token` that of the lease under which it is asked for: a
    higher token of an owner ends the owner's instances under lower ones, a lower token is refused. An empty
    owner is not fenced. `endpoint_key` is a secret and shows nowhere, not even in `repr`.
    """

    idempotency_key: str
    artifact: Artifact
    resources: Resources = field(default_factory=Resources)
    max_context_tokens: int = 0
    max_concurrency: int = 1
    serving_parameters: dict[str, str] = field(default_factory=dict)
    lease: float = 60.0
    ready_timeout: float = 300.0
    labels: dict[str, str] = field(default_factory=dict)
    owner: str = ""
    fencing_token: int = 0
    endpoint_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseTimes:
    """Seconds that each phase took; 0 for one that has not happened. See the proto file.

    `occupied` is how long accelerators were held: from the place being taken to its being given back, or so
    far.
    """

    schedule: float = 0.0
    pull: float = 0.0
    load: float = 0.0
    ready: float = 0.0
    serving: float = 0.0
    drain: float = 0.0
    occupied: float = 0.0

    @property
    def cold_start(self) -> float:
        """From the request to the first real completion."""
        return self.schedule + self.pull + self.load + self.ready


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleBaseline:
    """Mean power of a device over `seconds` before the engine was started on it."""

    kind: SensorKind
    device_id: str
    scope: str
    watts: float
    seconds: float
    readings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Everything that is needed to say "the same run"."""

    engine: str = ""
    engine_version: str = ""
    instruction_set: str = ""
    command_line: tuple[str, ...] = ()
    artifact_sha256: str = ""
    source_sha256: str = ""
    model_name: str = ""
    quantization: str = ""
    devices: tuple[Device, ...] = ()
    host: str = ""
    engine_settings: dict[str, str] = field(default_factory=dict)
    engine_pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A serving instance as its adapter reports it. `*_unix_ns` are wall-clock times, 0 for not yet.

    `accelerators` is how many devices it occupies: 0 for a processor and for somebody else's endpoint.
    """

    instance_id: str
    state: InstanceState
    backend: Backend
    capabilities: Capabilities
    provenance: Provenance
    created_unix_ns: int
    ready_unix_ns: int = 0
    lease_expires_unix_ns: int = 0
    error: Failure | None = None
    phase_times: PhaseTimes = field(default_factory=PhaseTimes)
    launcher: str = ""
    accelerators: int = 0
    idle_baselines: tuple[IdleBaseline, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceEvent:
    """An instance after a change, with a sentence for people and, on failure, the end of the engine's log."""

    instance: Instance
    message: str = ""
    log_tail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParameters:
    """How to choose tokens. None is "not set", which is not zero: see each field in the proto file.

    An unset temperature is greedy. Every other unset field leaves the distribution as the model gives it.
    """

    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """One prompt: either `text` or `chat`. An empty `request_id` is replaced by the session."""

    text: str = ""
    chat: tuple[ChatMessage, ...] = ()
    sampling: SamplingParameters
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTimes:
    """When a request passed each point at the adapter.

    `token_offsets_us` are microseconds after `sent_mono_ns`, one per token in order; empty for a score. With
    `exact_token_times` false some tokens have no time of their own. `merged_reads` counts reads that carried
    more than one token, so that the gaps between those are unknown. `first_token_mono_ns` is 0 where no chunk
    carried text.
    """

    received_mono_ns: int
    sent_mono_ns: int
    first_token_mono_ns: int = 0
    done_mono_ns: int
    token_offsets_us: tuple[int, ...] = ()
    exact_token_times: bool = False
    stamp_source: StampSource = StampSource.USER_SPACE
    merged_reads: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateResult:
    """A finished generation; `text` is cut before the earliest stop string.

    `completion_tokens` counts what the engine produced, including the end-of-sequence token and tokens of a
    stop string that the text no longer shows. `token_text_lengths` has the length of each of these tokens'
    text as it came, in characters: the text that was known after token i has the sum of the first i + 1
    lengths, as far as it is not cut. Empty where the adapter does not tell.
    """

    text: str
    finish_reason: FinishReason
    stop_match: str = ""
    prompt_tokens: int
    completion_tokens: int
    times: RequestTimes
    token_text_lengths: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """Ask for the log-probability of `continuation` after `context`, which may be empty."""

    context: str
    continuation: str
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResult:
    """Natural-log probability summed over the continuation; greedy if each token was the most probable."""

    log_probability: float
    is_greedy: bool
    context_tokens: int
    continuation_tokens: int
    times: RequestTimes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One sensor value: exactly one of `watts`, `joules_total`, `cpu_seconds_total` is set."""

    kind: SensorKind
    device_id: str
    scope: str
    watts: float | None = None
    joules_total: float | None = None
    cpu_seconds_total: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySample:
    """All sensors read at one moment, and why others could not be.

    `event_loop_lag` (seconds) is the adapter's largest since the sample before.
    """

    mono_ns: int
    readings: tuple[Reading, ...] = ()
    unavailable: tuple[str, ...] = ()
    event_loop_lag: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The adapter's own errors against an endpoint of known timing on its loopback interface, in seconds.

    An error is what the adapter measured minus what the endpoint logged of itself: the p50 are signed, the
    p99 of the absolute error. `merged_gap_share` is the share of gaps whose ends came in one read, and
    `other_instances` counts those that were serving meanwhile.
    """

    mono_ns: int
    streams: int
    chunks: int
    ttft_error_p50: float
    ttft_error_p99: float
    itl_error_p50: float
    itl_error_p99: float
    merged_gap_share: float
    event_loop_lag_p50: float
    event_loop_lag_p99: float
    stamp_source: StampSource
    other_instances: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceLog:
    """The end of what an engine has logged; `is_cut` where there was more before."""

    text: str
    is_cut: bool = False

from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Backend(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BACKEND_UNSPECIFIED: _ClassVar[Backend]
    BACKEND_GPU: _ClassVar[Backend]
    BACKEND_RNGD: _ClassVar[Backend]
    BACKEND_CPU: _ClassVar[Backend]

class Support(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SUPPORT_UNSPECIFIED: _ClassVar[Support]
    SUPPORT_YES: _ClassVar[Support]
    SUPPORT_REFUSED: _ClassVar[Support]
    SUPPORT_IGNORED: _ClassVar[Support]

class ScoreMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCORE_METHOD_UNSPECIFIED: _ClassVar[ScoreMethod]
    SCORE_METHOD_PROMPT_LOGPROBS: _ClassVar[ScoreMethod]
    SCORE_METHOD_FORCED_DECODE: _ClassVar[ScoreMethod]

class Determinism(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DETERMINISM_UNSPECIFIED: _ClassVar[Determinism]
    DETERMINISM_NOT_REPEATABLE: _ClassVar[Determinism]
    DETERMINISM_REPEATABLE_SERIAL: _ClassVar[Determinism]
    DETERMINISM_REPEATABLE_ANY_BATCH: _ClassVar[Determinism]

class StampSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAMP_SOURCE_UNSPECIFIED: _ClassVar[StampSource]
    STAMP_SOURCE_KERNEL: _ClassVar[StampSource]
    STAMP_SOURCE_USER_SPACE: _ClassVar[StampSource]

class InstanceState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INSTANCE_STATE_UNSPECIFIED: _ClassVar[InstanceState]
    INSTANCE_STATE_PENDING: _ClassVar[InstanceState]
    INSTANCE_STATE_PULLING: _ClassVar[InstanceState]
    INSTANCE_STATE_STARTING: _ClassVar[InstanceState]
    INSTANCE_STATE_READY: _ClassVar[InstanceState]
    INSTANCE_STATE_RELEASED: _ClassVar[InstanceState]
    INSTANCE_STATE_FAILED: _ClassVar[InstanceState]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_STOP_STRING: _ClassVar[FinishReason]
    FINISH_REASON_END_OF_SEQUENCE: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]

class SensorKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SENSOR_KIND_UNSPECIFIED: _ClassVar[SensorKind]
    SENSOR_KIND_NVML_POWER: _ClassVar[SensorKind]
    SENSOR_KIND_NVML_ENERGY: _ClassVar[SensorKind]
    SENSOR_KIND_RNGD_POWER: _ClassVar[SensorKind]
    SENSOR_KIND_RAPL_ENERGY: _ClassVar[SensorKind]
    SENSOR_KIND_CPU_TIME: _ClassVar[SensorKind]
    SENSOR_KIND_DCGM_POWER: _ClassVar[SensorKind]
    SENSOR_KIND_DCGM_ENERGY: _ClassVar[SensorKind]
    SENSOR_KIND_RNGD_EXPORTER_POWER: _ClassVar[SensorKind]

class ErrorCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_CODE_UNSPECIFIED: _ClassVar[ErrorCode]
    ERROR_CODE_INVALID_REQUEST: _ClassVar[ErrorCode]
    ERROR_CODE_UNSUPPORTED_FIELD: _ClassVar[ErrorCode]
    ERROR_CODE_CONTEXT_TOO_LONG: _ClassVar[ErrorCode]
    ERROR_CODE_NO_CAPACITY: _ClassVar[ErrorCode]
    ERROR_CODE_ARTIFACT_NOT_FOUND: _ClassVar[ErrorCode]
    ERROR_CODE_ARTIFACT_MISMATCH: _ClassVar[ErrorCode]
    ERROR_CODE_START_FAILED: _ClassVar[ErrorCode]
    ERROR_CODE_ENGINE_DIED: _ClassVar[ErrorCode]
    ERROR_CODE_ENGINE_ERROR: _ClassVar[ErrorCode]
    ERROR_CODE_DEADLINE: _ClassVar[ErrorCode]
    ERROR_CODE_CANCELLED: _ClassVar[ErrorCode]
    ERROR_CODE_NOT_READY: _ClassVar[ErrorCode]
    ERROR_CODE_UNKNOWN_INSTANCE: _ClassVar[ErrorCode]
    ERROR_CODE_FENCED: _ClassVar[ErrorCode]
BACKEND_UNSPECIFIED: Backend
BACKEND_GPU: Backend
BACKEND_RNGD: Backend
BACKEND_CPU: Backend
SUPPORT_UNSPECIFIED: Support
SUPPORT_YES: Support
SUPPORT_REFUSED: Support
SUPPORT_IGNORED: Support
SCORE_METHOD_UNSPECIFIED: ScoreMethod
SCORE_METHOD_PROMPT_LOGPROBS: ScoreMethod
SCORE_METHOD_FORCED_DECODE: ScoreMethod
DETERMINISM_UNSPECIFIED: Determinism
DETERMINISM_NOT_REPEATABLE: Determinism
DETERMINISM_REPEATABLE_SERIAL: Determinism
DETERMINISM_REPEATABLE_ANY_BATCH: Determinism
STAMP_SOURCE_UNSPECIFIED: StampSource
STAMP_SOURCE_KERNEL: StampSource
STAMP_SOURCE_USER_SPACE: StampSource
INSTANCE_STATE_UNSPECIFIED: InstanceState
INSTANCE_STATE_PENDING: InstanceState
INSTANCE_STATE_PULLING: InstanceState
INSTANCE_STATE_STARTING: InstanceState
INSTANCE_STATE_READY: InstanceState
INSTANCE_STATE_RELEASED: InstanceState
INSTANCE_STATE_FAILED: InstanceState
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOP_STRING: FinishReason
FINISH_REASON_END_OF_SEQUENCE: FinishReason
FINISH_REASON_LENGTH: FinishReason
SENSOR_KIND_UNSPECIFIED: SensorKind
SENSOR_KIND_NVML_POWER: SensorKind
SENSOR_KIND_NVML_ENERGY: SensorKind
SENSOR_KIND_RNGD_POWER: SensorKind
SENSOR_KIND_RAPL_ENERGY: SensorKind
SENSOR_KIND_CPU_TIME: SensorKind
SENSOR_KIND_DCGM_POWER: SensorKind
SENSOR_KIND_DCGM_ENERGY: SensorKind
SENSOR_KIND_RNGD_EXPORTER_POWER: SensorKind
ERROR_CODE_UNSPECIFIED: ErrorCode
ERROR_CODE_INVALID_REQUEST: ErrorCode
ERROR_CODE_UNSUPPORTED_FIELD: ErrorCode
ERROR_CODE_CONTEXT_TOO_LONG: ErrorCode
ERROR_CODE_NO_CAPACITY: ErrorCode
ERROR_CODE_ARTIFACT_NOT_FOUND: ErrorCode
ERROR_CODE_ARTIFACT_MISMATCH: ErrorCode
ERROR_CODE_START_FAILED: ErrorCode
ERROR_CODE_ENGINE_DIED: ErrorCode
ERROR_CODE_ENGINE_ERROR: ErrorCode
ERROR_CODE_DEADLINE: ErrorCode
ERROR_CODE_CANCELLED: ErrorCode
ERROR_CODE_NOT_READY: ErrorCode
ERROR_CODE_UNKNOWN_INSTANCE: ErrorCode
ERROR_CODE_FENCED: ErrorCode

class Capabilities(_message.Message):
    __slots__ = ("generate", "score", "score_method", "seed", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "chat", "ignore_eos", "greedy_determinism", "max_context_tokens", "max_concurrency", "power_sensors")
    GENERATE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SCORE_METHOD_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    GREEDY_DETERMINISM_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    POWER_SENSORS_FIELD_NUMBER: _ClassVar[int]
    generate: Support
    score: Support
    score_method: ScoreMethod
    seed: Support
    top_k: Support
    min_p: Support
    repetition_penalty: Support
    presence_penalty: Support
    frequency_penalty: Support
    chat: Support
    ignore_eos: Support
    greedy_determinism: Determinism
    max_context_tokens: int
    max_concurrency: int
    power_sensors: _containers.RepeatedScalarFieldContainer[SensorKind]
    def __init__(self, generate: _Optional[_Union[Support, str]] = ..., score: _Optional[_Union[Support, str]] = ..., score_method: _Optional[_Union[ScoreMethod, str]] = ..., seed: _Optional[_Union[Support, str]] = ..., top_k: _Optional[_Union[Support, str]] = ..., min_p: _Optional[_Union[Support, str]] = ..., repetition_penalty: _Optional[_Union[Support, str]] = ..., presence_penalty: _Optional[_Union[Support, str]] = ..., frequency_penalty: _Optional[_Union[Support, str]] = ..., chat: _Optional[_Union[Support, str]] = ..., ignore_eos: _Optional[_Union[Support, str]] = ..., greedy_determinism: _Optional[_Union[Determinism, str]] = ..., max_context_tokens: _Optional[int] = ..., max_concurrency: _Optional[int] = ..., power_sensors: _Optional[_Iterable[_Union[SensorKind, str]]] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("id", "product", "memory_bytes", "driver")
    ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    id: str
    product: str
    memory_bytes: int
    driver: str
    def __init__(self, id: _Optional[str] = ..., product: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., driver: _Optional[str] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("adapter", "adapter_version", "backend", "engine", "engine_version", "devices", "capabilities", "artifact_formats", "healthy", "unhealthy_reason", "serving_parameters")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FORMATS_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    UNHEALTHY_REASON_FIELD_NUMBER: _ClassVar[int]
    SERVING_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    adapter_version: str
    backend: Backend
    engine: str
    engine_version: str
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    capabilities: Capabilities
    artifact_formats: _containers.RepeatedScalarFieldContainer[str]
    healthy: bool
    unhealthy_reason: str
    serving_parameters: _containers.RepeatedCompositeFieldContainer[ServingParameter]
    def __init__(self, adapter: _Optional[str] = ..., adapter_version: _Optional[str] = ..., backend: _Optional[_Union[Backend, str]] = ..., engine: _Optional[str] = ..., engine_version: _Optional[str] = ..., devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., capabilities: _Optional[_Union[Capabilities, _Mapping]] = ..., artifact_formats: _Optional[_Iterable[str]] = ..., healthy: _Optional[bool] = ..., unhealthy_reason: _Optional[str] = ..., serving_parameters: _Optional[_Iterable[_Union[ServingParameter, _Mapping]]] = ...) -> None: ...

class ServingParameter(_message.Message):
    __slots__ = ("name", "description", "choices")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    choices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., choices: _Optional[_Iterable[str]] = ...) -> None: ...

class Artifact(_message.Message):
    __slots__ = ("uri", "format", "sha256", "revision")
    URI_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    uri: str
    format: str
    sha256: str
    revision: str
    def __init__(self, uri: _Optional[str] = ..., format: _Optional[str] = ..., sha256: _Optional[str] = ..., revision: _Optional[str] = ...) -> None: ...

class Resources(_message.Message):
    __slots__ = ("cpus", "memory_bytes", "accelerators")
    CPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    ACCELERATORS_FIELD_NUMBER: _ClassVar[int]
    cpus: float
    memory_bytes: int
    accelerators: int
    def __init__(self, cpus: _Optional[float] = ..., memory_bytes: _Optional[int] = ..., accelerators: _Optional[int] = ...) -> None: ...

class ProvisionRequest(_message.Message):
    __slots__ = ("idempotency_key", "artifact", "resources", "max_context_tokens", "max_concurrency", "serving_parameters", "lease_ms", "ready_timeout_ms", "labels", "owner", "fencing_token", "endpoint_key")
    class ServingParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    SERVING_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    READY_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_KEY_FIELD_NUMBER: _ClassVar[int]
    idempotency_key: str
    artifact: Artifact
    resources: Resources
    max_context_tokens: int
    max_concurrency: int
    serving_parameters: _containers.ScalarMap[str, str]
    lease_ms: int
    ready_timeout_ms: int
    labels: _containers.ScalarMap[str, str]
    owner: str
    fencing_token: int
    endpoint_key: str
    def __init__(self, idempotency_key: _Optional[str] = ..., artifact: _Optional[_Union[Artifact, _Mapping]] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ..., max_context_tokens: _Optional[int] = ..., max_concurrency: _Optional[int] = ..., serving_parameters: _Optional[_Mapping[str, str]] = ..., lease_ms: _Optional[int] = ..., ready_timeout_ms: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., owner: _Optional[str] = ..., fencing_token: _Optional[int] = ..., endpoint_key: _Optional[str] = ...) -> None: ...

class Instance(_message.Message):
    __slots__ = ("instance_id", "state", "backend", "capabilities", "provenance", "created_unix_ns", "ready_unix_ns", "lease_expires_unix_ns", "error", "phase_times", "launcher", "accelerators", "idle_baselines")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    READY_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    LEASE_EXPIRES_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    PHASE_TIMES_FIELD_NUMBER: _ClassVar[int]
    LAUNCHER_FIELD_NUMBER: _ClassVar[int]
    ACCELERATORS_FIELD_NUMBER: _ClassVar[int]
    IDLE_BASELINES_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    state: InstanceState
    backend: Backend
    capabilities: Capabilities
    provenance: Provenance
    created_unix_ns: int
    ready_unix_ns: int
    lease_expires_unix_ns: int
    error: Error
    phase_times: PhaseTimes
    launcher: str
    accelerators: int
    idle_baselines: _containers.RepeatedCompositeFieldContainer[IdleBaseline]
    def __init__(self, instance_id: _Optional[str] = ..., state: _Optional[_Union[InstanceState, str]] = ..., backend: _Optional[_Union[Backend, str]] = ..., capabilities: _Optional[_Union[Capabilities, _Mapping]] = ..., provenance: _Optional[_Union[Provenance, _Mapping]] = ..., created_unix_ns: _Optional[int] = ..., ready_unix_ns: _Optional[int] = ..., lease_expires_unix_ns: _Optional[int] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., phase_times: _Optional[_Union[PhaseTimes, _Mapping]] = ..., launcher: _Optional[str] = ..., accelerators: _Optional[int] = ..., idle_baselines: _Optional[_Iterable[_Union[IdleBaseline, _Mapping]]] = ...) -> None: ...

class PhaseTimes(_message.Message):
    __slots__ = ("schedule_s", "pull_s", "load_s", "ready_s", "serving_s", "drain_s", "occupied_s")
    SCHEDULE_S_FIELD_NUMBER: _ClassVar[int]
    PULL_S_FIELD_NUMBER: _ClassVar[int]
    LOAD_S_FIELD_NUMBER: _ClassVar[int]
    READY_S_FIELD_NUMBER: _ClassVar[int]
    SERVING_S_FIELD_NUMBER: _ClassVar[int]
    DRAIN_S_FIELD_NUMBER: _ClassVar[int]
    OCCUPIED_S_FIELD_NUMBER: _ClassVar[int]
    schedule_s: float
    pull_s: float
    load_s: float
    ready_s: float
    serving_s: float
    drain_s: float
    occupied_s: float
    def __init__(self, schedule_s: _Optional[float] = ..., pull_s: _Optional[float] = ..., load_s: _Optional[float] = ..., ready_s: _Optional[float] = ..., serving_s: _Optional[float] = ..., drain_s: _Optional[float] = ..., occupied_s: _Optional[float] = ...) -> None: ...

class IdleBaseline(_message.Message):
    __slots__ = ("kind", "device_id", "scope", "watts", "seconds", "readings")
    KIND_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    WATTS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    READINGS_FIELD_NUMBER: _ClassVar[int]
    kind: SensorKind
    device_id: str
    scope: str
    watts: float
    seconds: float
    readings: int
    def __init__(self, kind: _Optional[_Union[SensorKind, str]] = ..., device_id: _Optional[str] = ..., scope: _Optional[str] = ..., watts: _Optional[float] = ..., seconds: _Optional[float] = ..., readings: _Optional[int] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("engine", "engine_version", "instruction_set", "command_line", "artifact_sha256", "source_sha256", "model_name", "quantization", "devices", "host", "engine_settings", "engine_pid")
    class EngineSettingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTION_SET_FIELD_NUMBER: _ClassVar[int]
    COMMAND_LINE_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_SHA256_FIELD_NUMBER: _ClassVar[int]
    SOURCE_SHA256_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    ENGINE_SETTINGS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_PID_FIELD_NUMBER: _ClassVar[int]
    engine: str
    engine_version: str
    instruction_set: str
    command_line: _containers.RepeatedScalarFieldContainer[str]
    artifact_sha256: str
    source_sha256: str
    model_name: str
    quantization: str
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    host: str
    engine_settings: _containers.ScalarMap[str, str]
    engine_pid: int
    def __init__(self, engine: _Optional[str] = ..., engine_version: _Optional[str] = ..., instruction_set: _Optional[str] = ..., command_line: _Optional[_Iterable[str]] = ..., artifact_sha256: _Optional[str] = ..., source_sha256: _Optional[str] = ..., model_name: _Optional[str] = ..., quantization: _Optional[str] = ..., devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., host: _Optional[str] = ..., engine_settings: _Optional[_Mapping[str, str]] = ..., engine_pid: _Optional[int] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("instance_id",)
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    def __init__(self, instance_id: _Optional[str] = ...) -> None: ...

class InstanceEvent(_message.Message):
    __slots__ = ("instance", "message", "log_tail")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LOG_TAIL_FIELD_NUMBER: _ClassVar[int]
    instance: Instance
    message: str
    log_tail: str
    def __init__(self, instance: _Optional[_Union[Instance, _Mapping]] = ..., message: _Optional[str] = ..., log_tail: _Optional[str] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class Messages(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Message]
    def __init__(self, items: _Optional[_Iterable[_Union[Message, _Mapping]]] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_p", "top_k", "min_p", "seed", "repetition_penalty", "presence_penalty", "frequency_penalty", "max_tokens", "stop", "ignore_eos")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    max_tokens: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    ignore_eos: bool
    def __init__(self, temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., min_p: _Optional[float] = ..., seed: _Optional[int] = ..., repetition_penalty: _Optional[float] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., max_tokens: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., ignore_eos: _Optional[bool] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("request_id", "text", "chat", "sampling")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    text: str
    chat: Messages
    sampling: Sampling
    def __init__(self, request_id: _Optional[str] = ..., text: _Optional[str] = ..., chat: _Optional[_Union[Messages, _Mapping]] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ...) -> None: ...

class GenerateRequests(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[GenerateRequest]
    def __init__(self, items: _Optional[_Iterable[_Union[GenerateRequest, _Mapping]]] = ...) -> None: ...

class GenerateCall(_message.Message):
    __slots__ = ("instance_id", "request", "cancel_request_id", "requests")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    CANCEL_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    request: GenerateRequest
    cancel_request_id: str
    requests: GenerateRequests
    def __init__(self, instance_id: _Optional[str] = ..., request: _Optional[_Union[GenerateRequest, _Mapping]] = ..., cancel_request_id: _Optional[str] = ..., requests: _Optional[_Union[GenerateRequests, _Mapping]] = ...) -> None: ...

class GenerateResult(_message.Message):
    __slots__ = ("text", "finish_reason", "stop_match", "prompt_tokens", "completion_tokens", "times", "token_text_lengths")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    STOP_MATCH_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TEXT_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    text: str
    finish_reason: FinishReason
    stop_match: str
    prompt_tokens: int
    completion_tokens: int
    times: RequestTimes
    token_text_lengths: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, text: _Optional[str] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., stop_match: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., times: _Optional[_Union[RequestTimes, _Mapping]] = ..., token_text_lengths: _Optional[_Iterable[int]] = ...) -> None: ...

class RequestTimes(_message.Message):
    __slots__ = ("received_mono_ns", "sent_mono_ns", "first_token_mono_ns", "done_mono_ns", "token_offsets_us", "exact_token_times", "stamp_source", "merged_reads")
    RECEIVED_MONO_NS_FIELD_NUMBER: _ClassVar[int]
    SENT_MONO_NS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_MONO_NS_FIELD_NUMBER: _ClassVar[int]
    DONE_MONO_NS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_OFFSETS_US_FIELD_NUMBER: _ClassVar[int]
    EXACT_TOKEN_TIMES_FIELD_NUMBER: _ClassVar[int]
    STAMP_SOURCE_FIELD_NUMBER: _ClassVar[int]
    MERGED_READS_FIELD_NUMBER: _ClassVar[int]
    received_mono_ns: int
    sent_mono_ns: int
    first_token_mono_ns: int
    done_mono_ns: int
    token_offsets_us: _containers.RepeatedScalarFieldContainer[int]
    exact_token_times: bool
    stamp_source: StampSource
    merged_reads: int
    def __init__(self, received_mono_ns: _Optional[int] = ..., sent_mono_ns: _Optional[int] = ..., first_token_mono_ns: _Optional[int] = ..., done_mono_ns: _Optional[int] = ..., token_offsets_us: _Optional[_Iterable[int]] = ..., exact_token_times: _Optional[bool] = ..., stamp_source: _Optional[_Union[StampSource, str]] = ..., merged_reads: _Optional[int] = ...) -> None: ...

class GenerateReply(_message.Message):
    __slots__ = ("request_id", "result", "error", "more")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    result: GenerateResult
    error: Error
    more: _containers.RepeatedCompositeFieldContainer[GenerateReply]
    def __init__(self, request_id: _Optional[str] = ..., result: _Optional[_Union[GenerateResult, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., more: _Optional[_Iterable[_Union[GenerateReply, _Mapping]]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("request_id", "context", "continuation")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    context: str
    continuation: str
    def __init__(self, request_id: _Optional[str] = ..., context: _Optional[str] = ..., continuation: _Optional[str] = ...) -> None: ...

class ScoreRequests(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ScoreRequest]
    def __init__(self, items: _Optional[_Iterable[_Union[ScoreRequest, _Mapping]]] = ...) -> None: ...

class ScoreCall(_message.Message):
    __slots__ = ("instance_id", "request", "cancel_request_id", "requests")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    CANCEL_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    request: ScoreRequest
    cancel_request_id: str
    requests: ScoreRequests
    def __init__(self, instance_id: _Optional[str] = ..., request: _Optional[_Union[ScoreRequest, _Mapping]] = ..., cancel_request_id: _Optional[str] = ..., requests: _Optional[_Union[ScoreRequests, _Mapping]] = ...) -> None: ...

class ScoreResult(_message.Message):
    __slots__ = ("log_probability", "is_greedy", "context_tokens", "continuation_tokens", "times")
    LOG_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    IS_GREEDY_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    log_probability: float
    is_greedy: bool
    context_tokens: int
    continuation_tokens: int
    times: RequestTimes
    def __init__(self, log_probability: _Optional[float] = ..., is_greedy: _Optional[bool] = ..., context_tokens: _Optional[int] = ..., continuation_tokens: _Optional[int] = ..., times: _Optional[_Union[RequestTimes, _Mapping]] = ...) -> None: ...

class ScoreReply(_message.Message):
    __slots__ = ("request_id", "result", "error", "more")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    result: ScoreResult
    error: Error
    more: _containers.RepeatedCompositeFieldContainer[ScoreReply]
    def __init__(self, request_id: _Optional[str] = ..., result: _Optional[_Union[ScoreResult, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., more: _Optional[_Iterable[_Union[ScoreReply, _Mapping]]] = ...) -> None: ...

class TelemetryRequest(_message.Message):
    __slots__ = ("instance_id", "period_ms")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    PERIOD_MS_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    period_ms: int
    def __init__(self, instance_id: _Optional[str] = ..., period_ms: _Optional[int] = ...) -> None: ...

class Reading(_message.Message):
    __slots__ = ("kind", "device_id", "watts", "joules_total", "cpu_seconds_total", "scope")
    KIND_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    WATTS_FIELD_NUMBER: _ClassVar[int]
    JOULES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    CPU_SECONDS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    kind: SensorKind
    device_id: str
    watts: float
    joules_total: float
    cpu_seconds_total: float
    scope: str
    def __init__(self, kind: _Optional[_Union[SensorKind, str]] = ..., device_id: _Optional[str] = ..., watts: _Optional[float] = ..., joules_total: _Optional[float] = ..., cpu_seconds_total: _Optional[float] = ..., scope: _Optional[str] = ...) -> None: ...

class TelemetryEvent(_message.Message):
    __slots__ = ("mono_ns", "readings", "unavailable", "event_loop_lag_s")
    MONO_NS_FIELD_NUMBER: _ClassVar[int]
    READINGS_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    EVENT_LOOP_LAG_S_FIELD_NUMBER: _ClassVar[int]
    mono_ns: int
    readings: _containers.RepeatedCompositeFieldContainer[Reading]
    unavailable: _containers.RepeatedScalarFieldContainer[str]
    event_loop_lag_s: float
    def __init__(self, mono_ns: _Optional[int] = ..., readings: _Optional[_Iterable[_Union[Reading, _Mapping]]] = ..., unavailable: _Optional[_Iterable[str]] = ..., event_loop_lag_s: _Optional[float] = ...) -> None: ...

class CalibrateRequest(_message.Message):
    __slots__ = ("instance_id",)
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    def __init__(self, instance_id: _Optional[str] = ...) -> None: ...

class Calibration(_message.Message):
    __slots__ = ("mono_ns", "streams", "chunks", "ttft_error_p50_s", "ttft_error_p99_s", "itl_error_p50_s", "itl_error_p99_s", "merged_gap_share", "event_loop_lag_p50_s", "event_loop_lag_p99_s", "stamp_source", "other_instances")
    MONO_NS_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    TTFT_ERROR_P50_S_FIELD_NUMBER: _ClassVar[int]
    TTFT_ERROR_P99_S_FIELD_NUMBER: _ClassVar[int]
    ITL_ERROR_P50_S_FIELD_NUMBER: _ClassVar[int]
    ITL_ERROR_P99_S_FIELD_NUMBER: _ClassVar[int]
    MERGED_GAP_SHARE_FIELD_NUMBER: _ClassVar[int]
    EVENT_LOOP_LAG_P50_S_FIELD_NUMBER: _ClassVar[int]
    EVENT_LOOP_LAG_P99_S_FIELD_NUMBER: _ClassVar[int]
    STAMP_SOURCE_FIELD_NUMBER: _ClassVar[int]
    OTHER_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    mono_ns: int
    streams: int
    chunks: int
    ttft_error_p50_s: float
    ttft_error_p99_s: float
    itl_error_p50_s: float
    itl_error_p99_s: float
    merged_gap_share: float
    event_loop_lag_p50_s: float
    event_loop_lag_p99_s: float
    stamp_source: StampSource
    other_instances: int
    def __init__(self, mono_ns: _Optional[int] = ..., streams: _Optional[int] = ..., chunks: _Optional[int] = ..., ttft_error_p50_s: _Optional[float] = ..., ttft_error_p99_s: _Optional[float] = ..., itl_error_p50_s: _Optional[float] = ..., itl_error_p99_s: _Optional[float] = ..., merged_gap_share: _Optional[float] = ..., event_loop_lag_p50_s: _Optional[float] = ..., event_loop_lag_p99_s: _Optional[float] = ..., stamp_source: _Optional[_Union[StampSource, str]] = ..., other_instances: _Optional[int] = ...) -> None: ...

class LogsRequest(_message.Message):
    __slots__ = ("instance_id", "max_bytes")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    max_bytes: int
    def __init__(self, instance_id: _Optional[str] = ..., max_bytes: _Optional[int] = ...) -> None: ...

class LogsResponse(_message.Message):
    __slots__ = ("text", "is_cut")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IS_CUT_FIELD_NUMBER: _ClassVar[int]
    text: str
    is_cut: bool
    def __init__(self, text: _Optional[str] = ..., is_cut: _Optional[bool] = ...) -> None: ...

class KeepAliveRequest(_message.Message):
    __slots__ = ("instance_id", "lease_ms", "fencing_token")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    lease_ms: int
    fencing_token: int
    def __init__(self, instance_id: _Optional[str] = ..., lease_ms: _Optional[int] = ..., fencing_token: _Optional[int] = ...) -> None: ...

class KeepAliveResponse(_message.Message):
    __slots__ = ("lease_expires_unix_ns",)
    LEASE_EXPIRES_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    lease_expires_unix_ns: int
    def __init__(self, lease_expires_unix_ns: _Optional[int] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("instance_id", "reason")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    reason: str
    def __init__(self, instance_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ("existed", "instance")
    EXISTED_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    existed: bool
    instance: Instance
    def __init__(self, existed: _Optional[bool] = ..., instance: _Optional[_Union[Instance, _Mapping]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "retryable", "engine_detail", "tokens_before_error")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_DETAIL_FIELD_NUMBER: _ClassVar[int]
    TOKENS_BEFORE_ERROR_FIELD_NUMBER: _ClassVar[int]
    code: ErrorCode
    message: str
    retryable: bool
    engine_detail: str
    tokens_before_error: int
    def __init__(self, code: _Optional[_Union[ErrorCode, str]] = ..., message: _Optional[str] = ..., retryable: _Optional[bool] = ..., engine_detail: _Optional[str] = ..., tokens_before_error: _Optional[int] = ...) -> None: ...

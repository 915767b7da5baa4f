"""Between the plain types of `assay_serving.types` and the generated messages.

One table says which message belongs to which class and one which fields are named or scaled differently; all
else follows from the type annotations. An enum member travels under its name with the enum's prefix.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from google.protobuf.message import Message as ProtoMessage

from assay_serving import types
from assay_serving.v1 import serving_pb2 as pb

T = TypeVar("T")

_MESSAGE_OF: dict[type, type[ProtoMessage]] = {
    types.Failure: pb.Error,
    types.Capabilities: pb.Capabilities,
    types.Device: pb.Device,
    types.ServingParameter: pb.ServingParameter,
    types.AdapterDescription: pb.DescribeResponse,
    types.Artifact: pb.Artifact,
    types.Resources: pb.Resources,
    types.ProvisionSpec: pb.ProvisionRequest,
    types.PhaseTimes: pb.PhaseTimes,
    types.IdleBaseline: pb.IdleBaseline,
    types.Provenance: pb.Provenance,
    types.Instance: pb.Instance,
    types.InstanceEvent: pb.InstanceEvent,
    types.ChatMessage: pb.Message,
    types.SamplingParameters: pb.Sampling,
    types.RequestTimes: pb.RequestTimes,
    types.GenerateResult: pb.GenerateResult,
    types.ScoreRequest: pb.ScoreRequest,
    types.ScoreResult: pb.ScoreResult,
    types.Reading: pb.Reading,
    types.TelemetrySample: pb.TelemetryEvent,
    types.Calibration: pb.Calibration,
    types.InstanceLog: pb.LogsResponse,
}


@dataclass(frozen=True, slots=True)
class _Scaled:
    """A field that has another name on the wire and may count in other units there."""

    wire_name: str
    wire_units_per_second: int = 0  # 0: the value itself


_SCALED: dict[tuple[type, str], _Scaled] = {
    (types.ProvisionSpec, "lease"): _Scaled("lease_ms", 1000),
    (types.ProvisionSpec, "ready_timeout"): _Scaled("ready_timeout_ms", 1000),
    (types.PhaseTimes, "schedule"): _Scaled("schedule_s"),
    (types.PhaseTimes, "pull"): _Scaled("pull_s"),
    (types.PhaseTimes, "load"): _Scaled("load_s"),
    (types.PhaseTimes, "ready"): _Scaled("ready_s"),
    (types.PhaseTimes, "serving"): _Scaled("serving_s"),
    (types.PhaseTimes, "drain"): _Scaled("drain_s"),
    (types.PhaseTimes, "occupied"): _Scaled("occupied_s"),
    (types.TelemetrySample, "event_loop_lag"): _Scaled("event_loop_lag_s"),
    (types.Calibration, "ttft_error_p50"): _Scaled("ttft_error_p50_s"),
    (types.Calibration, "ttft_error_p99"): _Scaled("ttft_error_p99_s"),
    (types.Calibration, "itl_error_p50"): _Scaled("itl_error_p50_s"),
    (types.Calibration, "itl_error_p99"): _Scaled("itl_error_p99_s"),
    (types.Calibration, "event_loop_lag_p50"): _Scaled("event_loop_lag_p50_s"),
    (types.Calibration, "event_loop_lag_p99"): _Scaled("event_loop_lag_p99_s"),
}


@dataclass(frozen=True, slots=True)
class _Field:
    """How one dataclass field travels."""

    name: str
    wire_name: str
    is_optional: bool
    is_message: bool
    is_many: bool
    is_map: bool
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def to_proto(value: Any) -> Any:
    """The message that carries `value`, an instance of one of the dataclasses of `assay_serving.types`."""
    if isinstance(value, types.GenerateRequest):
        return _generate_request_to_proto(value)
    message: Any = _MESSAGE_OF[type(value)]()
    for item in _PLANS[type(value)]:
        content = getattr(value, item.name)
        if content is None:
            continue
        if item.is_map:
            getattr(message, item.wire_name).update(content)
        elif item.is_many:
            getattr(message, item.wire_name).extend([item.encode(each) for each in content])
        elif item.is_message:
            getattr(message, item.wire_name).CopyFrom(item.encode(content))
        else:
            setattr(message, item.wire_name, item.encode(content))
    return message


def from_proto(message: ProtoMessage, kind: type[T]) -> T:
    """`message` as an instance of `kind`.

    Raises:
        ValueError: an enum that `kind` requires is unspecified or unknown.
    """
    if kind is types.GenerateRequest:
        return _generate_request_from_proto(message)  # type: ignore[return-value]
    return kind(**{item.name: _decoded(message, item) for item in _PLANS[kind]})


def _decoded(message: ProtoMessage, item: _Field) -> Any:
    content = getattr(message, item.wire_name)
    if item.is_map:
        return dict(content)
    if item.is_many:
        return tuple(item.decode(each) for each in content)
    if item.is_optional and _is_absent(message, item):
        return None
    return item.decode(content)


def _is_absent(message: ProtoMessage, item: _Field) -> bool:
    descriptor = message.DESCRIPTOR.fields_by_name[item.wire_name]
    if descriptor.has_presence:
        return not message.HasField(item.wire_name)
    return not getattr(message, item.wire_name)


def _plan(kind: Any) -> tuple[_Field, ...]:
    hints = get_type_hints(kind)
    return tuple(_field_plan(kind, item.name, hints[item.name]) for item in fields(kind))


def _field_plan(kind: type, name: str, hint: Any) -> _Field:
    scaled = _SCALED.get((kind, name), _Scaled(name))
    is_optional = get_origin(hint) is UnionType and NoneType in get_args(hint)
    if is_optional:
        hint = next(each for each in get_args(hint) if each is not NoneType)
    is_many, is_map = get_origin(hint) is tuple, get_origin(hint) is dict
    inner = get_args(hint)[0] if is_many else hint
    encode, decode = _codec(inner, scaled.wire_units_per_second)
    return _Field(
        name=name,
        wire_name=scaled.wire_name,
        is_optional=is_optional,
        is_message=is_dataclass(inner),
        is_many=is_many,
        is_map=is_map,
        encode=encode,
        decode=decode,
    )


def _codec(inner: Any, per_second: int) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    if per_second:
        return (lambda seconds: round(seconds * per_second)), (lambda count: count / per_second)
    if is_dataclass(inner):
        assert isinstance(inner, type)
        return to_proto, (lambda message: from_proto(message, inner))
    if isinstance(inner, type) and issubclass(inner, StrEnum):
        return _enum_codec(inner)
    return (lambda value: value), (lambda value: value)


def _enum_codec(kind: type[StrEnum]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    wire: Any = getattr(pb, kind.__name__)
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).upper() + "_"
    names = set(wire.keys())
    numbers = {member: wire.Value(prefix + member.name) for member in kind if prefix + member.name in names}
    members = {number: member for member, number in numbers.items()}

    def decode(number: int) -> StrEnum:
        if number not in members:
            raise ValueError(f"{kind.__name__} {number} is unspecified or unknown")
        return members[number]

    return (lambda member: numbers[member]), decode


def _generate_request_to_proto(request: types.GenerateRequest) -> pb.GenerateRequest:
    message = pb.GenerateRequest(request_id=request.request_id, sampling=to_proto(request.sampling))
    if request.chat:
        message.chat.items.extend([to_proto(each) for each in request.chat])
    else:
        message.text = request.text
    return message


def _generate_request_from_proto(message: Any) -> types.GenerateRequest:
    return types.GenerateRequest(
        request_id=message.request_id,
        text=message.text,
        chat=tuple(from_proto(each, types.ChatMessage) for each in message.chat.items),
        sampling=from_proto(message.sampling, types.SamplingParameters),
    )


_PLANS: dict[type, tuple[_Field, ...]] = {kind: _plan(kind) for kind in _MESSAGE_OF}

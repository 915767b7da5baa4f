import json
from dataclasses import asdict

import pytest

from assay_serving import types as t
from assay_serving.convert import from_proto, to_proto
from assay_serving.errors import ServingError, error_of
from assay_serving.v1 import serving_pb2 as pb

FAILURE = t.Failure(
    code=t.ErrorCode.ENGINE_DIED, message="m", retryable=True, engine_detail="d", tokens_before_error=3
)
CAPABILITIES = t.Capabilities(
    score=t.Support.YES,
    score_method=t.ScoreMethod.FORCED_DECODE,
    seed=t.Support.IGNORED,
    greedy_determinism=t.Determinism.REPEATABLE_ANY_BATCH,
    max_context_tokens=7,
    power_sensors=(t.SensorKind.RAPL_ENERGY, t.SensorKind.CPU_TIME),
)
DEVICE = t.Device(id="0", product="p", memory_bytes=2**40, driver="d")
TIMES = t.RequestTimes(
    received_mono_ns=1,
    sent_mono_ns=2,
    first_token_mono_ns=3,
    done_mono_ns=4,
    token_offsets_us=(0, 5, 5),
    exact_token_times=True,
    stamp_source=t.StampSource.KERNEL,
    merged_reads=1,
)
VALUES = [
    FAILURE,
    CAPABILITIES,
    t.Capabilities(),
    t.AdapterDescription(
        adapter="a",
        adapter_version="1",
        backend=t.Backend.RNGD,
        engine="e",
        engine_version="2",
        devices=(DEVICE,),
        capabilities=CAPABILITIES,
        artifact_formats=("gguf",),
        healthy=False,
        unhealthy_reason="why",
        serving_parameters=(t.ServingParameter(name="n", description="d", choices=("x", "y")),),
    ),
    t.ProvisionSpec(
        idempotency_key="k",
        artifact=t.Artifact(uri="u", format="f", sha256="s", revision="r"),
        resources=t.Resources(cpus=1.5, memory_bytes=1, accelerators=2),
        serving_parameters={"a": "b"},
        lease=0.25,
        ready_timeout=30.0,
        labels={"c": "d"},
    ),
    t.Instance(
        instance_id="i",
        state=t.InstanceState.FAILED,
        backend=t.Backend.GPU,
        capabilities=CAPABILITIES,
        provenance=t.Provenance(engine="e", command_line=("a", "b"), engine_settings={"x": "1"}),
        created_unix_ns=5,
        error=FAILURE,
        phase_times=t.PhaseTimes(schedule=0.1, pull=0.2, load=0.3, ready=0.4),
    ),
    t.GenerateRequest(
        request_id="1", text="hi", sampling=t.SamplingParameters(max_tokens=1, temperature=0.0, stop=("a",))
    ),
    t.GenerateRequest(
        chat=(t.ChatMessage(role="user", content="hi"),),
        sampling=t.SamplingParameters(max_tokens=1, top_k=0, seed=0),
    ),
    t.GenerateResult(
        text="x",
        finish_reason=t.FinishReason.LENGTH,
        prompt_tokens=1,
        completion_tokens=3,
        times=TIMES,
        token_text_lengths=(0, 1, 0),
    ),
    t.ScoreRequest(request_id="2", context="", continuation="c"),
    t.TelemetrySample(
        mono_ns=1,
        readings=(
            t.Reading(kind=t.SensorKind.NVML_POWER, device_id="0", scope="card", watts=0.0),
            t.Reading(kind=t.SensorKind.CPU_TIME, device_id="p", scope="tree", cpu_seconds_total=1.5),
        ),
        unavailable=("rapl: none",),
    ),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_survives_the_wire_and_is_json(value: object) -> None:
    message = to_proto(value)
    again = from_proto(type(message).FromString(message.SerializeToString()), type(value))
    assert again == value
    json.dumps(asdict(again))


def test_unset_is_not_zero() -> None:
    unset = to_proto(t.SamplingParameters(max_tokens=1))
    zero = to_proto(t.SamplingParameters(max_tokens=1, temperature=0.0))
    assert not unset.HasField("temperature")
    assert zero.HasField("temperature")


def test_an_unknown_state_is_refused() -> None:
    with pytest.raises(ValueError, match="InstanceState 0 is unspecified"):
        from_proto(pb.Instance(instance_id="x", backend=pb.BACKEND_CPU), t.Instance)


@pytest.mark.parametrize("code", list(t.ErrorCode))
def test_every_code_has_its_own_exception(code: t.ErrorCode) -> None:
    error = error_of(t.Failure(code=code, message="m", retryable=True))
    assert isinstance(error, ServingError)
    assert error.to_failure() == t.Failure(code=code, message="m", retryable=True)
    assert type(error) is not ServingError


def test_every_wire_value_of_every_enum_is_known() -> None:
    for kind in (
        t.Backend,
        t.Support,
        t.ScoreMethod,
        t.Determinism,
        t.StampSource,
        t.InstanceState,
        t.FinishReason,
        t.SensorKind,
        t.ErrorCode,
    ):
        wire = {name for name, number in getattr(pb, kind.__name__).items() if number}
        members = {member.name for member in kind} - {"ADAPTER_UNAVAILABLE"}
        assert len(wire) == len(members)
        assert all(any(name.endswith("_" + member) for name in wire) for member in members)

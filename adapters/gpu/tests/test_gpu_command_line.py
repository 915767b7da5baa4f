"""What an artifact's serving parameters become on vLLM's command line."""

from typing import Any

import pytest

from assay_adapter_gpu.vllm import PARAMETERS, accelerators_of, vllm_command
from assay_serving.errors import InvalidRequest
from assay_serving.server_software import ServerCommand
from assay_serving.types import Artifact, ProvisionSpec, Resources


def spec(accelerators: int = 0, concurrency: int = 8, **parameters: str) -> ProvisionSpec:
    return ProvisionSpec(
        idempotency_key="k",
        artifact=Artifact(uri="hf://acme/small"),
        resources=Resources(accelerators=accelerators),
        max_concurrency=concurrency,
        serving_parameters=parameters,
    )


def command(asked: ProvisionSpec, **changes: Any) -> ServerCommand:
    settings = {"model": "acme/small", "revision": "", "context_tokens": 0, "allow_remote_code": False}
    return vllm_command(asked, **(settings | changes))


def option(arguments: tuple[str, ...], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_nothing_but_the_request_chooses_tokens() -> None:
    arguments = command(spec()).arguments
    assert arguments[0] == "acme/small"
    assert option(arguments, "--generation-config") == "vllm"
    assert option(arguments, "--logprobs-mode") == "raw_logprobs"
    assert option(arguments, "--stream-interval") == "1"
    assert option(arguments, "--max-num-seqs") == "8"
    assert "--max-model-len" not in arguments
    assert "--trust-remote-code" not in arguments


def test_every_parameter_reaches_the_server() -> None:
    asked = spec(
        dtype="bfloat16",
        quantization="fp8",
        tensor_parallel="4",
        pipeline_parallel="2",
        gpu_memory_utilization="0.85",
        max_num_batched_tokens="8192",
        kv_cache_dtype="fp8",
        seed="7",
        enforce_eager="true",
        prefix_caching="false",
        batch_invariant="true",
        trust_remote_code="true",
    )
    assert set(asked.serving_parameters) == {each.name for each in PARAMETERS}
    found = command(asked, revision="abc", context_tokens=4096, allow_remote_code=True)
    arguments = found.arguments
    assert option(arguments, "--dtype") == "bfloat16"
    assert option(arguments, "--quantization") == "fp8"
    assert option(arguments, "--tensor-parallel-size") == "4"
    assert option(arguments, "--pipeline-parallel-size") == "2"
    assert option(arguments, "--gpu-memory-utilization") == "0.85"
    assert option(arguments, "--max-num-batched-tokens") == "8192"
    assert option(arguments, "--kv-cache-dtype") == "fp8"
    assert option(arguments, "--seed") == "7"
    assert option(arguments, "--max-model-len") == "4096"
    assert option(arguments, "--revision") == option(arguments, "--tokenizer-revision") == "abc"
    assert option(arguments, "--code-revision") == "abc"
    assert {"--enforce-eager", "--no-enable-prefix-caching", "--trust-remote-code"} <= set(arguments)
    assert found.environment["VLLM_BATCH_INVARIANT"] == "1"
    assert found.environment["VLLM_NO_USAGE_STATS"] == "1"
    assert accelerators_of(asked) == 8


@pytest.mark.parametrize(
    ("accelerators", "parameters", "expected"),
    [
        (0, {}, 1),
        (4, {}, 4),
        (4, {"pipeline_parallel": "2"}, 4),
        (0, {"tensor_parallel": "2"}, 2),
        (2, {"tensor_parallel": "4"}, 4),  # which the backend then refuses
    ],
)
def test_cards_are_those_of_all_ranks(accelerators: int, parameters: dict[str, str], expected: int) -> None:
    assert accelerators_of(spec(accelerators, **parameters)) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tensor_parallel", "0"),
        ("tensor_parallel", "two"),
        ("gpu_memory_utilization", "1.5"),
        ("gpu_memory_utilization", "0"),
        ("max_num_batched_tokens", "-1"),
        ("quantization", "fp8 --host 0.0.0.0"),
        ("seed", "1e3"),
        ("prefix_caching", "yes"),
        ("trust_remote_code", "true"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"serving_parameters\.{name}"):
        command(spec(**{name: value}))

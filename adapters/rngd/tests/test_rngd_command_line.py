"""What an artifact's serving parameters become on furiosa-llm's command line."""

from dataclasses import dataclass

import pytest
from engines.furiosa_arguments import parse

from assay_adapter_rngd.cards import engine_names
from assay_adapter_rngd.furiosa_llm import CONVENTIONS, PARAMETERS, furiosa_command
from assay_serving.errors import InvalidRequest, StartFailed
from assay_serving.types import Artifact, Device, ProvisionSpec


def arguments(**parameters: str) -> tuple[str, ...]:
    spec = ProvisionSpec(
        idempotency_key="k",
        artifact=Artifact(uri="hf://acme/small"),
        max_concurrency=16,
        serving_parameters=parameters,
    )
    return furiosa_command(
        spec, model="acme/small", revision="abc", context_tokens=4096, devices=("npu:0", "npu:3")
    ).arguments


def option(found: tuple[str, ...], name: str) -> str:
    return found[found.index(name) + 1]


def test_every_parameter_reaches_the_server() -> None:
    given = {
        "fxb": "/models/small.fxb",
        "pipeline_parallel": "2",
        "data_parallel": "4",
        "prefix_caching": "false",
        "max_num_batched_tokens": "2048",
    }
    assert {*given, "tensor_parallel"} == {each.name for each in PARAMETERS}
    found = arguments(**given)
    assert found[0] == "acme/small"
    assert option(found, "--revision") == "abc"
    assert option(found, "--devices") == "npu:0,npu:3"
    assert option(found, "--max-model-len") == "4096"
    assert option(found, "--max-concurrency") == "16"
    assert option(found, "--fxb") == "/models/small.fxb"
    assert (option(found, "-pp"), option(found, "-dp")) == ("2", "4")
    assert option(found, "--max-num-batched-tokens") == "2048"
    assert "--no-enable-prefix-caching" in found


def test_tensor_parallelism_belongs_to_the_bundle() -> None:
    with pytest.raises(InvalidRequest, match="fxb build -tp"):
        arguments(tensor_parallel="8")
    with pytest.raises(InvalidRequest, match=r"serving_parameters\.data_parallel"):
        arguments(data_parallel="many")


def test_a_key_that_begins_with_a_hyphen_is_taken() -> None:
    assert CONVENTIONS.key_arguments is not None
    words = ["serve", "model", *CONVENTIONS.key_arguments("-key")]
    assert parse(words, context=512).key == "-key"


@dataclass(frozen=True)
class Card:
    number: int

    def uuid(self) -> str:
        return f"uuid-{self.number}"

    def dev_node_index(self) -> int:
        return self.number


class Cards:
    """What is used of furiosa_smi, for a machine with two cards; the package itself finds none here."""

    class SmiError(Exception):
        pass

    def list_devices(self) -> list[Card]:
        return [Card(4), Card(1)]


def test_cards_are_named_by_their_device_nodes() -> None:
    wanted = [Device(id="uuid-1", product="rngd"), Device(id="uuid-4", product="rngd")]
    assert engine_names(wanted, library=Cards()) == ("npu:1", "npu:4")
    with pytest.raises(StartFailed, match="restart the adapter"):
        engine_names([Device(id="uuid-9", product="rngd")], library=Cards())
    assert engine_names([]) == ()

"""The committed contracts are what the code says, and every example message is read by the code."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from assay_allinone.openapi import documents
from assay_contracts.examples import example_envelopes, examples
from assay_contracts.generate import files
from assay_contracts.registry import EVENTS, FACTS, MalformedEvent, UnknownEvent, parse, stream_of

ROOT = Path(__file__).parents[2]
CONTRACTS = ROOT / "contracts"


def test_every_event_has_an_example() -> None:
    assert {type(event) for event in examples()} == set(EVENTS.values())


@pytest.mark.parametrize("subject", sorted(EVENTS))
def test_the_example_message_is_read(subject: str) -> None:
    payload = (CONTRACTS / "examples" / f"{subject}.json").read_bytes()
    envelope, event = parse(payload)
    assert type(event) is EVENTS[subject]
    assert envelope.subject == event.aggregate_id()
    assert event.model_dump(mode="json") == json.loads(payload)["data"]
    assert stream_of(subject).startswith("ASSAY_")


@pytest.mark.parametrize("event", FACTS, ids=lambda event: event.SUBJECT)
def test_the_example_fits_the_published_schema(event: type) -> None:
    schema = json.loads((CONTRACTS / "events" / f"{event.SUBJECT}.schema.json").read_text())  # type: ignore[attr-defined]
    Draft202012Validator.check_schema(schema)
    message = json.loads((CONTRACTS / "examples" / f"{event.SUBJECT}.json").read_text())  # type: ignore[attr-defined]
    Draft202012Validator(schema).validate(message)
    broken = {**message, "data": {}}
    assert list(Draft202012Validator(schema).iter_errors(broken))


@pytest.mark.parametrize("event", FACTS, ids=lambda event: event.SUBJECT)
def test_readers_ignore_fields_that_a_later_release_adds(event: type) -> None:
    message = json.loads((CONTRACTS / "examples" / f"{event.SUBJECT}.json").read_text())  # type: ignore[attr-defined]
    message["data"]["added_later"] = 1
    _, parsed = parse(json.dumps(message).encode())
    assert type(parsed) is event


def test_generated_files_are_current() -> None:
    committed = {
        str(path.relative_to(CONTRACTS)): path.read_text()
        for path in CONTRACTS.rglob("*.json")
        if path.parent.name != "openapi"
    }
    assert committed == files(), "run: make contracts"


def test_openapi_documents_are_current() -> None:
    for name, document in documents().items():
        committed = json.loads((CONTRACTS / "openapi" / f"{name}.json").read_text())
        assert committed == document, f"{name}: run: make contracts"


def test_what_is_not_an_event_is_told_apart() -> None:
    with pytest.raises(MalformedEvent):
        parse(b"{}")
    envelope = next(iter(example_envelopes().values()))
    with pytest.raises(UnknownEvent):
        parse(envelope.model_copy(update={"type": "assay.eval.run.imagined.v9"}).model_dump_json().encode())
    with pytest.raises(MalformedEvent):
        parse(envelope.model_copy(update={"data": {}}).model_dump_json().encode())

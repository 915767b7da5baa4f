"""Generates what other teams build against: JSON Schema and an example per event, and one AsyncAPI document.

``python -m assay_contracts.generate DIRECTORY`` writes them. The output depends on the code alone.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from assay_contracts.envelope import Envelope, Event
from assay_contracts.examples import example_envelopes
from assay_contracts.registry import FACTS, STREAMS, stream_of

JSON_SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def event_schema(event: type[Event]) -> dict[str, Any]:
    """JSON Schema of a message of this type: the envelope with its ``data``."""
    envelope = Envelope.model_json_schema(mode="serialization")
    data = event.model_json_schema(mode="serialization")
    envelope["properties"]["type"] = {"const": event.SUBJECT, "title": "Type"}
    envelope["properties"]["data"] = data
    envelope["title"] = event.__name__
    envelope["description"] = event.__doc__
    return {"$schema": JSON_SCHEMA_DIALECT, "$id": f"urn:assay:event:{event.SUBJECT}", **envelope}


def asyncapi(events: tuple[type[Event], ...] = FACTS) -> dict[str, Any]:
    """The AsyncAPI 3.0 document of the events that other teams may read."""
    models: list[type[BaseModel]] = [*events, Envelope]
    _, definitions = models_json_schema(
        [(model, "serialization") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    channels, operations, messages = {}, {}, {}
    sent = example_envelopes()
    for event in events:
        name = event.__name__
        description = " ".join((event.__doc__ or "").split())
        channels[name] = {
            "address": event.SUBJECT,
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
            "bindings": {"nats": {}},
            "x-nats-stream": stream_of(event.SUBJECT),
        }
        operations[f"receive{name}"] = {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": description,
        }
        messages[name] = {
            "name": event.SUBJECT,
            "title": name,
            "summary": description,
            "contentType": "application/cloudevents+json",
            "headers": {
                "type": "object",
                "properties": {
                    "Nats-Msg-Id": {
                        "type": "string",
                        "description": "the event's id; repeats are the same event",
                    },
                    "traceparent": {"type": "string", "description": "W3C Trace Context of the cause"},
                },
            },
            "payload": {
                "allOf": [
                    {"$ref": "#/components/schemas/Envelope"},
                    {
                        "type": "object",
                        "properties": {
                            "type": {"const": event.SUBJECT},
                            "data": {"$ref": f"#/components/schemas/{name}"},
                        },
                    },
                ]
            },
            "examples": [{"payload": sent[event.SUBJECT].model_dump(mode="json")}],
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Assay events",
            "version": "1.0.0",
            "description": (
                "CloudEvents 1.0 in structured JSON mode over NATS JetStream. Delivery is at least once: "
                "expect every event twice. Within a version only optional fields are "
                "added; anything else gets a new version in the subject. Streams: "
                + ", ".join(stream.name for stream in STREAMS if not stream.work_queue)
                + "."
            ),
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": definitions["$defs"]},
    }


def files() -> dict[str, str]:
    """Relative path to content of every generated file."""
    generated = {"asyncapi.json": _json(asyncapi())}
    for event in FACTS:
        generated[f"events/{event.SUBJECT}.schema.json"] = _json(event_schema(event))
    for subject, envelope in example_envelopes().items():
        generated[f"examples/{subject}.json"] = _json(envelope.model_dump(mode="json"))
    return generated


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n"


def main() -> None:
    """Write the files below the directory named on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m assay_contracts.generate DIRECTORY")
    for name, content in files().items():
        path = Path(sys.argv[1], name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()

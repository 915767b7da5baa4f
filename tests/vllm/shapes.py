"""The shape of an answer: its keys in order, the kinds of its values, and the words of the protocol."""

import json
import re
from typing import Any

import httpx

# Values that are the protocol's own words.
_WORDS = frozenset({"object", "finish_reason", "type", "param", "code", "role", "owned_by", "detail"})
_BY_TOKEN = frozenset({"prompt_logprobs", "top_logprobs"})
_NUMBERS = re.compile(r"\d+(\.\d+)?")


def shape(value: Any, key: str = "") -> Any:
    """Keys and kinds; lists as their different elements' shapes in order; see `_WORDS` for what stays."""
    match value:
        case dict() if key in _BY_TOKEN:
            return {"<token>": _distinct([shape(each) for each in value.values()])}
        case dict():
            return {name: shape(each, name) for name, each in value.items()}
        case list():
            return _distinct([shape(each, key) for each in value])
        case str() if key in _WORDS:
            return value
        case str() if key in ("message", "error"):
            return _NUMBERS.sub("0", value)
        case int() if key == "code":
            return value
        case float() | int() if not isinstance(value, bool):
            return "number" if key in ("logprob", "token_logprobs") or isinstance(value, float) else "int"
        case _:
            return "null" if value is None else type(value).__name__


def reply_shape(reply: httpx.Response, *, in_any_order: bool) -> dict[str, Any]:
    """Status, media type and the shape of the body: JSON, a stream's events, or that there is none.

    `in_any_order` is for streams of several answers, whose chunks come as they come.
    """
    kind = reply.headers.get("content-type", "")
    found: dict[str, Any] = {"status": reply.status_code, "content-type": kind}
    if kind.startswith("text/event-stream"):
        shapes = [shape(event) for event in events(reply)]
        found["events"] = sorted(_distinct(shapes), key=json.dumps) if in_any_order else _runs(shapes)
    elif kind == "application/json":
        found["body"] = shape(reply.json())
    else:
        found["body"] = "text" if reply.text else "empty"
    return found


def events(reply: httpx.Response) -> list[Any]:
    """The events of a stream; the end mark as it is."""
    lines = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def differences(left: Any, right: Any, place: str = "") -> list[str]:
    """Where two shapes differ, one line each: the place, the left side, the right side."""
    if isinstance(left, dict) and isinstance(right, dict):
        found = []
        for name in dict.fromkeys((*left, *right)):
            if name not in left or name not in right:
                side = "right" if name not in left else "left"
                found.append(f"{place}.{name}: only {side}")
            else:
                found += differences(left[name], right[name], f"{place}.{name}")
        if not found and list(left) != list(right):
            found.append(f"{place}: order of keys {list(left)} | {list(right)}")
        return found
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return [
            line
            for index, (one, other) in enumerate(zip(left, right, strict=True))
            for line in differences(one, other, f"{place}[{index}]")
        ]
    return [] if left == right else [f"{place}: {json.dumps(left)} | {json.dumps(right)}"]


def _distinct(shapes: list[Any]) -> list[Any]:
    found: list[Any] = []
    for each in shapes:
        if each not in found:
            found.append(each)
    return found


def _runs(shapes: list[Any]) -> list[Any]:
    """Equal neighbours as one, because how many there are is the model's business."""
    return [each for index, each in enumerate(shapes) if index == 0 or shapes[index - 1] != each]

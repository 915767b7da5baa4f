"""Metric values to JSON and back without losing a bit or a type.

lm-eval adds up whatever a task returns: Python and NumPy numbers, tuples, arrays. Plain numbers stay plain;
anything else becomes a one-key object `{"<type>": content}`, so that a stored value aggregates to exactly
the number that the fresh one would have given.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy
from pydantic import JsonValue


class EncodedValue(NamedTuple):
    """A JSON value, and the NumPy type of the number where it was a NumPy scalar (else empty)."""

    value: JsonValue
    number_type: str


def encode_metric(value: object) -> EncodedValue:
    """Encode the value of one metric of one document.

    Raises TypeError for a type that no lm-eval metric is known to return.
    """
    if isinstance(value, numpy.generic):
        plain = value.item()
        if isinstance(plain, bool | int | float):
            return EncodedValue(encode(plain), value.dtype.name)
    return EncodedValue(encode(value), "")


def decode_metric(encoded: EncodedValue) -> object:
    """Reverse `encode_metric`."""
    value = decode(encoded.value)
    return numpy.dtype(encoded.number_type).type(value) if encoded.number_type else value


def encode(value: object) -> JsonValue:
    """Encode any nesting of numbers, text, lists, tuples, dicts and NumPy values; see the module's text."""
    if value is None or isinstance(value, bool | str):
        # str() and bool() of subclasses such as numpy.str_ would lose the type; they carry no arithmetic.
        return value if value is None or isinstance(value, bool) else str(value)
    if isinstance(value, numpy.generic):
        return {value.dtype.name: encode(value.item())}
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else {"int": str(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    return _encode_container(value)


def _encode_container(value: object) -> JsonValue:
    """Encode what holds other values."""
    match value:
        case list():
            return [encode(item) for item in value]
        case tuple():
            return {"tuple": [encode(item) for item in value]}
        case dict():
            return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
        case set() | frozenset():
            return {"set": [encode(item) for item in sorted(value, key=repr)]}
        case numpy.ndarray():
            return {"array": [value.dtype.name, encode(value.tolist())]}
        case _:
            raise TypeError(f"a metric returned a {type(value).__name__}, which cannot be stored exactly")


def decode(value: JsonValue) -> object:
    """Reverse `encode`."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((name, content),) = value.items()
    decoder = _DECODERS.get(name)
    return decoder(content) if decoder else numpy.dtype(name).type(decode(content))


def _items(content: JsonValue) -> list[object]:
    """Decode a list that `encode` wrote."""
    if not isinstance(content, list):
        raise TypeError(f"expected a list, got {type(content).__name__}")
    return [decode(item) for item in content]


def _array(content: JsonValue) -> object:
    """Rebuild an array from its dtype and nested lists."""
    dtype, items = _items(content)
    return numpy.array(items, dtype=str(dtype))


_DECODERS: dict[str, Callable[[JsonValue], object]] = {
    "tuple": lambda content: tuple(_items(content)),
    "dict": lambda content: dict(_items(content)),  # type: ignore[arg-type]
    "set": lambda content: set(_items(content)),
    "array": _array,
    "int": lambda content: int(str(content)),
    "float": lambda content: float(str(content)),
}

"""Reading the fields of a JSON request as the servers do: unknown ones are ignored, others have a type."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class WrongField(Exception):
    """A field's value has the wrong type; `kind` and `message` are pydantic's words for it."""

    name: str
    kind: str
    message: str
    value: Any


class Fields:
    """The fields of one request; ``null`` is the same as not there."""

    def __init__(self, content: Any) -> None:
        if not isinstance(content, dict):
            raise WrongField("", "model_attributes_type", "Input should be a valid dictionary", content)
        self._content: Mapping[str, Any] = content

    def __contains__(self, name: str) -> bool:
        return self._content.get(name) is not None

    def integer(self, name: str, default: int | None = None) -> Any:
        """A whole number; text that is one counts."""
        value = self._content.get(name)
        if value is None:
            return default
        if isinstance(value, str):
            try:
                return int(value)
            except ValueError:
                message = "Input should be a valid integer, unable to parse string as an integer"
                raise WrongField(name, "int_parsing", message, value) from None
        if isinstance(value, bool):
            return int(value)
        if not isinstance(value, int | float) or value != int(value):
            raise WrongField(name, "int_type", "Input should be a valid integer", value)
        return int(value)

    def number(self, name: str, default: float | None = None) -> Any:
        """A number; text that is one counts."""
        value = self._content.get(name)
        if value is None:
            return default
        try:
            found = float(value)
        except (TypeError, ValueError):
            message = "Input should be a valid number, unable to parse string as a number"
            raise WrongField(name, "float_parsing", message, value) from None
        if not math.isfinite(found):
            raise WrongField(name, "finite_number", "Input should be a finite number", value)
        return found

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self._content.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise WrongField(name, "bool_parsing", "Input should be a valid boolean", value)
        return value

    def text(self, name: str) -> str | None:
        """A text."""
        value = self._content.get(name)
        if value is not None and not isinstance(value, str):
            raise WrongField(name, "string_type", "Input should be a valid string", value)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """One text or several."""
        value = self._content.get(name)
        if value is None:
            return ()
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise WrongField(name, "string_type", "Input should be a valid string", value)
        return tuple(found)

    def integers(self, name: str) -> list[int]:
        """Several whole numbers."""
        value = self._content.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(type(each) is int for each in value):
            raise WrongField(name, "list_type", "Input should be a valid list", value)
        return value

    def fields(self, name: str) -> "Fields":
        """An object; nothing where it is not there."""
        value = self._content.get(name)
        return Fields({} if value is None else value)

    def raw(self, name: str) -> Any:
        """The value as it is."""
        return self._content.get(name)

    def raw_items(self) -> list[tuple[str, Any]]:
        """All fields as they are."""
        return list(self._content.items())

    def prompts(self, name: str = "prompt") -> list[str | list[int]]:
        """One prompt or several, each a text or token ids."""
        value = self._content.get(name)
        if isinstance(value, str):
            return [value]
        if isinstance(value, list):
            if value and all(type(each) is int for each in value):
                return [value]
            if all(isinstance(each, str) or _is_ids(each) for each in value):
                return list(value)
        raise WrongField(name, "string_type", "Input should be a valid string", value)

    def messages(self) -> list[Mapping[str, Any]]:
        """The turns of a conversation."""
        value = self._content.get("messages")
        if not isinstance(value, list) or not all(
            isinstance(each, dict) and isinstance(each.get("role"), str) for each in value
        ):
            raise WrongField("messages", "list_type", "Input should be a valid list", value)
        return value


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int for each in value)

"""Reads `ProvisionSpec.serving_parameters`, whose values are texts, with errors that name the parameter."""

import re
from collections.abc import Mapping

from assay_serving.errors import InvalidRequest

SWITCH = ("true", "false")


class ServingParameters:
    """The parameters of one request. A parameter that is not given, or empty, is None."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, name: str, *, pattern: str, meaning: str) -> str | None:
        """A text that matches `pattern`; raises InvalidRequest, which says `meaning`, for another one."""
        value = self._values.get(name)
        if value and not re.fullmatch(pattern, value):
            raise self._wrong(name, value, meaning)
        return value or None

    def whole(self, name: str, *, least: int, most: int) -> int | None:
        """A whole number between `least` and `most`; raises InvalidRequest."""
        value = self._values.get(name)
        if not value:
            return None
        if not re.fullmatch(r"-?\d{1,12}", value) or not least <= int(value) <= most:
            raise self._wrong(name, value, f"a whole number from {least} to {most}")
        return int(value)

    def share(self, name: str) -> float | None:
        """A number above 0 and up to 1; raises InvalidRequest."""
        value = self._values.get(name)
        if not value:
            return None
        if not re.fullmatch(r"[01]?\.?\d{1,6}", value) or not 0 < float(value) <= 1:
            raise self._wrong(name, value, "a number above 0 and up to 1, such as 0.9")
        return float(value)

    def switch(self, name: str) -> bool | None:
        """``true`` or ``false``; raises InvalidRequest."""
        value = self._values.get(name)
        if not value:
            return None
        if value not in SWITCH:
            raise self._wrong(name, value, "true or false")
        return value == "true"

    def _wrong(self, name: str, value: str, meaning: str) -> InvalidRequest:
        return InvalidRequest(f"serving_parameters.{name} {value[:80]!r}: must be {meaning}")

"""Values that people write as lines of ``name=value``."""

from collections.abc import Mapping


class BadLine(ValueError):
    """A line is no assignment; the text says which and what to write."""


def assignments(text: str) -> dict[str, str]:
    """The values of lines ``name=value``; empty lines are skipped.

    Raises:
        BadLine: a line has no ``=`` or no name, or a name comes twice.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name:
            raise BadLine(f"Line {number} is no name=value: {line.strip()[:80]!r}")
        if name in found:
            raise BadLine(f"Line {number} gives {name!r} a second time")
        found[name] = value
    return found


def as_lines(values: Mapping[str, str]) -> str:
    """The same values as lines."""
    return "\n".join(f"{name}={value}" for name, value in values.items())

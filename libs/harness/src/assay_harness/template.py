"""Prompt templates of users: text with `{{field}}` placeholders and nothing else.

There is no expression language on purpose: lm-eval's Jinja runs code. A value is inserted as text and
never read as a template again.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from assay_harness.errors import TemplateError

# Letters, digits and what column names have between them. A column with another name is given one by the
# column mapping; what an expression would need (dots, bars, brackets, operators) is not there.
_NAME = re.compile(r"\w(?:[\w /:-]*\w)?")
_MARKER = re.compile(r"\{\{|\}\}|\{%|\{#")


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One `{{name}}` and the 0-based position of its opening braces."""

    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A parsed template; `render` is its only use, `names` and `check` are for validation."""

    text: str
    parts: tuple[str | Placeholder, ...]

    @property
    def names(self) -> list[str]:
        """Field names in order of first appearance, each once."""
        return list(dict.fromkeys(part.name for part in self.parts if isinstance(part, Placeholder)))

    def check(self, fields: Iterable[str]) -> None:
        """Raise `TemplateError` at the first placeholder whose name is not one of `fields`."""
        known = list(fields)
        for part in self.parts:
            if isinstance(part, Placeholder) and part.name not in known:
                raise TemplateError(
                    f"there is no field {part.name!r}; the fields are {', '.join(known)}",
                    template=self.text,
                    offset=part.offset,
                    offending=f"{{{{{part.name}}}}}",
                )

    def render(self, values: Mapping[str, str]) -> str:
        """Return the text with each placeholder replaced by its value, verbatim.

        Raises KeyError for a name that `check` would have refused.
        """
        return "".join(values[part.name] if isinstance(part, Placeholder) else part for part in self.parts)


def parse_template(text: str) -> PromptTemplate:
    """Parse a user's template.

    Raises `TemplateError` for `{%`, `{#`, an unclosed or empty placeholder, a stray `}}`, or a text that
    holds no placeholder at all (every row would get the same prompt).
    """
    parts: list[str | Placeholder] = []
    position = 0
    while marker := _MARKER.search(text, position):
        parts.append(text[position : marker.start()])
        placeholder, position = _parse_placeholder(text, marker)
        parts.append(placeholder)
    parts.append(text[position:])
    template = PromptTemplate(text=text, parts=tuple(part for part in parts if part != ""))
    if not template.names:
        raise TemplateError(
            "the template names no field; write at least one {{field}}, such as {{input}}",
            template=text,
            offset=0,
            offending=text[:20],
        )
    return template


def _parse_placeholder(text: str, marker: re.Match[str]) -> tuple[Placeholder, int]:
    """Read the placeholder that opens at `marker`; return it and the position after its closing braces."""
    start = marker.start()
    if marker.group() != "{{":
        problem = "this closes nothing" if marker.group() == "}}" else "only {{field}} is allowed here"
        raise TemplateError(problem, template=text, offset=start, offending=marker.group())
    end = text.find("}}", start)
    if end < 0:
        raise TemplateError(
            "the placeholder is never closed; add }}",
            template=text,
            offset=start,
            offending=text[start : start + 20],
        )
    whole, name = text[start : end + 2], text[start + 2 : end].strip()
    if not _NAME.fullmatch(name):
        raise TemplateError(
            "a placeholder holds one field name and nothing else: no filter, attribute or call",
            template=text,
            offset=start,
            offending=whole,
        )
    return Placeholder(name=name, offset=start), end + 2

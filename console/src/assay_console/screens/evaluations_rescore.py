"""From the form of a scoring to what the API takes."""

from collections.abc import Mapping
from typing import Any

STEPS_WITH_ARGUMENT: Mapping[str, str] = {"task-filter": "name"}
"""Steps that take an argument, and what it is called."""


class WrongLine(ValueError):
    """A line of the form cannot be read; the message says which, and how it should look."""


def scoring_of(filters: str, *, is_question_answer: bool, expected_output_field: str) -> Mapping[str, Any]:
    """The scoring of the API from lines such as ``flexible = strip-thinking, last-number``.

    Raises:
        WrongLine: a line has no name or no steps, or nothing was asked for.
    """
    pipelines = [
        _pipeline(line, number) for number, line in enumerate(filters.splitlines(), start=1) if line.strip()
    ]
    if not pipelines and not is_question_answer:
        raise WrongLine("Write at least one filter, or choose to score as questions and answers.")
    scoring: dict[str, Any] = {"filters": pipelines}
    if is_question_answer:
        scoring["question_answer"] = (
            {"expected_output_field": expected_output_field} if expected_output_field else {}
        )
    return scoring


def _pipeline(line: str, number: int) -> Mapping[str, Any]:
    name, equals, steps = line.partition("=")
    found = [_step(part.strip(), number) for part in steps.split(",") if part.strip()]
    if not equals or not name.strip() or not found:
        seen = line.strip()[:80]
        raise WrongLine(f"Line {number} of the filters: write “name = step, step”, not “{seen}”.")
    return {"name": name.strip(), "steps": found}


def _step(text: str, number: int) -> Mapping[str, Any]:
    function, colon, argument = text.partition(":")
    if not colon:
        return {"function": function}
    if function not in STEPS_WITH_ARGUMENT:
        raise WrongLine(f"Line {number} of the filters: the step “{function[:80]}” takes no argument.")
    return {"function": function, "arguments": {STEPS_WITH_ARGUMENT[function]: argument}}

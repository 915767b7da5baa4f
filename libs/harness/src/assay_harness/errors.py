"""What the harness refuses, as typed errors that survive the pipe from the harness process.

Every message says what is wrong and what to do about it; the attributes carry the same facts for
programs (an API turns them into fields of its problem document).
"""

from collections.abc import Sequence

_NAMES_SHOWN = 8


def _rebuild(
    error_type: type["HarnessError"], arguments: tuple[object, ...], state: dict[str, object]
) -> "HarnessError":
    """Restore an unpickled error without calling its keyword-only constructor."""
    error = error_type.__new__(error_type)
    error.args = arguments
    error.__dict__.update(state)
    return error


class HarnessError(Exception):
    """Base of everything the harness raises on purpose; `str(error)` is fit for a user's eyes."""

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class UnknownTask(HarnessError):
    """The task index has no such name; `nearest` lists the closest ones, best first."""

    def __init__(self, *, task: str, nearest: Sequence[str]) -> None:
        hint = f"; the nearest names are {', '.join(nearest)}" if nearest else ""
        super().__init__(f"there is no lm-eval task named {task!r}{hint}")
        self.task = task
        self.nearest = list(nearest)


class TaskRefused(HarnessError):
    """The task exists but this platform does not run it; `reason` says why in words."""

    def __init__(self, *, task: str, reason: str) -> None:
        super().__init__(f"task {task!r} cannot be run here: {reason}")
        self.task = task
        self.reason = reason


class UnmappedColumn(HarnessError):
    """The rows lack columns that the method reads; `available` are the columns that they have."""

    def __init__(self, *, columns: Sequence[str], available: Sequence[str]) -> None:
        super().__init__(
            f"the method reads the column(s) {', '.join(map(repr, columns))}, which the rows do not have; "
            f"map them to one of {', '.join(map(repr, available))}"
        )
        self.columns = list(columns)
        self.available = list(available)


class TemplateError(HarnessError, ValueError):
    """A prompt template holds something other than `{{field}}`, or names a field that does not exist.

    `offset` is the 0-based character position of `offending`; `line` and `column` count from 1.
    """

    def __init__(self, problem: str, *, template: str, offset: int, offending: str) -> None:
        before = template[:offset]
        self.line = before.count("\n") + 1
        self.column = offset - (before.rfind("\n") + 1) + 1
        self.offset = offset
        self.offending = offending
        super().__init__(f"line {self.line}, column {self.column}, at {offending!r}: {problem}")


class RowProblem(HarnessError):
    """One row cannot be rendered or scored; `row_index` counts from 0 in the file named by `source`."""

    def __init__(self, *, row_index: int, problem: str, source: str = "evaluation") -> None:
        super().__init__(f"row {row_index} of the {source} rows: {problem}")
        self.row_index = row_index
        self.problem = problem
        self.source = source


class RowFileProblem(HarnessError):
    """A file of rows cannot be read, or holds no rows; `file_name` is its last path component."""

    def __init__(self, *, file_name: str, problem: str) -> None:
        super().__init__(f"{file_name}: {problem}")
        self.file_name = file_name
        self.problem = problem


class GroupRowsMismatch(HarnessError):
    """The rows given for a group are not those of its tasks; `missing` and `unknown` are task names."""

    def __init__(self, *, missing: Sequence[str], unknown: Sequence[str]) -> None:
        parts = []
        if missing:
            parts.append(f"there are no rows for {_shown(missing)}; name a dataset for each of its tasks")
        if unknown:
            parts.append(f"there are rows for {_shown(unknown)}, which it does not hold; leave them out")
        super().__init__("; ".join(parts))
        self.missing = list(missing)
        self.unknown = list(unknown)


def _shown(names: Sequence[str]) -> str:
    """Return the first names of a list that may be long."""
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(map(repr, names[:_NAMES_SHOWN])) + more


class FewshotPoolTooSmall(HarnessError):
    """There are fewer rows to draw examples from than the prompt needs (`needed` counts the row itself)."""

    def __init__(self, *, available: int, needed: int, num_fewshot: int) -> None:
        super().__init__(
            f"{num_fewshot} few-shot examples need {needed} rows to draw from and there are {available}; "
            "lower num_fewshot or name a larger few-shot source"
        )
        self.available = available
        self.needed = needed
        self.num_fewshot = num_fewshot


class InvalidOptions(HarnessError):
    """Options that are valid by themselves do not fit this task; `option` names the one to change."""

    def __init__(self, *, option: str, problem: str) -> None:
        super().__init__(f"option {option!r}: {problem}")
        self.option = option
        self.problem = problem


class InvalidScores(HarnessError):
    """The scores to aggregate are empty, or hold a document twice."""


class HarnessFailed(HarnessError):
    """Something inside lm-eval or a task's own code failed in a way that no rule above names.

    `traceback_text` is for the operator's log, not for the user.
    """

    def __init__(self, problem: str, *, traceback_text: str) -> None:
        super().__init__(problem)
        self.traceback_text = traceback_text


class HarnessProcessDied(HarnessError):
    """The harness process ended while it was needed; `exit_code` is negative for a signal."""

    def __init__(self, *, exit_code: int | None) -> None:
        super().__init__(f"the harness process ended unexpectedly (exit code {exit_code}); open a new one")
        self.exit_code = exit_code

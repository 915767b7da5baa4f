"""What method-svc refuses, and what the harness refuses as faults that name the field of the request."""

from collections.abc import Sequence

from pydantic import ValidationError

from assay_chassis.errors import Conflict, Fault, InvalidRequest, NotFound, TooLarge, Unavailable
from assay_harness.errors import (
    FewshotPoolTooSmall,
    HarnessError,
    InvalidOptions,
    RowProblem,
    TaskRefused,
    TemplateError,
    UnknownTask,
    UnmappedColumn,
)


class MethodNotFound(NotFound):
    """There is no method of that id."""

    def __init__(self, method_id: str) -> None:
        super().__init__(f"there is no method {method_id!r}; GET /v1/methods lists those that there are")


class VersionNotFound(NotFound):
    """The method has no version of that number."""

    def __init__(self, *, method_id: str, version: int, newest: int) -> None:
        super().__init__(f"method {method_id!r} has no version {version}; it has 1 to {newest}")


class TaskNotFound(NotFound):
    """lm-eval has no task of that name."""


class NameTaken(Conflict):
    """A method of that name exists."""

    slug = "name-taken"
    title = "The name is taken"

    def __init__(self, *, name: str, method_id: str) -> None:
        message = f"there is a method {name!r} already: {method_id}"
        super().__init__(
            f"{message}; add a version to that one or choose another name",
            faults=[Fault(message=message, field="name")],
        )


class MethodTooLarge(TooLarge):
    """The recipe does not fit into the room that one method has."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the recipe and its description have more than {limit} characters; shorten them")


class TooManyVersions(Conflict):
    """The versions of the method fill the room that one method has."""

    slug = "too-many-versions"
    title = "The method has too many versions"

    def __init__(self, method_id: str) -> None:
        super().__init__(f"method {method_id!r} has no room for another version; create a new method")


class InvalidMethod(InvalidRequest):
    """The recipe, or what it refers to, cannot be used. Nothing was changed."""

    slug = "invalid-method"
    title = "The method is not valid"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(fault.message for fault in faults[:5]), faults=faults)


class IndexNotReady(Unavailable):
    """The task index is not there yet."""

    def __init__(self) -> None:
        super().__init__("the index of lm-eval's tasks is being built (half a minute, once); try again soon")


class PreviewTimedOut(Unavailable):
    """Rendering took too long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the preview was not rendered within {seconds:g} s; try fewer rows or try again")


def faults_of(error: HarnessError) -> list[Fault]:
    """The faults behind an error that the harness raised; at least one."""
    message = str(error)
    match error:
        case UnknownTask() | TaskRefused():
            return [Fault(message=message, field="recipe.task")]
        case TemplateError():
            return [Fault(message=message, field="recipe.prompt_template")]
        case UnmappedColumn():
            return [Fault(message=message, field=f"column_mapping.{column}") for column in error.columns]
        case FewshotPoolTooSmall():
            return [Fault(message=message, field="num_fewshot")]
        case InvalidOptions():
            return [Fault(message=message, field=error.option)]
        case RowProblem():
            return [Fault(message=message, row=error.row_index)]
        case _:
            return [Fault(message=message)]


def faults_of_options(error: ValidationError) -> list[Fault]:
    """The faults of options that the harness does not take."""
    return [
        Fault(message=item["msg"], field=".".join(str(part) for part in item["loc"]))
        for item in error.errors()
    ]

"""Options that several commands share, written down once as the fields of a dataclass."""

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from typer.models import OptionInfo

Command = TypeVar("Command", bound=Callable[..., None])


def with_option_groups(command: Command) -> Command:
    """Give a command the fields of its dataclass parameters as options.

    A parameter whose type is a dataclass is replaced by that class's fields, in its place; the command gets
    an instance made of them. The fields' annotations are typer's. The first line of the class's docstring
    is the heading of its options in the help.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            parameters.extend(_parameters(groups[name]))
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))

    @functools.wraps(command)
    def grouped(**values: Any) -> None:
        for name, group in groups.items():
            own = {field.name: values.pop(field.name) for field in fields(group)}
            values[name] = group(**own)
        command(**values)

    # What typer reads: the signature for the defaults, the annotations for the types.
    grouped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    grouped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return grouped  # type: ignore[return-value]


def _parameters(group: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    title = (inspect.getdoc(group) or "").partition("\n")[0].removesuffix(".")
    for field in fields(group):
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(field),
            annotation=_in_panel(hints[field.name], title=title),
        )


def _in_panel(annotation: Any, *, title: str) -> Any:
    """The annotation with its option under a heading."""
    kind, *metadata = get_args(annotation)
    [option] = [copy.copy(info) for info in metadata if isinstance(info, OptionInfo)]
    option.rich_help_panel = title
    return Annotated[kind, option]


def _default(field: Field[Any]) -> Any:
    return inspect.Parameter.empty if field.default is MISSING else field.default

"""What every command shares: the connection, the two consoles, JSON or tables."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from assay.client import AssayClient
from assay.errors import AssayError, RequestRefused
from assay.models import Document
from assay.rendering.text import clean
from assay.settings import read_environment

WIDTH_WITHOUT_TERMINAL = 160
"""Characters per line where the output is no terminal and COLUMNS is not set."""

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON alone on stdout; progress and errors go to stderr.")
]


def open_console(*, stderr: bool) -> Console:
    """A console that writes plain text where nobody looks at a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    width = read_environment().terminal_width
    if width is None and not stream.isatty():
        width = WIDTH_WITHOUT_TERMINAL
    return Console(stderr=stderr, width=width, highlight=False, markup=False)


@dataclass(slots=True)
class Session:
    """One invocation of the command.

    Attributes:
        url, api_key: from the flags.
        as_json: whether stdout carries JSON alone.
        out: tables, on stdout.
        messages: progress and remarks, on stderr.
        document_shown: whether stdout has its one JSON document.
    """

    url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    as_json: bool = False
    out: Console = field(default_factory=lambda: open_console(stderr=False))
    messages: Console = field(default_factory=lambda: open_console(stderr=True))
    document_shown: bool = False

    def show(self, document: Any, rendered: Callable[[], RenderableType]) -> None:
        """Print the document as JSON, or what ``rendered`` makes of it."""
        if self.as_json:
            print(json.dumps(_plain(document), indent=2, ensure_ascii=False), flush=True)
            self.document_shown = True
        else:
            self.out.print(rendered())

    def say(self, text: str, *, style: str = "") -> None:
        """A remark for a person, on stderr."""
        self.messages.print(Text(clean(text), style=style), soft_wrap=True)

    def report(self, error: AssayError) -> None:
        """Say what went wrong on stderr; with ``--json``, also as an object on stdout."""
        if self.as_json and not self.document_shown:
            document = {
                "error": {
                    "message": error.message,
                    "status": error.status,
                    "errors": [fault.document() for fault in error.faults],
                    "problem": None if error.problem is None else error.problem.document(),
                }
            }
            print(json.dumps(document, indent=2, ensure_ascii=False), flush=True)
        self.say(f"error: {error}", style="red")


def session_of(context: typer.Context, *, as_json: bool = False) -> Session:
    """The session of this invocation."""
    session: Session = context.find_root().obj
    session.as_json = session.as_json or as_json
    return session


@contextmanager
def connected(session: Session) -> Iterator[AssayClient]:
    """A client for the platform that flags, environment or this machine name."""
    with AssayClient(session.url, session.api_key) as client:
        yield client


def assignments(texts: Sequence[str], *, option: str) -> dict[str, str]:
    """``NAME=VALUE`` texts as a mapping. Raises RequestRefused naming the option."""
    values: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise RequestRefused(f"{option} {text!r}: write NAME=VALUE")
        if name in values:
            raise RequestRefused(f"{option} {name!r} is given twice")
        values[name] = value
    return values


def confirmed(question: str, *, otherwise: str) -> bool:
    """Whether a person says yes. Where nobody can be asked, RequestRefused names the option to say so."""
    if not sys.stdin.isatty():
        raise RequestRefused(f"nobody can be asked here: {question} Say so with {otherwise}")
    return typer.confirm(question, err=True)


def without_nothing(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values without those that are ``None``: what was not given is left to the platform."""
    return {name: value for name, value in values.items() if value is not None}


def examples(*lines: str) -> str:
    """The examples at the end of a command's help."""
    return "\n".join(["Examples:", *(f"  {line}" for line in lines)])


def _plain(value: Any) -> Any:
    if isinstance(value, Document):
        return value.document()
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value

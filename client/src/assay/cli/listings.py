"""``list`` and ``show``, which every kind of resource with a name has."""

from collections.abc import Callable, Iterable
from typing import Annotated, TypeVar

import typer
from rich.console import RenderableType

from assay.cli.session import JsonOption, connected, session_of
from assay.client import AssayClient
from assay.models import NamedDocument
from assay.resources.named import NamedResources

LimitOption = Annotated[int, typer.Option(help="At most this many.", min=1)]
NameOption = Annotated[str | None, typer.Option(help="Only those of exactly this name.", show_default=False)]
SearchOption = Annotated[
    str | None, typer.Option(help="Only those with this text in their name.", show_default=False)
]

Named = TypeVar("Named", bound=NamedDocument)


def add_list_and_show(
    app: typer.Typer,
    resources: Callable[[AssayClient], NamedResources[Named]],
    *,
    table: Callable[[Iterable[Named]], RenderableType],
    card: Callable[[Named], RenderableType],
    kind: str,
    shown: str,
) -> None:
    """Add the two commands to ``app``.

    Args:
        app: the commands of the kind.
        resources: where they are found.
        table: renders many.
        card: renders one.
        kind: what one of them is called.
        shown: what ``show`` shows, in words.
    """

    @app.command("list", help=f"List {kind}s, newest first.")
    def list_resources(
        context: typer.Context,
        name: NameOption = None,
        search: SearchOption = None,
        limit: LimitOption = 50,
        as_json: JsonOption = False,
    ) -> None:
        session = session_of(context, as_json=as_json)
        with connected(session) as client:
            found = list(resources(client).list(name=name, search=search, limit=limit))
        session.show({"items": found}, lambda: table(found))

    @app.command("show", help=f"Show {shown}.")
    def show(
        context: typer.Context,
        reference: Annotated[
            str, typer.Argument(metavar=kind.upper(), help="Name or id.", show_default=False)
        ],
        as_json: JsonOption = False,
    ) -> None:
        session = session_of(context, as_json=as_json)
        with connected(session) as client:
            found = resources(client).get(reference)
        session.show(found, lambda: card(found))

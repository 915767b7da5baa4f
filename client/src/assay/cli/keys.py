"""``assay keys`` and ``assay whoami``."""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from assay.cli.listings import LimitOption
from assay.cli.session import JsonOption, connected, examples, session_of
from assay.errors import RequestRefused
from assay.rendering.access import issued_card, key_table, me_card

app = typer.Typer(
    help="API keys: who may read, change, and decide who may (admins only).", no_args_is_help=True
)

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_SHOWN_ONCE = "The secret is shown this once; nobody can read it again."

KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="Name, id, or how the key begins.", show_default=False)
]


class RoleName(StrEnum):
    """What the holder may do; each may do all that the ones before it may."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"


@app.command(
    "create",
    epilog=examples(
        "assay keys create dashboard --role viewer", "assay keys create ci --role editor --expires 90d"
    ),
)
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who holds the key.", show_default=False)],
    role: Annotated[
        RoleName,
        typer.Option(
            help="viewer reads; editor creates and changes; admin has the keys.", show_default=False
        ),
    ],
    expires: Annotated[
        str | None,
        typer.Option(help="When it ends: 12h, 90d, 4w, or a date.", metavar="TIME", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create a key and show its secret, this once."""
    session = session_of(context, as_json=as_json)
    expires_at = None if expires is None else _end(expires, now=datetime.now(UTC))
    with connected(session) as client:
        key = client.keys.create(name, role=role, expires_at=expires_at)
    session.show(key, lambda: issued_card(key))
    session.say(_SHOWN_ONCE)


@app.command("list")
def list_keys(context: typer.Context, limit: LimitOption = 50, as_json: JsonOption = False) -> None:
    """List the keys, newest first, those that ended among them."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = list(client.keys.list(limit=limit))
    session.show({"items": found}, lambda: key_table(found))


@app.command("rotate", epilog=examples("assay keys rotate ci", "assay keys rotate ci --grace 3600"))
def rotate(
    context: typer.Context,
    key: KeyArgument,
    grace: Annotated[
        int, typer.Option(help="Seconds for which the old secret is accepted, too.", min=0, max=86_400)
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Give a key a new secret and show it, this once."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        issued = client.keys.rotate(key, grace_seconds=grace)
    session.show(issued, lambda: issued_card(issued))
    session.say(_SHOWN_ONCE)


@app.command("revoke", epilog=examples("assay keys revoke ci"))
def revoke(context: typer.Context, key: KeyArgument) -> None:
    """Revoke a key for good; it is refused within seconds."""
    session = session_of(context)
    with connected(session) as client:
        revoked = client.keys.revoke(key)
    session.say(f"revoked {revoked.name} ({revoked.prefix})")


def whoami(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show whose key is in use, and what it may do."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        me = client.keys.me()
    session.show(me, lambda: me_card(me))


def _end(text: str, *, now: datetime) -> datetime:
    """The moment that ``--expires`` names; a date without a time zone is UTC. Raises RequestRefused."""
    if match := re.fullmatch(r"(\d{1,5})([hdw])", text):
        return now + int(match[1]) * _UNITS[match[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RequestRefused(
            f"--expires {text!r}: write 12h, 90d, 4w, or a date such as 2027-01-31"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)

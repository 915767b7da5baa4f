"""API keys as text."""

from collections.abc import Iterable

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from assay.models import ApiKey, IssuedKey, Me
from assay.rendering.text import Heading, clean, fields, moment, table

_STYLES = {"active": "green", "expired": "yellow", "revoked": "red"}


def key_table(keys: Iterable[ApiKey]) -> Table:
    """Keys, one a line."""
    rows = (
        (
            key.name,
            key.role,
            Text(key.state, style=_STYLES.get(key.state, "")),
            key.prefix,
            moment(key.expires_at) if key.expires_at else "never",
            moment(key.last_used_at) if key.last_used_at else "never",
            key.created_by,
            key.id,
        )
        for key in keys
    )
    headings = (
        Heading("key"),
        Heading("role"),
        Heading("state"),
        Heading("begins with"),
        Heading("expires (UTC)"),
        Heading("last used (UTC)"),
        Heading("created by"),
        Heading("id", style="dim"),
    )
    return table(headings, rows)


def issued_card(key: IssuedKey) -> RenderableType:
    """A key whose secret is shown this once."""
    lines: list[tuple[str, str | Text]] = [
        ("key", clean(key.name)),
        ("role", key.role),
        ("expires", moment(key.expires_at) if key.expires_at else "never"),
        ("secret", Text(key.secret, style="bold")),
    ]
    return fields(lines)


def me_card(me: Me) -> RenderableType:
    """Who the caller is."""
    return fields(
        [
            ("client", clean(me.client)),
            ("role", me.role),
            ("key", me.key_prefix or "that of the platform's settings"),
            ("expires", moment(me.expires_at) if me.expires_at else "never"),
        ]
    )

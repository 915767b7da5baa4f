"""``assay dataset rows``, ``snapshots``, ``stats`` and ``diff``: what is in a dataset."""

from enum import StrEnum
from itertools import islice
from typing import Annotated

import typer

from assay.cli.listings import LimitOption
from assay.cli.session import JsonOption, connected, examples, session_of
from assay.client import AssayClient
from assay.errors import RequestRefused
from assay.models import Snapshot
from assay.rendering.datasets import difference_report, row_table, snapshot_table, statistics_report

DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="Name or id.", show_default=False)]
SnapshotOption = Annotated[
    str | None, typer.Option(help="Id of a snapshot of the dataset.", show_default="the current one")
]


class Change(StrEnum):
    """How rows of two snapshots may differ."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


def snapshot_of(client: AssayClient, dataset: str, snapshot: str | None = None) -> Snapshot:
    """The snapshot of that id, or the dataset's current one. Raises RequestRefused where it has none."""
    found = client.datasets.get(dataset)
    if snapshot is not None:
        named = client.datasets.snapshot(snapshot)
        if named.dataset_id != found.id:
            raise RequestRefused(
                f"{snapshot} is no snapshot of {found.name}: assay dataset snapshots {dataset}"
            )
        return named
    if found.current_snapshot is None:
        raise RequestRefused(
            f"{found.name} has no rows yet: assay dataset upload {found.name} FILE.jsonl, "
            f"or assay dataset import {found.name} REPOSITORY --split SPLIT"
        )
    return found.current_snapshot


def rows(
    context: typer.Context,
    dataset: DatasetArgument,
    offset: Annotated[int, typer.Option(help="First row, counted from 0.", min=0)] = 0,
    limit: LimitOption = 20,
    snapshot: SnapshotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show rows of a dataset."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        page = client.datasets.rows(snapshot_of(client, dataset, snapshot).id, offset=offset, limit=limit)
    session.show(page, lambda: row_table(page.items))


def snapshots(
    context: typer.Context, dataset: DatasetArgument, limit: LimitOption = 50, as_json: JsonOption = False
) -> None:
    """List the snapshots of a dataset, newest first."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = list(client.datasets.snapshots(dataset, limit=limit))
    session.show({"items": found}, lambda: snapshot_table(found))


def stats(
    context: typer.Context,
    dataset: DatasetArgument,
    snapshot: SnapshotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show rows, bytes, missing values, lengths and duplicates."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = client.datasets.statistics(snapshot_of(client, dataset, snapshot).id)
    session.show(found, lambda: statistics_report(found))


def diff(
    context: typer.Context,
    dataset: DatasetArgument,
    old: Annotated[
        str | None, typer.Option(help="The older snapshot.", show_default="the one before the newer")
    ] = None,
    new: Annotated[
        str | None, typer.Option(help="The newer snapshot.", show_default="the current one")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Column that says which rows belong together.", show_default="whole rows"),
    ] = None,
    change: Annotated[Change | None, typer.Option(help="Only such rows.", show_default=False)] = None,
    offset: Annotated[int, typer.Option(help="First of these rows, counted from 0.", min=0)] = 0,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Show what a dataset's newest rows changed: rows added, removed, and with --key changed."""
    session = session_of(context, as_json=as_json)
    if change is Change.CHANGED and key is None:
        raise RequestRefused(
            "--change changed needs --key: without it every changed row is one removed, one added"
        )
    with connected(session) as client:
        newer = snapshot_of(client, dataset, new)
        older = old or _before(client, newer)
        found = client.datasets.difference(
            newer.id, against=older, key=key, change=change, offset=offset, limit=limit
        )
    session.show(found, lambda: difference_report(found, old=older, new=newer.id))


def add_commands(app: typer.Typer) -> None:
    """Add the commands to those of datasets."""
    app.command("rows")(rows)
    app.command("snapshots")(snapshots)
    app.command("stats", epilog=examples("assay dataset stats capitals"))(stats)
    app.command(
        "diff",
        epilog=examples(
            "assay dataset diff capitals",
            "assay dataset diff capitals --key id --change changed",
        ),
    )(diff)


def _before(client: AssayClient, snapshot: Snapshot) -> str:
    """The newest snapshot of the same dataset and role that is older. Raises RequestRefused without one."""
    older = (
        other.id
        for other in client.datasets.snapshots(snapshot.dataset_id)
        if other.id < snapshot.id and other.role == snapshot.role
    )
    found = next(islice(older, 1), None)
    if found is None:
        raise RequestRefused("there is no older snapshot to compare with; name one with --old")
    return found

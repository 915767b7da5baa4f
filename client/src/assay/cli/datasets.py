"""``assay dataset``."""

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.session import JsonOption, Session, connected, examples, session_of
from assay.client import AssayClient
from assay.errors import RequestRefused
from assay.models import Snapshot
from assay.progress import UploadProgress
from assay.rendering.listings import dataset_card, dataset_table, row_table, snapshot_card

app = typer.Typer(help="Datasets: named rows to evaluate on.", no_args_is_help=True)

DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="Name or id.", show_default=False)]
SplitOption = Annotated[str, typer.Option(help="Which split the rows are: test, train, ...")]
LimitOption = Annotated[int, typer.Option(help="At most this many.", min=1)]


@app.command(
    "create",
    epilog=examples(
        "assay dataset create capitals",
        "assay dataset create capitals --file capitals.jsonl",
        "assay dataset create gsm8k-train --file train.jsonl --split train",
    ),
)
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the new dataset.", show_default=False)],
    file: Annotated[Path | None, typer.Option(help="JSONL file to upload at once.")] = None,
    split: SplitOption = "test",
    version: Annotated[str, typer.Option(help="Version of the dataset.")] = "main",
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Register a dataset, with or without its rows."""
    session = session_of(context, as_json=as_json)
    if file is not None and not file.is_file():
        raise RequestRefused(f"{file} is no file")
    with connected(session) as client:
        dataset = client.datasets.create(name, version=version, description=description)
        if file is not None:
            _send(client, session, dataset.id, file, split)
            dataset = client.datasets.get(dataset.id)
        session.show(dataset, lambda: dataset_card(dataset))


@app.command("list")
def list_datasets(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(help="Only the ones with this name.")] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List datasets, newest first."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = list(client.datasets.list(name=name, limit=limit))
    session.show({"items": found}, lambda: dataset_table(found))


@app.command("show")
def show(context: typer.Context, dataset: DatasetArgument, as_json: JsonOption = False) -> None:
    """Show a dataset with the columns of its current snapshot."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = client.datasets.get(dataset)
    session.show(found, lambda: dataset_card(found))


@app.command(
    "upload",
    epilog=examples(
        "assay dataset upload capitals capitals.jsonl",
        "assay dataset upload gsm8k-train train.jsonl --split train",
    ),
)
def upload(
    context: typer.Context,
    dataset: DatasetArgument,
    file: Annotated[Path, typer.Argument(help="JSONL file: one JSON object a line.", show_default=False)],
    split: SplitOption = "test",
    as_json: JsonOption = False,
) -> None:
    """Give a dataset new rows. If a line is wrong, nothing changes and every wrong line is named."""
    session = session_of(context, as_json=as_json)
    if not file.is_file():
        raise RequestRefused(f"{file} is no file")
    with connected(session) as client:
        snapshot = _send(client, session, dataset, file, split)
    session.show(snapshot, lambda: snapshot_card(snapshot))


@app.command("rows")
def rows(
    context: typer.Context,
    dataset: DatasetArgument,
    offset: Annotated[int, typer.Option(help="First row, counted from 0.", min=0)] = 0,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Show rows of a dataset."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = client.datasets.get(dataset)
        if found.current_snapshot is None:
            raise RequestRefused(
                f"{found.name} has no rows yet: assay dataset upload {found.name} FILE.jsonl"
            )
        page = client.datasets.rows(found.current_snapshot.id, offset=offset, limit=limit)
    session.show(page, lambda: row_table(page.items))


def _send(client: AssayClient, session: Session, dataset: str, file: Path, split: str) -> Snapshot:
    with UploadProgress(session.messages, label=file.name, total=file.stat().st_size) as progress:
        return client.datasets.upload(dataset, file, split=split, on_bytes=progress)

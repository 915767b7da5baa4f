"""``assay dataset``: the entries of the registry, and how rows get in and out."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from assay.cli import ingests, snapshots
from assay.cli.listings import add_list_and_show
from assay.cli.session import JsonOption, Session, confirmed, connected, examples, session_of
from assay.cli.snapshots import DatasetArgument, SnapshotOption, snapshot_of
from assay.client import AssayClient
from assay.errors import RequestRefused
from assay.models import Snapshot
from assay.progress import TransferProgress
from assay.rendering.datasets import dataset_card, dataset_table, snapshot_card

app = typer.Typer(help="Datasets: named rows to evaluate on.", no_args_is_help=True)

SplitOption = Annotated[str, typer.Option(help="Which split the rows are: test, train, ...")]


class FileFormat(StrEnum):
    """Formats of a download."""

    JSONL = "jsonl"
    PARQUET = "parquet"


@app.command(
    "create",
    epilog=examples(
        "assay dataset create capitals",
        "assay dataset create capitals --file capitals.jsonl",
        "assay dataset create gsm8k-train --file train.jsonl.zst --split train",
    ),
)
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the new dataset.", show_default=False)],
    file: Annotated[
        Path | None, typer.Option(help="JSONL file to upload at once; .gz or .zst too.", show_default=False)
    ] = None,
    split: SplitOption = "test",
    version: Annotated[str, typer.Option(help="Version of the dataset.")] = "main",
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Register a dataset, with or without its rows."""
    session = session_of(context, as_json=as_json)
    _check_file(file)
    with connected(session) as client:
        dataset = client.datasets.create(name, version=version, description=description)
        if file is not None:
            _send(client, session, dataset.id, file, split)
            dataset = client.datasets.get(dataset.id)
        session.show(dataset, lambda: dataset_card(dataset))


app.command("import", epilog=ingests.IMPORT_EXAMPLES)(ingests.import_dataset)


@app.command(
    "upload",
    epilog=examples(
        "assay dataset upload capitals capitals.jsonl",
        "assay dataset upload gsm8k-train train.jsonl.zst --split train",
    ),
)
def upload(
    context: typer.Context,
    dataset: DatasetArgument,
    file: Annotated[
        Path,
        typer.Argument(help="JSONL file, one JSON object a line; may be .gz or .zst.", show_default=False),
    ],
    split: SplitOption = "test",
    as_json: JsonOption = False,
) -> None:
    """Give a dataset new rows. If a line is wrong, nothing changes and every wrong line is named."""
    session = session_of(context, as_json=as_json)
    _check_file(file)
    with connected(session) as client:
        snapshot = _send(client, session, dataset, file, split)
    session.show(snapshot, lambda: snapshot_card(snapshot))


add_list_and_show(
    app,
    lambda client: client.datasets,
    table=dataset_table,
    card=dataset_card,
    kind="dataset",
    shown="a dataset with the columns of its current snapshot",
)
snapshots.add_commands(app)


@app.command(
    "download",
    epilog=examples(
        "assay dataset download capitals",
        "assay dataset download capitals --format parquet --output rows.parquet",
    ),
)
def download(
    context: typer.Context,
    dataset: DatasetArgument,
    file_format: Annotated[
        FileFormat, typer.Option("--format", help="Format of the file.")
    ] = FileFormat.JSONL,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write.", show_default="DATASET.FORMAT")
    ] = None,
    snapshot: SnapshotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the rows of a dataset to a file; a file that is there is not overwritten."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = snapshot_of(client, dataset, snapshot)
        path = output or Path(f"{dataset}.{file_format}")
        written = _receive(client, session, found, path, file_format=file_format)
    document = {"snapshot_id": found.id, "path": str(path), "bytes": written}
    session.show(document, lambda: f"{path}: {found.rows} rows of {found.id}")


@app.command(
    "delete", epilog=examples("assay dataset delete capitals", "assay dataset delete capitals --yes")
)
def delete(
    context: typer.Context,
    dataset: DatasetArgument,
    snapshot: Annotated[
        str | None, typer.Option(help="Delete only this snapshot.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a dataset with all its snapshots, or one snapshot; refused while a run refers to it."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = client.datasets.get(dataset)
        what = f"snapshot {snapshot}" if snapshot else f"dataset {found.name} with all its snapshots"
        if not yes and not confirmed(f"Delete {what}?", otherwise="--yes"):
            session.say("Nothing was deleted.")
            return
        if snapshot:
            client.datasets.delete_snapshot(snapshot)
        else:
            client.datasets.delete(found.id)
    session.show({"deleted": snapshot or found.id}, lambda: f"{what}: deleted")


app.add_typer(ingests.app, name="ingest")


def _check_file(file: Path | None) -> None:
    if file is not None and not file.is_file():
        raise RequestRefused(f"{file} is no file")


def _send(client: AssayClient, session: Session, dataset: str, file: Path, split: str) -> Snapshot:
    size = file.stat().st_size
    with TransferProgress(session.messages, label=file.name, total=size, verb="sending") as progress:
        return client.datasets.upload(dataset, file, split=split, on_bytes=progress)


def _receive(
    client: AssayClient, session: Session, snapshot: Snapshot, path: Path, *, file_format: FileFormat
) -> int:
    """Write the file and return its size; what is there only in part is removed again."""
    try:
        file = path.open("xb")
    except FileExistsError:
        raise RequestRefused(f"{path} is there already; name another file with --output") from None
    except OSError as error:
        raise RequestRefused(f"{path} cannot be written: {error.strerror}") from error
    total = snapshot.bytes if file_format is FileFormat.PARQUET else None
    try:
        with (
            file,
            TransferProgress(session.messages, label=path.name, total=total, verb="reading") as progress,
        ):
            client.datasets.download(snapshot.id, file, file_format=file_format, on_bytes=progress)
            return file.tell()
    except BaseException:
        path.unlink(missing_ok=True)
        raise

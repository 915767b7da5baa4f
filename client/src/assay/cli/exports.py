"""``assay run export``."""

import tempfile
import zipfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from assay.cli.downloads import save_download
from assay.cli.session import JsonOption, Session, connected, session_of
from assay.client import AssayClient
from assay.errors import PlatformFailed, RequestRefused

LM_EVAL_ARCHIVE = "lm-eval.zip"


class ExportFormat(StrEnum):
    """What a run is written as."""

    LM_EVAL = "lm-eval"
    CSV = "csv"
    PARQUET = "parquet"


def export(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name or id.", show_default=False)],
    to: Annotated[
        Path,
        typer.Option(
            help="File to write; for lm-eval a directory, or a file that ends in .zip.", show_default=False
        ),
    ],
    export_format: Annotated[
        ExportFormat,
        typer.Option(
            "--format", help="lm-eval: its results and samples files; csv or parquet: a row per sample."
        ),
    ] = ExportFormat.LM_EVAL,
    as_json: JsonOption = False,
) -> None:
    """Write the scores and samples of a finished run in a form that other tools read."""
    session = session_of(context, as_json=as_json)
    if export_format is ExportFormat.LM_EVAL and to.exists() and not to.is_dir() and to.suffix != ".zip":
        raise RequestRefused(f"{to} is a file; name a directory, or a file that ends in .zip")
    with connected(session) as client:
        run_id = client.runs.get(run).id
        if export_format is ExportFormat.LM_EVAL and to.suffix != ".zip":
            written = _unpacked(client, session, run_id, to)
        else:
            name = LM_EVAL_ARCHIVE if export_format is ExportFormat.LM_EVAL else f"samples.{export_format}"
            save_download(session, to, lambda file: client.runs.export(run_id, file, export=name))
            written = [to]
    document: dict[str, Any] = {"run_id": run_id, "files": [str(path) for path in written]}
    if session.as_json:
        session.show(document, lambda: Text(""))


def _unpacked(client: AssayClient, session: Session, run_id: str, directory: Path) -> list[Path]:
    """Write lm-eval's files into ``directory``."""
    with tempfile.TemporaryFile() as archive:
        client.runs.export(run_id, archive, export=LM_EVAL_ARCHIVE)
        try:
            with zipfile.ZipFile(archive) as files:
                names = [name for name in files.namelist() if not name.endswith("/")]
                directory.mkdir(parents=True, exist_ok=True)
                written = [Path(files.extract(name, directory)) for name in names]
        except zipfile.BadZipFile as error:
            raise PlatformFailed(f"the export of {run_id} is no zip file: {error}") from error
        except OSError as error:
            raise RequestRefused(f"{directory} cannot be written: {error.strerror}") from error
    for path in written:
        session.say(str(path))
    return written

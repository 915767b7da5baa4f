"""``assay dataset import`` and ``assay dataset ingest``: data of the Hugging Face Hub."""

from typing import Annotated

import typer

from assay.cli.session import JsonOption, Session, connected, examples, session_of
from assay.client import AssayClient
from assay.errors import NotFound, RunDisappointed
from assay.models import Dataset, Ingest
from assay.progress import IngestBar
from assay.rendering.datasets import dataset_card, ingest_card, ingest_table
from assay.resources.named import is_id

app = typer.Typer(help="Imports of a dataset: what runs, and how it ended.", no_args_is_help=True)

IMPORT_EXAMPLES = examples(
    "assay dataset import gsm8k openai/gsm8k --subset main --split test --fewshot-split train",
    "assay dataset import questions owner/questions --split train --revision v1.2 --no-wait",
)

IngestArgument = Annotated[
    str, typer.Argument(metavar="INGEST", help="Id; `assay dataset ingest list` has it.", show_default=False)
]


def import_dataset(
    context: typer.Context,
    dataset: Annotated[
        str,
        typer.Argument(help="Name or id of the dataset; created if there is none.", show_default=False),
    ],
    repository: Annotated[
        str, typer.Argument(help="Repository on the Hugging Face Hub: owner/name.", show_default=False)
    ],
    split: Annotated[str, typer.Option(help="Split to evaluate on.")] = "test",
    subset: Annotated[
        str | None, typer.Option(help="Subset (configuration).", show_default="the only or default one")
    ] = None,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit.")] = "main",
    fewshot_split: Annotated[
        str | None,
        typer.Option(help="Split for few-shot examples, imported with it.", show_default=False),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Import a split of a Hugging Face dataset. The rows that were there stay until it has succeeded."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        target = _dataset(client, session, dataset)
        job = client.ingests.start(
            target.id,
            repository,
            split=split,
            subset=subset,
            revision=revision,
            fewshot_split=fewshot_split,
        )
        if not wait:
            session.show(job, lambda: ingest_card(job))
            session.say(f"Follow it with: assay dataset ingest watch {job.id}")
            return
        wait_for_ingest(client, session, job, label=repository)
        ready = client.datasets.get(target.id)
    session.show(ready, lambda: dataset_card(ready))


@app.command("list")
def list_ingests(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Name or id.", show_default=False)],
    limit: Annotated[int, typer.Option(help="At most this many.", min=1)] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the imports of a dataset, newest first."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = list(client.ingests.list(dataset, limit=limit))
    session.show({"items": found}, lambda: ingest_table(found))


@app.command("show")
def show(context: typer.Context, ingest: IngestArgument, as_json: JsonOption = False) -> None:
    """Show an import: how far it is, or how it ended."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = client.ingests.get(ingest)
    session.show(found, lambda: ingest_card(found))


@app.command("watch")
def watch(context: typer.Context, ingest: IngestArgument, as_json: JsonOption = False) -> None:
    """Watch an import until it is over."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        job = client.ingests.get(ingest)
        label = str(job.source.get("repo_id", job.id))
        ended = wait_for_ingest(client, session, job, label=label)
    session.show(ended, lambda: ingest_card(ended))


@app.command("cancel")
def cancel(context: typer.Context, ingest: IngestArgument, as_json: JsonOption = False) -> None:
    """Cancel an import; the dataset keeps the rows that it had."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = client.ingests.cancel(ingest)
    session.show(found, lambda: ingest_card(found))


def wait_for_ingest(client: AssayClient, session: Session, job: Ingest, *, label: str) -> Ingest:
    """Wait with a progress bar. Raises RunDisappointed unless it succeeds; Ctrl-C leaves it going."""
    try:
        with IngestBar(session.messages, label=label) as progress:
            ended = client.wait_ingest(job.id, progress)
    except KeyboardInterrupt:
        session.say(
            f"Stopped watching. The import goes on: `assay dataset ingest watch {job.id}` shows it again, "
            f"`assay dataset ingest cancel {job.id}` ends it."
        )
        raise
    if ended.state != "Succeeded":
        raise RunDisappointed(f"import {ended.id} is {ended.state}{_reason(ended)}")
    return ended


def _reason(job: Ingest) -> str:
    if job.error is None:
        return ""
    hints = "".join(f"\n  {hint}" for hint in job.error.advice)
    return f": {job.error.code}: {job.error.message}{hints}"


def _dataset(client: AssayClient, session: Session, reference: str) -> Dataset:
    """The dataset; a new one where none has the name."""
    try:
        return client.datasets.get(reference)
    except NotFound:
        if is_id(reference, prefix="ds"):
            raise
    created = client.datasets.create(reference)
    session.say(f"dataset {created.name}: created")
    return created

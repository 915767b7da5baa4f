"""``assay artifact``."""

from typing import Annotated

import typer

from assay.cli.listings import add_list_and_show
from assay.cli.session import JsonOption, assignments, connected, examples, session_of
from assay.rendering.artifacts import artifact_card, artifact_table, backend_table

app = typer.Typer(help="Artifacts: models in the form that a backend serves.", no_args_is_help=True)


@app.command(
    "create",
    epilog=examples(
        "assay artifact create base --model SmolLM2-135M --backend cpu --uri file:///models/base.gguf",
        "assay artifact create small --model SmolLM2-135M --backend cpu --uri file:///models/base.gguf "
        "--parameter requantize=Q4_0",
    ),
)
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the new artifact.", show_default=False)],
    model: Annotated[str, typer.Option(help="Model id, as people know it.", show_default=False)],
    backend: Annotated[str, typer.Option(help="cpu, gpu or rngd.", show_default=False)],
    uri: Annotated[str, typer.Option(help="Where the backend's adapter finds it.", show_default=False)],
    artifact_format: Annotated[str, typer.Option("--format", help="Format of the files.")] = "gguf",
    sha256: Annotated[str | None, typer.Option(help="Digest to check before serving.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of the model.")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(help="Serving parameter NAME=VALUE; `assay artifact backends` lists them. Repeatable."),
    ] = None,
    description: Annotated[str, typer.Option(help="What it is.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Register a model for one backend."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        artifact = client.artifacts.create(
            name,
            model=model,
            backend=backend,
            uri=uri,
            artifact_format=artifact_format,
            sha256=sha256,
            revision=revision,
            serving_parameters=assignments(parameter or (), option="--parameter"),
            description=description,
        )
    session.show(artifact, lambda: artifact_card(artifact))


add_list_and_show(
    app,
    lambda client: client.artifacts,
    table=artifact_table,
    card=artifact_card,
    kind="artifact",
    shown="an artifact",
)


@app.command("backends")
def backends(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the serving adapters, whether they answer, and what they take."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = list(client.backends.list())
    session.show({"items": found}, lambda: backend_table(found))

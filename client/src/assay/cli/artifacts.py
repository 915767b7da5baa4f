"""``assay artifact``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from assay.cli.listings import add_list_and_show
from assay.cli.session import JsonOption, assignments, connected, examples, session_of
from assay.errors import RequestRefused
from assay.rendering.artifacts import artifact_card, artifact_table, backend_table
from assay.settings import read_environment

EndpointKeyOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="File with the secret of an endpoint, - for standard input. It is no option's value, which "
        "others could read.",
        show_default="ASSAY_ENDPOINT_KEY",
    ),
]

app = typer.Typer(help="Artifacts: models in the form that a backend serves.", no_args_is_help=True)


@app.command(
    "create",
    epilog=examples(
        "assay artifact create base --model SmolLM2-135M --backend cpu --uri file:///models/base.gguf",
        "assay artifact create small --model SmolLM2-135M --backend cpu --uri file:///models/base.gguf "
        "--parameter requantize=Q4_0",
        "assay artifact create base --model Llama-3.1-8B --backend gpu --format hf "
        "--uri hf://meta-llama/Llama-3.1-8B-Instruct --revision main",
        "assay artifact create theirs --model Llama-3.1-8B --backend gpu --format endpoint "
        "--uri https://models.example.com/v1 --endpoint-key-file key.txt",
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
        typer.Option(help="Serving parameter NAME=VALUE; `assay backends` lists them. Repeatable."),
    ] = None,
    endpoint_key_file: EndpointKeyOption = None,
    description: Annotated[str, typer.Option(help="What it is.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Register a model for one backend."""
    session = session_of(context, as_json=as_json)
    wants_key = endpoint_key_file is not None or artifact_format == "endpoint"
    endpoint_key = _endpoint_key(endpoint_key_file) if wants_key else None
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
            endpoint_key=endpoint_key,
            description=description,
        )
    session.show(artifact, lambda: artifact_card(artifact))


@app.command(
    "set-key",
    epilog=examples(
        "assay artifact set-key theirs --endpoint-key-file key.txt",
        "pass show endpoint | assay artifact set-key theirs --endpoint-key-file -",
    ),
)
def set_key(
    context: typer.Context,
    artifact: Annotated[str, typer.Argument(metavar="ARTIFACT", help="Name or id.", show_default=False)],
    endpoint_key_file: EndpointKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace the key of an artifact that is an endpoint; instances that start from now on use it."""
    session = session_of(context, as_json=as_json)
    key = _endpoint_key(endpoint_key_file)
    if key is None:
        raise RequestRefused("no key: give --endpoint-key-file FILE (or -), or set ASSAY_ENDPOINT_KEY")
    with connected(session) as client:
        found = client.artifacts.set_key(artifact, key)
    session.show(found, lambda: artifact_card(found))


def _endpoint_key(file: str | None) -> str | None:
    """The key in a file, on standard input, or in the environment. Raises RequestRefused."""
    if file is None:
        return read_environment().endpoint_key
    try:
        if file != "-":
            text = Path(file).read_text()
        elif sys.stdin.isatty():
            text = typer.prompt("Endpoint key", hide_input=True, err=True)
        else:
            text = sys.stdin.read()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestRefused(f"--endpoint-key-file {file}: {error}") from error
    if not text.strip():
        raise RequestRefused(f"--endpoint-key-file {file}: there is no key in it")
    return text.strip()


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
    """List the serving adapters: whether they answer, what they take and refuse, devices and sensors."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = list(client.backends.list())
    session.show({"items": found}, lambda: backend_table(found))

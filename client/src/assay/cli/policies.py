"""``assay policy``."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from assay.cli.listings import LimitOption
from assay.cli.session import JsonOption, connected, examples, session_of
from assay.files import read_mapping
from assay.rendering.decision import policy_card, policy_table

app = typer.Typer(
    help="Policies: what must be shown before a candidate may replace its base.", no_args_is_help=True
)


@app.command(
    "create", epilog=examples("assay policy example > policy.yaml", "assay policy create policy.yaml")
)
def create(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Policy as .yaml, .yml or .json.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Store a policy; where its name exists, as a new version. Versions never change."""
    session = session_of(context, as_json=as_json)
    content = read_mapping(file)
    with connected(session) as client:
        policy = client.policies.create(content)
    session.show(policy, lambda: policy_card(policy))


@app.command("list")
def list_policies(context: typer.Context, limit: LimitOption = 50, as_json: JsonOption = False) -> None:
    """List policies, each in its newest version."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = list(client.policies.list(limit=limit))
    session.show({"items": found}, lambda: policy_table(found))


@app.command("versions", epilog=examples("assay policy versions default"))
def versions(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the policy.", show_default=False)],
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List the versions of a policy, newest first."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = list(client.policies.versions(name, limit=limit))
    session.show({"items": found}, lambda: policy_table(found))


@app.command("show", epilog=examples("assay policy show default", "assay policy show default@1"))
def show(
    context: typer.Context,
    policy: Annotated[
        str, typer.Argument(metavar="NAME[@VERSION]", help="Name, NAME@VERSION, or id.", show_default=False)
    ],
    as_json: JsonOption = False,
) -> None:
    """Show a policy with all its rules."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = client.policies.get(policy)
    session.show(found, lambda: policy_card(found))


@app.command("example", epilog=examples("assay policy example > policy.yaml"))
def example() -> None:
    """Print a policy with comments, to start from."""
    print((files("assay") / "policy_example.yaml").read_text(encoding="utf-8"), end="")

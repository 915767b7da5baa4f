"""``assay verify``: checks that need no platform."""

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.session import JsonOption, examples, session_of
from assay.errors import RequestRefused
from assay.rendering.verification import verification_document, verification_report

ALTERED = 1
EXAMPLES = "\n".join(
    (
        examples(
            "assay verify bundle evidence.zip",
            "assay verify bundle evidence.zip --digest SHA256_OF_THE_DECISION",
        ),
        "Exit codes:",
        "  0  verified",
        "  1  altered, or its verdict does not follow from its evidence",
        "  2  wrong usage, or no such file",
    )
)

app = typer.Typer(help="Check evidence on this machine, without a platform.", no_args_is_help=True)


@app.callback()
def verify() -> None:
    """Check evidence on this machine, without a platform."""


@app.command("bundle", epilog=EXAMPLES)
def bundle(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Evidence bundle of a decision.", show_default=False)],
    digest: Annotated[
        str | None,
        typer.Option(
            help="Digest that the decision names; only with it is the bundle known to be that decision's.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every byte of a bundle and compute its comparison and verdict again, offline."""
    session = session_of(context, as_json=as_json)
    if not file.is_file():
        raise RequestRefused(f"{file} is no file")
    # Statistics take longer to load than most commands take to run.
    from assay_evidence.bundle import verify_bundle

    found = verify_bundle(file, expected_digest=None if digest is None else digest.removeprefix("sha256:"))
    session.show(verification_document(found), lambda: verification_report(found))
    if not found.ok:
        raise typer.Exit(ALTERED)

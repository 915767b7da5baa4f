"""The codes of reasons and findings are an interface: docs/decisions.md has them all."""

import ast
import re
from pathlib import Path

import pytest

import assay_evidence

PACKAGE = Path(assay_evidence.__file__).parent
DOCUMENT = Path(__file__).parents[3] / "docs" / "decisions.md"
CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")
SOURCES = ["decision", "validity", "comparison", "quality.py", "noise.py", "workload.py"]
NO_CODES = {"cluster-robust"}


def codes() -> set[str]:
    """Every text in the sources that looks like a code; of f-strings the ones that they can become."""
    found = {f"failed-samples-{side}" for side in ("baseline", "candidate")}
    for source in SOURCES:
        path = PACKAGE / source
        for file in [path] if path.is_file() else path.glob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found |= {node.value} if CODE.fullmatch(node.value) else set()
    return found - NO_CODES


@pytest.mark.skipif(not DOCUMENT.is_file(), reason="the documents are not beside the library")
def test_every_code_is_in_the_document() -> None:
    documented = set(re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)+)`", DOCUMENT.read_text()))
    assert len(codes()) > 40
    assert sorted(codes() - documented) == []


@pytest.mark.skipif(not DOCUMENT.is_file(), reason="the documents are not beside the library")
def test_every_code_of_the_table_exists() -> None:
    table = DOCUMENT.read_text().partition("## Reason codes")[2].partition("## Exit codes")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {code for row in rows for code in re.findall(r"`([^`]+)`", row)}
    # These two have no hyphen.
    assert sorted(named - codes() - {"inferior", "equivalent", "untestable"}) == []

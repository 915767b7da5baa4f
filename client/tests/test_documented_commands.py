"""Commands that the documents name exist, with the options that they name."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from assay.cli.application import app

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "docs" / "examples" / "ci-decision.yml"
DOCUMENTS = (ROOT / "README.md", WORKFLOW, *sorted((ROOT / "docs").glob("*.md")))
CONTROL = {"|", "||", "&&", ";", ">", ">>", "&"}


def commands(path: Path) -> Iterator[str]:
    """Every command line of a document: of its blocks of code, its scripts, and its inline code."""
    text = path.read_text()
    if path.suffix == ".yml":
        steps = yaml.safe_load(text)["jobs"]["decide"]["steps"]
        blocks = [step["run"] for step in steps if "run" in step]
    else:
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
        blocks += re.findall(r"`(assay [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.M))
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"\s*assay\s", line) and "-->" not in line:
                yield line.strip()


DOCUMENTED = [
    pytest.param(line, id=f"{path.name}: {line[:60]}") for path in DOCUMENTS for line in commands(path)
]


def words_of(line: str) -> list[str]:
    """The arguments of a command line, up to what the shell makes of the rest."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";<>|&")
    lexer.whitespace_split = True
    words = list(lexer)[1:]
    end = next((place for place, word in enumerate(words) if word in CONTROL), len(words))
    return words[:end]


def test_documents_name_commands() -> None:
    assert len(DOCUMENTED) > 20


@pytest.mark.parametrize("line", DOCUMENTED)
def test_the_command_has_its_options(line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = words_of(line)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    if not hasattr(command, "commands"):
        known = {name for parameter in command.params for name in parameter.opts} | {"--help", "-h"}
        named = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert named <= known, f"{sorted(named - known)} of {line!r}"
    else:
        assert words == [] or words[0].startswith("--"), f"there is no command {words[0]!r} in {line!r}"


def test_the_workflow_ends_with_the_verdict() -> None:
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["decide"]["steps"]
    verdict = steps[-1]["run"]
    assert [int(code) for code in re.findall(r"exit (\d)", verdict)] == [1, 2, 3]
    assert verdict.index("0) echo") < verdict.index("*) echo")

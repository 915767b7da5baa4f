"""The files of others that the pages load: they are what their list says, and the list is whole."""

import hashlib
import re
from dataclasses import dataclass

import pytest

from assay_console.pages import STATIC

VENDOR = STATIC / "vendor"


@dataclass(frozen=True, slots=True)
class Listed:
    """A row of the list."""

    package: str
    version: str
    licence: str
    file: str
    digest: str


def _listed() -> list[Listed]:
    rows = []
    for line in (VENDOR / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and re.fullmatch(r"[0-9a-f]{64}", cells[5]):
            rows.append(Listed(cells[0], cells[1], cells[2], cells[4], cells[5]))
    return rows


def test_the_list_has_rows() -> None:
    assert len(_listed()) >= 7


@pytest.mark.parametrize("listed", _listed(), ids=lambda listed: listed.file)
def test_a_file_is_what_was_taken(listed: Listed) -> None:
    assert hashlib.sha256((VENDOR / listed.file).read_bytes()).hexdigest() == listed.digest
    assert listed.version in listed.file


@pytest.mark.parametrize("listed", _listed(), ids=lambda listed: listed.file)
def test_its_licence_lies_beside_it(listed: Listed) -> None:
    licence = VENDOR / f"LICENSE-{listed.package}-{listed.version}.txt"
    assert licence.read_text(encoding="utf-8").strip()


def test_nothing_lies_there_that_is_not_listed() -> None:
    known = {"README.md"} | {listed.file for listed in _listed()}
    known |= {f"LICENSE-{listed.package}-{listed.version}.txt" for listed in _listed()}
    assert {path.name for path in VENDOR.iterdir()} == known


@pytest.mark.parametrize("listed", _listed(), ids=lambda listed: listed.file)
def test_a_file_asks_for_no_other(listed: Listed) -> None:
    # A source map would be a request for a file that is not there.
    assert "sourceMappingURL" not in (VENDOR / listed.file).read_text(encoding="utf-8")

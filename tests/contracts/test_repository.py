"""Rules on the repository's own files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


def test_the_lock_pins_by_hash_and_names_no_index() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    pinned = re.findall(r"^[a-z0-9][a-z0-9._-]*==", text, flags=re.MULTILINE)
    assert len(pinned) > 100
    for block in re.split(r"\n(?=\S)", text.strip()):
        if not block.startswith("#"):
            assert "--hash=sha256:" in block, block.splitlines()[0]


def test_no_package_is_a_bag_of_odds_and_ends() -> None:
    forbidden = {"common", "utils", "util", "shared", "helpers", "misc"}
    for path in tracked_files():
        if path.suffix == ".py":
            assert not forbidden & {path.stem, *path.parent.parts[len(ROOT.parts) :]}, path


def test_every_internal_link_of_the_documents_leads_somewhere() -> None:
    for path in tracked_files():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}"


def test_every_benchmark_can_be_loaded() -> None:
    """What they import is there; nothing else runs them but people."""
    load = "import runpy, sys; sys.path.insert(0, 'bench'); [runpy.run_path(path) for path in sys.argv[1:]]"
    scripts = [str(path) for path in sorted((ROOT / "bench").glob("*.py"))]
    loaded = subprocess.run(
        [sys.executable, "-c", load, *scripts], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert loaded.returncode == 0, loaded.stderr

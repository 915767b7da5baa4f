"""``assay verify bundle``: offline, on a bundle of the evidence library's own making."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from assay_evidence.bundle import BundleContents, BundledRun, library_versions, write_bundle
from assay_evidence.comparison import compare
from assay_evidence.decision import judge
from assay_evidence.policy import DEFAULT_POLICY
from assay_evidence.report import ComparisonSettings
from assay_evidence.testing import Changes, Task, synthetic_run


class Made(NamedTuple):
    path: Path
    digest: str


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The bundle of a decision on two runs of 150 documents, of which the candidate loses 30."""
    directory = tmp_path_factory.mktemp("bundle")
    tasks = (Task(documents=150),)
    made = [
        synthetic_run(run_id="run_a", tasks=tasks),
        synthetic_run(run_id="run_b", tasks=tasks, changes=Changes(lost=30), seed=2),
    ]
    evidence = [run.evidence(directory) for run in made]
    settings = ComparisonSettings(bootstrap_resamples=200)
    report = compare(evidence[0], evidence[1:], settings=settings, policy=DEFAULT_POLICY).report
    baseline, candidate = (
        BundledRun(
            facts=run.facts,
            samples=directory / f"{run.facts.view_id}.samples",
            requests=directory / f"{run.facts.view_id}.requests",
        )
        for run in made
    )
    contents = BundleContents(
        baseline=baseline,
        candidate=candidate,
        policy=DEFAULT_POLICY,
        settings=settings,
        report=report,
        judgement=judge(report.candidates[0], DEFAULT_POLICY),
        versions=library_versions(),
        decision={"id": "dec_1"},
    )
    path = directory / "evidence.zip"
    with path.open("wb") as file:
        digest = write_bundle(file, contents)
    return Made(path, digest)


def test_a_bundle_verifies(assay: Any, server: Any, bundle: Made) -> None:
    outcome = assay("verify", "bundle", str(bundle.path), "--digest", f"sha256:{bundle.digest}")
    assert outcome.code == 0, outcome.out
    assert outcome.out.startswith("VERIFIED: ")
    assert ["verdict,", "recomputed", "the", "same"] in [line.split() for line in outcome.out.splitlines()]
    assert "REJECT: " in outcome.out
    assert f"sha256:{bundle.digest}" in outcome.out
    assert server.received == []
    found = assay("verify", "bundle", str(bundle.path), "--json").json()
    assert (found["verified"], found["digest"], found["problems"]) == (True, bundle.digest, [])
    assert found["recomputed"] == found["stored"]
    assert found["recomputed"]["verdict"] == "REJECT"


def test_without_the_digest_a_reader_is_told_what_is_not_known(assay: Any, bundle: Made) -> None:
    outcome = assay("verify", "bundle", str(bundle.path))
    assert outcome.code == 0
    assert "Without --digest only the bundle itself was checked" in outcome.out


def test_another_decisions_bundle_does_not_verify(assay: Any, bundle: Made) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    outcome = assay("verify", "bundle", str(bundle.path), "--digest", other)
    assert outcome.code == 1
    assert outcome.out.startswith("NOT VERIFIED")
    assert "not the bundle of that decision" in outcome.out


def test_one_altered_bit_is_found(assay: Any, bundle: Made, tmp_path: Path) -> None:
    altered = bytearray(bundle.path.read_bytes())
    altered[len(altered) // 2] ^= 1
    path = tmp_path / "altered.zip"
    path.write_bytes(altered)
    outcome = assay("verify", "bundle", str(path), "--json")
    assert outcome.code == 1
    assert outcome.json()["verified"] is False
    assert outcome.json()["problems"] != []


def test_a_verdict_that_was_written_over_is_found(assay: Any, bundle: Made, tmp_path: Path) -> None:
    path = tmp_path / "forged.zip"
    with zipfile.ZipFile(bundle.path) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "judgement.json":
                content = content.replace(b'"REJECT"', b'"ACCEPT"')
            new.writestr(name, content)
    outcome = assay("verify", "bundle", str(path))
    assert outcome.code == 1
    assert "problem: " in outcome.out


@pytest.mark.parametrize("content", [b"", b"PK", b"\x00" * 1000])
def test_what_is_no_bundle_does_not_verify(assay: Any, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "evidence.zip"
    path.write_bytes(content)
    assert assay("verify", "bundle", str(path)).code == 1


def test_no_file_is_wrong_usage(assay: Any, tmp_path: Path) -> None:
    outcome = assay("verify", "bundle", str(tmp_path / "nothing.zip"))
    assert outcome.code == 2
    assert "nothing.zip is no file" in outcome.err

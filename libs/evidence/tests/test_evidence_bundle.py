"""Bundles: the same bytes from the same contents, and no byte, and no verdict, that is altered unseen."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from assay_evidence.bundle import (
    BundleContents,
    BundledRun,
    BundleError,
    Verification,
    bundle_chunks,
    digest_of,
    library_versions,
    verify_bundle,
    write_bundle,
)
from assay_evidence.bundle.archive import Member, archive_chunks
from assay_evidence.comparison import compare
from assay_evidence.decision import Verdict, judge
from assay_evidence.policy import DEFAULT_POLICY, Policy, PolicySpec
from assay_evidence.policy import digest_of as policy_digest
from assay_evidence.report import ComparisonSettings
from assay_evidence.tables import VALUE_PREFIX, RunEvidence
from assay_evidence.testing import STRICT, Changes, Speed, SyntheticRun, Task, synthetic_run

SETTINGS = ComparisonSettings(bootstrap_resamples=200)
POLICY = Policy(
    **DEFAULT_POLICY.model_dump(),
    id="pol_1",
    version=1,
    digest=policy_digest(DEFAULT_POLICY),
    created_at="2026-01-01T00:00:00Z",
    created_by="admin",
)


def synthetic(name: str, *, documents: int, **changes: int) -> SyntheticRun:
    return synthetic_run(
        run_id=name,
        tasks=[Task(documents=documents)],
        changes=Changes(**changes),
        speed=Speed(tokens=3),
        response_chars=30,
        seed=len(name),
    )


def bundled(run: RunEvidence) -> BundledRun:
    return BundledRun(facts=run.facts, samples=run.samples, requests=run.requests_path)


def made_of(
    runs: dict[str, RunEvidence],
    *,
    policy: PolicySpec = POLICY,
    clusters: dict[int, str] | None = None,
) -> BundleContents:
    """The contents that an honest platform would write for these runs."""
    noise = runs.get("noise_floor")
    report = compare(
        runs["baseline"],
        [runs["candidate"]],
        settings=SETTINGS,
        policy=policy,
        noise_floor=noise,
        clusters=clusters,
    ).report
    return BundleContents(
        baseline=bundled(runs["baseline"]),
        candidate=bundled(runs["candidate"]),
        noise_floor=bundled(noise) if noise else None,
        policy=policy,
        settings=SETTINGS,
        report=report,
        judgement=judge(report.candidates[0], policy),
        versions=library_versions(),
        clusters=clusters,
        decision={"id": "dec_1"},
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunEvidence]:
    directory = tmp_path_factory.mktemp("runs")
    return {
        "baseline": synthetic("base", documents=400).evidence(directory / "a"),
        "candidate": synthetic("built", documents=400, gained=2, lost=2).evidence(directory / "b"),
    }


@pytest.fixture(scope="module")
def contents(runs: dict[str, RunEvidence]) -> BundleContents:
    return made_of(runs)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[BundleContents], Path]:
    def written(given: BundleContents) -> Path:
        path = tmp_path / "bundle.zip"
        with path.open("wb") as stream:
            write_bundle(stream, given)
        return path

    return written


Write = Callable[[BundleContents], Path]


def problems(found: Verification) -> list[str]:
    assert not found.ok
    assert all(problem.message for problem in found.problems)
    return [problem.code for problem in found.problems]


def test_an_honest_bundle_verifies(contents: BundleContents, write: Write) -> None:
    path = write(contents)
    digest = digest_of(contents)
    for expected in (None, digest, f" {digest.upper()}\n"):
        found = verify_bundle(path, expected_digest=expected)
        assert found.ok, found.problems
        assert found.digest == digest
        assert found.notes == []
        assert found.stored == found.recomputed == contents.judgement
        assert contents.judgement.verdict is Verdict.ACCEPT


def test_a_bundle_with_noise_floor_clusters_and_a_written_policy_verifies(
    runs: dict[str, RunEvidence], write: Write, tmp_path: Path
) -> None:
    again = synthetic_run(
        run_id="again",
        tasks=[Task(documents=400)],
        artifact="base",
        changes=Changes(gained=1, lost=1),
        seed=8,
    )
    given = made_of(
        runs | {"noise_floor": again.evidence(tmp_path / "n")},
        policy=DEFAULT_POLICY,
        clusters={row: str(row // 2) for row in range(400)},
    )
    assert given.report.candidates[0].noise
    found = verify_bundle(write(given), expected_digest=digest_of(given))
    assert found.ok, found.problems


def test_evidence_that_is_not_accepted_verifies_as_well(tmp_path: Path, write: Write) -> None:
    """Whether a bundle is sound has nothing to do with what it says."""
    for name, changes in (("worse", {"lost": 40}), ("failed", {"failed": 30})):
        given = made_of(
            {
                "baseline": synthetic("base", documents=200).evidence(tmp_path / "a"),
                "candidate": synthetic(name, documents=200, **changes).evidence(tmp_path / name),
            }
        )
        assert given.judgement.verdict is not Verdict.ACCEPT
        found = verify_bundle(write(given))
        assert found.ok, found.problems
        assert found.recomputed == given.judgement


def test_equal_contents_give_equal_bytes_that_any_zip_program_reads(
    contents: BundleContents, tmp_path: Path
) -> None:
    first, second = io.BytesIO(), io.BytesIO()
    digest = write_bundle(first, contents)
    assert write_bundle(second, replace(contents)) == digest == digest_of(contents)
    assert first.getvalue() == second.getvalue() == b"".join(bundle_chunks(contents))
    with zipfile.ZipFile(first) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        manifest = archive.read("manifest.json")
        assert archive.read("manifest.sha256").decode() == f"{digest}  manifest.json\n"
        listed = json.loads(manifest)["members"]
        for name in set(names) - {"manifest.json", "manifest.sha256"}:
            assert listed[name]["sha256"] == hashlib.sha256(archive.read(name)).hexdigest()
    assert names == sorted(names)
    assert hashlib.sha256(manifest).hexdigest() == digest


def test_a_table_that_changes_while_it_is_written_is_noticed(
    contents: BundleContents, tmp_path: Path
) -> None:
    copy = tmp_path / "samples"
    copy.write_bytes(contents.candidate.samples.read_bytes())
    given = replace(contents, candidate=replace(contents.candidate, samples=copy))
    chunks = bundle_chunks(given)
    next(chunks)
    copy.write_bytes(copy.read_bytes()[:-1] + b"!")
    with pytest.raises(BundleError, match="changed while it was written"):
        list(chunks)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("small")
    given = made_of(
        {
            "baseline": synthetic("base", documents=12).evidence(directory / "a"),
            "candidate": synthetic("built", documents=12, lost=1).evidence(directory / "b"),
        }
    )
    path = directory / "bundle.zip"
    with path.open("wb") as stream:
        write_bundle(stream, given)
    assert verify_bundle(path).ok
    return path


def structure(path: Path) -> set[int]:
    """Every byte of the file that is in no member's content, and those of the two manifests."""
    with zipfile.ZipFile(path) as archive:
        inside: set[int] = set()
        for info in archive.infolist():
            start = info.header_offset + 30 + len(info.filename)
            if not info.filename.startswith("manifest"):
                inside.update(range(start, start + info.file_size))
    return set(range(path.stat().st_size)) - inside


def test_every_altered_byte_fails(small: Path, tmp_path: Path) -> None:
    """Each byte of headers, directory and manifests, and every 29th of the rest, with one bit flipped."""
    path = tmp_path / "flipped.zip"
    whole = small.read_bytes()
    path.write_bytes(whole)
    positions = sorted(structure(small) | set(range(0, len(whole), 29)))
    assert len(positions) > 4000
    missed = []
    with path.open("r+b", buffering=0) as stream:
        for position in positions:
            stream.seek(position)
            stream.write(bytes([whole[position] ^ (1 << position % 8)]))
            if verify_bundle(path).ok:
                missed.append(position)
            stream.seek(position)
            stream.write(whole[position : position + 1])
    assert missed == []
    assert verify_bundle(path).ok


def test_every_member_is_covered_by_its_digest(small: Path, tmp_path: Path) -> None:
    """The first, middle and last byte of each member, its checksum in the zip made to fit."""
    with zipfile.ZipFile(small) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    path = tmp_path / "altered.zip"
    for name, content in members.items():
        for position in {0, len(content) // 2, len(content) - 1}:
            altered = bytearray(content)
            altered[position] ^= 1
            write_members(path, members | {name: bytes(altered)})
            assert problems(verify_bundle(path))[0] in ("member-altered", "manifest-altered")


def write_members(path: Path, members: dict[str, bytes]) -> None:
    """A zip of these members as our writer makes it, whatever they say."""
    given = [Member(name, content) for name, content in members.items()]
    path.write_bytes(b"".join(archive_chunks([(member, member.checksums()) for member in given])))


@pytest.mark.parametrize("cut", [0, 1, 4, 29, 30, 31, 1000, -1, -22, -23, -100])
def test_a_cut_file_fails(small: Path, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.zip"
    path.write_bytes(small.read_bytes()[:cut])
    assert problems(verify_bundle(path))


@pytest.mark.parametrize("more", [b"\0", b"PK\x05\x06" + b"\0" * 18, b"comment"])
def test_bytes_before_or_behind_fail(small: Path, tmp_path: Path, more: bytes) -> None:
    path = tmp_path / "longer.zip"
    for content in (small.read_bytes() + more, more + small.read_bytes()):
        path.write_bytes(content)
        assert problems(verify_bundle(path)) == ["not-a-bundle"]


def zipped(small: Path, path: Path, change: Callable[[zipfile.ZipFile], None], **how: Any) -> None:
    """The members of ``small`` written by Python's zip library."""
    with zipfile.ZipFile(small) as source, zipfile.ZipFile(path, "w", **how) as target:
        for info in source.infolist():
            target.writestr(info.filename, source.read(info))
        change(target)


HOSTILE: dict[str, Callable[[Path, Path], Any]] = {
    "no zip": lambda small, path: path.write_bytes(b"not a zip at all"),
    "empty file": lambda small, path: path.write_bytes(b""),
    "empty zip": lambda small, path: zipfile.ZipFile(path, "w").close(),
    "a directory": lambda small, path: path.mkdir(),
    "no file": lambda small, path: None,
    "written by another program": lambda small, path: zipped(small, path, lambda archive: None),
    "compressed": lambda small, path: zipped(
        small, path, lambda archive: None, compression=zipfile.ZIP_DEFLATED
    ),
    "a bomb": lambda small, path: zipped(
        small,
        path,
        lambda archive: archive.writestr("bomb", b"\0" * 50_000_000),
        compression=zipfile.ZIP_DEFLATED,
    ),
    "path traversal": lambda small, path: write_members(path, {"../../evil": b"x"}),
    "absolute path": lambda small, path: write_members(path, {"/etc/passwd": b"x"}),
    "another member": lambda small, path: write_members(path, members_of(small) | {"extra.txt": b"x"}),
    "nested bundle": lambda small, path: write_members(path, {"bundle.zip": small.read_bytes()}),
    "a nested bundle in place of a table": lambda small, path: sealed(
        path, members_of(small) | {"candidate/samples.parquet": small.read_bytes()}
    ),
    "a member twice": lambda small, path: path.write_bytes(twice(small)),
    "a huge declared size": lambda small, path: path.write_bytes(with_size(small, 0xFFFFFFF0)),
    "a size of nothing": lambda small, path: path.write_bytes(with_size(small, 0)),
    "no manifest": lambda small, path: write_members(path, without(small, "manifest.json")),
    "no digest of the manifest": lambda small, path: write_members(path, without(small, "manifest.sha256")),
    "no table": lambda small, path: sealed(path, without(small, "candidate/samples.parquet")),
    "no judgement": lambda small, path: sealed(path, without(small, "judgement.json")),
    "a judgement that is no JSON": lambda small, path: sealed(
        path, members_of(small) | {"judgement.json": b"{"}
    ),
    "a judgement that is a list": lambda small, path: sealed(
        path, members_of(small) | {"judgement.json": b"[]"}
    ),
    "a judgement without fields": lambda small, path: sealed(
        path, members_of(small) | {"judgement.json": b"{}"}
    ),
    "JSON too deep": lambda small, path: sealed(
        path, members_of(small) | {"report.json": b'{"a":' * 100_000 + b"1" + b"}" * 100_000}
    ),
    "JSON that is no text": lambda small, path: sealed(
        path, members_of(small) | {"policy.json": b"\xff\xfe{}"}
    ),
    "facts of another kind": lambda small, path: sealed(
        path, members_of(small) | {"baseline/facts.json": b'{"schema_version": 7}'}
    ),
    "a table that is none": lambda small, path: sealed(
        path, members_of(small) | {"candidate/requests.parquet": b"PAR1 nothing PAR1"}
    ),
    "a table of the other kind": lambda small, path: sealed(
        path,
        members_of(small) | {"candidate/requests.parquet": members_of(small)["candidate/samples.parquet"]},
    ),
    "a table of 40 GB in 100 kB": lambda small, path: sealed(
        path, members_of(small) | {"candidate/samples.parquet": unfolding(small, rows=400_000)}
    ),
    "clusters without numbers": lambda small, path: sealed(
        path, members_of(small) | {"clusters.json": b'{"first": "a"}'}
    ),
    "half a noise floor": lambda small, path: sealed(
        path, members_of(small) | {"noise_floor/facts.json": members_of(small)["baseline/facts.json"]}
    ),
    "a manifest of another format": lambda small, path: sealed(path, members_of(small), format_version=2),
    "a manifest without versions": lambda small, path: sealed(path, members_of(small), versions=None),
    "a manifest without members": lambda small, path: sealed(path, members_of(small), members=None),
    "a manifest with odd members": lambda small, path: sealed(path, members_of(small), members={"a": 1}),
}


def unfolding(path: Path, *, rows: int) -> bytes:
    """A table of samples whose responses are one long text, so often that no memory holds them."""
    table = pyarrow.parquet.read_table(io.BytesIO(members_of(path)["candidate/samples.parquet"]))
    zeros = pyarrow.array([0] * rows, pyarrow.int32())
    text = pyarrow.DictionaryArray.from_arrays(zeros, ["x" * 100_000])
    place = table.schema.get_field_index("response")
    repeated = table.take(zeros).set_column(place, "response", text)
    target = io.BytesIO()
    # Without the schema of Arrow in it the column reads as plain text.
    pyarrow.parquet.write_table(repeated, target, compression="zstd", store_schema=False)
    assert len(target.getvalue()) < 300_000
    return target.getvalue()


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def without(path: Path, name: str) -> dict[str, bytes]:
    return {other: content for other, content in members_of(path).items() if other != name}


def sealed(path: Path, given: dict[str, bytes], /, **changed: Any) -> None:
    """A forger's bundle: whatever the members are, the manifest fits them."""
    kept = {name: content for name, content in given.items() if not name.startswith("manifest")}
    listed = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        for name, content in kept.items()
    }
    manifest = json.loads(given["manifest.json"]) | {"members": listed} | changed
    written = json.dumps(manifest).encode()
    digest = f"{hashlib.sha256(written).hexdigest()}  manifest.json\n".encode()
    write_members(path, kept | {"manifest.json": written, "manifest.sha256": digest})


def twice(path: Path) -> bytes:
    """The first member's record doubled."""
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        second = archive.infolist()[1].header_offset
    return whole[:second] + whole


def with_size(path: Path, size: int) -> bytes:
    whole = bytearray(path.read_bytes())
    whole[18:26] = size.to_bytes(4, "little") * 2
    return bytes(whole)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_a_clear_failure(name: str, small: Path, tmp_path: Path) -> None:
    path = tmp_path / "hostile.zip"
    HOSTILE[name](small, path)
    found = verify_bundle(path)
    assert problems(found)
    assert all(len(problem.message) < 2000 for problem in found.problems)


def better_scores(run: RunEvidence, directory: Path) -> RunEvidence:
    """The candidate with a table in which three wrong answers are right."""
    made = synthetic("built", documents=400, gained=2, lost=2)
    column = f"{VALUE_PREFIX}{STRICT}"
    values = made.column(column)
    for row in [row for row, value in enumerate(values) if value == 0.0][:3]:
        values[row] = 1.0
    return made.with_column(column, values).counted().evidence(directory)


def test_an_altered_table_with_a_new_manifest_does_not_fit_its_report(
    contents: BundleContents, runs: dict[str, RunEvidence], write: Write, tmp_path: Path
) -> None:
    altered = better_scores(runs["candidate"], tmp_path)
    forged = replace(contents, candidate=bundled(altered))
    found = verify_bundle(write(forged))
    assert {"report-differs", "judgement-differs"} <= set(problems(found))
    assert problems(verify_bundle(write(forged), expected_digest=digest_of(contents)))[0] == "digest-differs"


def test_a_bundle_forged_as_a_whole_is_caught_by_the_digest_only(
    contents: BundleContents, runs: dict[str, RunEvidence], write: Write, tmp_path: Path
) -> None:
    forged = made_of(runs | {"candidate": better_scores(runs["candidate"], tmp_path)})
    path = write(forged)
    assert verify_bundle(path).ok
    found = verify_bundle(path, expected_digest=digest_of(contents))
    assert problems(found) == ["digest-differs"]
    assert digest_of(contents) in found.problems[0].message


def forged_verdict(given: BundleContents) -> BundleContents:
    judgement = given.judgement.model_copy(update={"verdict": Verdict.REJECT})
    return replace(given, judgement=judgement)


def forged_number(given: BundleContents) -> BundleContents:
    report = given.report.model_copy(deep=True)
    report.candidates[0].quality[0].candidate *= 1 + 1e-6
    return replace(given, report=report)


def forged_policy(given: BundleContents) -> BundleContents:
    rule = given.policy.quality[0].model_copy(update={"margin": 0.05})
    return replace(given, policy=given.policy.model_copy(update={"quality": [rule]}))


def forged_settings(given: BundleContents) -> BundleContents:
    return replace(given, settings=given.settings.model_copy(update={"seed": 1}))


def forged_direction(given: BundleContents) -> BundleContents:
    worse = dict.fromkeys(given.candidate.facts.higher_is_better, False)
    facts = given.candidate.facts.model_copy(update={"higher_is_better": worse})
    return replace(given, candidate=replace(given.candidate, facts=facts))


def forged_clusters(given: BundleContents) -> BundleContents:
    return replace(given, clusters={row: str(row % 9) for row in range(400)})


def forged_runs(given: BundleContents) -> BundleContents:
    return replace(given, baseline=given.candidate, candidate=given.baseline)


@pytest.mark.parametrize(
    ("forge", "code"),
    [
        (forged_verdict, "judgement-differs"),
        (forged_number, "report-differs"),
        (forged_policy, "policy-altered"),
        (forged_settings, "report-differs"),
        (forged_direction, "judgement-differs"),
        (forged_clusters, "report-differs"),
        (forged_runs, "report-differs"),
    ],
)
def test_what_does_not_follow_from_the_evidence_fails(
    contents: BundleContents,
    write: Write,
    forge: Callable[[BundleContents], BundleContents],
    code: str,
) -> None:
    assert code in problems(verify_bundle(write(forge(contents))))


def test_numbers_may_differ_as_processors_round(contents: BundleContents, write: Write) -> None:
    report = contents.report.model_copy(deep=True)
    report.candidates[0].quality[0].candidate *= 1 + 1e-13
    report.candidates[0].quality[0].difference += 1e-14
    assert verify_bundle(write(replace(contents, report=report))).ok


def other_version(given: BundleContents) -> BundleContents:
    return replace(given, versions=dict(given.versions) | {"assay-evidence": "0.0.1", "numpy": "1.0"})


def test_other_versions_are_told_and_may_use_other_words(contents: BundleContents, write: Write) -> None:
    found = verify_bundle(write(other_version(contents)))
    assert found.ok
    assert any(note.startswith("assay-evidence was 0.0.1 and is") for note in found.notes)
    assert any(note.startswith("numpy was 1.0 and is") for note in found.notes)
    reworded = contents.judgement.model_copy(update={"summary": "Other words."})
    assert verify_bundle(write(other_version(replace(contents, judgement=reworded)))).ok
    assert problems(verify_bundle(write(replace(contents, judgement=reworded)))) == ["judgement-differs"]
    assert problems(verify_bundle(write(other_version(forged_number(contents))))) == ["report-differs"]


def test_a_forged_extra_field_is_seen(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "extra.zip"
    for name in ("report.json", "judgement.json", "candidate/facts.json", "settings.json"):
        members = members_of(small)
        content = json.loads(members[name]) | {"approved_by": "somebody"}
        sealed(path, members | {name: json.dumps(content).encode()})
        assert problems(verify_bundle(path))


def test_an_altered_readme_is_seen(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "readme.zip"
    sealed(path, members_of(small) | {"README.txt": b"No need to verify this."})
    assert problems(verify_bundle(path)) == ["input-altered"]


def test_the_readme_names_every_member(small: Path) -> None:
    members = members_of(small)
    text = members["README.txt"].decode()
    for name in members:
        assert all(part in text for part in name.split("/")), name
    assert all(len(line) <= 110 for line in text.splitlines())

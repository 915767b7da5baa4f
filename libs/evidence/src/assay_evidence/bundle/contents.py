"""What a bundle holds, and its digest: that of the manifest, which has the digest of everything else."""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from pydantic import JsonValue

from assay_evidence.bundle.archive import Checksums, Member, archive_chunks
from assay_evidence.decision import Judgement
from assay_evidence.facts import RunFacts
from assay_evidence.policy import PolicySpec
from assay_evidence.report import ComparisonReport, ComparisonSettings

FORMAT: Final = "assay-evidence-bundle"
FORMAT_VERSION: Final = 1

MANIFEST: Final = "manifest.json"
MANIFEST_DIGEST: Final = "manifest.sha256"
README: Final = "README.txt"
POLICY: Final = "policy.json"
SETTINGS: Final = "settings.json"
REPORT: Final = "report.json"
JUDGEMENT: Final = "judgement.json"
CLUSTERS: Final = "clusters.json"
RUN_MEMBERS: Final = ("facts.json", "plan.json", "requests.parquet", "samples.parquet")
ROLES: Final = ("baseline", "candidate", "noise_floor")

REQUIRED: Final = frozenset(
    {MANIFEST, MANIFEST_DIGEST, README, POLICY, SETTINGS, REPORT, JUDGEMENT}
    | {f"{role}/{name}" for role in ("baseline", "candidate") for name in RUN_MEMBERS}
)
ALLOWED: Final = REQUIRED | {CLUSTERS} | {f"noise_floor/{name}" for name in RUN_MEMBERS}

_LIBRARIES: Final = ("assay-evidence", "numpy", "pyarrow", "scipy")

README_TEXT: Final = """\
Evidence of one decision by Assay
=================================

May the compiled model (candidate) replace the one it was compiled from (baseline)?
judgement.json has the verdict and every reason. Everything that it rests on is here:

  manifest.json        sha256 and size of every other file, versions of the libraries, the decision's number.
                       Its own sha256 is the digest of this bundle, as the decision and its event name it.
  manifest.sha256      that digest, as sha256sum checks it
  baseline/            the run of the baseline: facts.json (what was run, and its numbers), plan.json (the
                       whole effective plan, frozen before the run), samples.parquet (one row per document:
                       hashes, response, scores), requests.parquet (one row per request: times, tokens)
  candidate/           the same of the candidate
  noise_floor/         the same of a second run of the baseline's artifact, where one was named
  clusters.json        cluster of each document of the baseline, by index, where one was asked for
  policy.json          the policy that judged: margins, bounds, what is critical
  settings.json        how the runs were compared
  report.json          the comparison
  judgement.json       the verdict with its reasons
  README.txt           this text

To check it, offline:   assay verify bundle THIS_FILE --digest DIGEST_OF_THE_DECISION

That reads every byte, computes comparison and verdict again from the tables, and compares. Without the
digest it can only tell that the bundle agrees with itself: somebody who alters a response and makes a new
bundle of everything makes one that agrees with itself, too, but its digest is another.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledRun:
    """A run of the comparison: its facts and the files of its two tables."""

    facts: RunFacts
    samples: Path
    requests: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleContents:
    """Everything that a decision rests on.

    Attributes:
        policy: as stored, with its version, or as written.
        settings: with which ``report`` was made.
        report: of ``baseline`` and the one ``candidate``.
        judgement: what ``judge`` made of it.
        versions: of the libraries that made report and judgement; keep those of the day of the decision, so
            that the bundle stays the same. ``library_versions()`` on that day.
        decision: what else is to be found in the manifest, such as its id and date.
        clusters: label by document index of the baseline, where the comparison had them.
    """

    baseline: BundledRun
    candidate: BundledRun
    policy: PolicySpec
    settings: ComparisonSettings
    report: ComparisonReport
    judgement: Judgement
    versions: Mapping[str, str]
    noise_floor: BundledRun | None = None
    clusters: Mapping[int, str] | None = None
    decision: Mapping[str, JsonValue] = field(default_factory=dict)


class _Sealed(NamedTuple):
    """All members with their checksums, and the bundle's digest."""

    members: list[tuple[Member, Checksums]]
    digest: str


def library_versions() -> dict[str, str]:
    """Versions of what makes reports and judgements in this process."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return versions | {"python": platform.python_version()}


def digest_of(contents: BundleContents) -> str:
    """The bundle's digest: sha256 (hex) of its manifest. Reads the tables, writes nothing."""
    return _sealed(contents).digest


def write_bundle(stream: BinaryIO, contents: BundleContents) -> str:
    """Write the bundle, piece by piece, and return its digest; equal contents give equal bytes.

    Raises:
        BundleError: it would be larger than 4 GiB, or a table changed meanwhile.
    """
    sealed = _sealed(contents)
    for chunk in archive_chunks(sealed.members):
        stream.write(chunk)
    return sealed.digest


def bundle_chunks(contents: BundleContents) -> Iterator[bytes]:
    """The bytes that ``write_bundle`` writes, in pieces of at most 1 MiB or one JSON file.

    Raises:
        BundleError: as ``write_bundle``.
    """
    yield from archive_chunks(_sealed(contents).members)


def json_bytes(value: JsonValue) -> bytes:
    """JSON as bundles have it: for people, with sorted names, so that equal values give equal bytes."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def digest_line(digest: str) -> bytes:
    """Content of ``manifest.sha256``."""
    return f"{digest}  {MANIFEST}\n".encode("ascii")


def _sealed(contents: BundleContents) -> _Sealed:
    members = [(member, member.checksums()) for member in _members(contents)]
    manifest: dict[str, JsonValue] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "decision": dict(contents.decision),
        "versions": dict(contents.versions),
        "members": {
            member.name: {"sha256": checksums.sha256, "size": checksums.size} for member, checksums in members
        },
    }
    written = json_bytes(manifest)
    digest = hashlib.sha256(written).hexdigest()
    for member in (Member(MANIFEST, written), Member(MANIFEST_DIGEST, digest_line(digest))):
        members.append((member, member.checksums()))
    return _Sealed(members, digest)


def _members(contents: BundleContents) -> Iterator[Member]:
    yield Member(README, README_TEXT.encode())
    for name, model in (
        (POLICY, contents.policy),
        (SETTINGS, contents.settings),
        (REPORT, contents.report),
        (JUDGEMENT, contents.judgement),
    ):
        yield Member(name, json_bytes(model.model_dump(mode="json")))
    if contents.clusters is not None:
        labels: dict[str, JsonValue] = {str(index): label for index, label in contents.clusters.items()}
        yield Member(CLUSTERS, json_bytes(labels))
    for role, run in zip(ROLES, (contents.baseline, contents.candidate, contents.noise_floor), strict=True):
        if run is not None:
            yield Member(f"{role}/facts.json", json_bytes(run.facts.model_dump(mode="json")))
            yield Member(f"{role}/plan.json", json_bytes(run.facts.plan))
            yield Member(f"{role}/requests.parquet", run.requests)
            yield Member(f"{role}/samples.parquet", run.samples)

"""Checks a bundle: every byte, and whether its verdict follows from its tables."""

import hashlib
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow
from pydantic import BaseModel, ValidationError

from assay_evidence.bundle import contents as layout
from assay_evidence.bundle.archive import Archive, BundleError, read_archive
from assay_evidence.bundle.limits import check_size
from assay_evidence.comparison import compare
from assay_evidence.decision import Judgement, judge
from assay_evidence.facts import RunFacts
from assay_evidence.policy import Policy, PolicySpec, digest_of
from assay_evidence.report import ComparisonReport, ComparisonSettings
from assay_evidence.tables import RunEvidence, read_run

RELATIVE_TOLERANCE: Final = 1e-9
"""Of recomputed numbers: another processor sums in another order, and rounds each sum differently."""

ABSOLUTE_TOLERANCE: Final = 1e-12
"""Of differences that are nearly nothing, whose rounding is large beside them."""

MOST_JSON_BYTES: Final = 128 << 20
DIFFERENCES_SHOWN: Final = 10

_WORDS: Final = frozenset({"message", "summary", "note", "label"})
"""Fields for people, which another version of the library may word differently."""


class Problem(NamedTuple):
    """One thing that is wrong with a bundle. ``code`` is stable for programs."""

    code: str
    message: str


@dataclass(slots=True)
class Verification:
    """What was found.

    Attributes:
        ok: whether nothing is wrong.
        digest: of the manifest that is in the file; ``None`` where there is none.
        expected_digest: with which it was compared; without one, a bundle that was made anew, consistently,
            is not told from the one of the decision.
        problems: what is wrong.
        notes: what a reader must know and is no fault, such as other versions of libraries.
        stored, recomputed: the judgement in the bundle, and the one that its tables give.
        manifest: as read.
    """

    digest: str | None = None
    expected_digest: str | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stored: Judgement | None = None
    recomputed: Judgement | None = None
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every byte is as written and the verdict follows from the tables."""
        return not self.problems and self.recomputed is not None


def verify_bundle(path: Path, *, expected_digest: str | None = None) -> Verification:
    """Read every byte of a bundle, compute comparison and verdict again, and compare.

    Never raises for what is in the file, whatever that is: it says what is wrong.

    Args:
        expected_digest: of the decision, as its document and event have it. Only that tells the bundle of a
            decision from another one that agrees with itself.
    """
    found = Verification(expected_digest=expected_digest.strip().lower() if expected_digest else None)
    try:
        archive = read_archive(path, names=layout.ALLOWED)
        _check_manifest(archive, found)
        if not found.problems or _only_another_digest(found):
            _recompute(archive, found)
    except BundleError as error:
        found.problems.append(Problem(error.code, str(error)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        message = f"a {error.title} in the bundle cannot be read: {where}: {first['msg']}"
        found.problems.append(Problem("unusable-content", message))
    except MemoryError:
        found.problems.append(Problem("too-large", "the bundle needs more memory than there is"))
    except (
        ArithmeticError,
        AssertionError,
        LookupError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
        pyarrow.ArrowException,
    ) as error:
        # Tables and values that no run of ours has made: the file is at fault, not the reader.
        message = f"what is in the bundle cannot be judged: {type(error).__name__}: {error}"
        found.problems.append(Problem("unusable-content", message[:500]))
    return found


def _only_another_digest(found: Verification) -> bool:
    return all(problem.code == "digest-differs" for problem in found.problems)


def _check_manifest(archive: Archive, found: Verification) -> None:
    written = archive.content(layout.MANIFEST, most=MOST_JSON_BYTES)
    found.digest = hashlib.sha256(written).hexdigest()
    if archive.content(layout.MANIFEST_DIGEST, most=1000) != layout.digest_line(found.digest):
        raise BundleError(
            "manifest-altered", f"{layout.MANIFEST_DIGEST} is not the digest of {layout.MANIFEST}"
        )
    manifest = found.manifest = _json(archive, layout.MANIFEST)
    if manifest.get("format") != layout.FORMAT or manifest.get("format_version") != layout.FORMAT_VERSION:
        raise BundleError(
            "unknown-format",
            f"the manifest is of {manifest.get('format')!r} version {manifest.get('format_version')!r}; this "
            f"version of Assay reads {layout.FORMAT!r} version {layout.FORMAT_VERSION}",
        )
    if found.expected_digest is not None and found.digest != found.expected_digest:
        found.problems.append(
            Problem(
                "digest-differs",
                f"this bundle's digest is {found.digest}, the decision's is {found.expected_digest}: "
                "it is not the bundle of that decision",
            )
        )
    if missing := sorted(layout.REQUIRED - archive.entries.keys()):
        raise BundleError("member-missing", f"the bundle has no {', '.join(missing)}")
    present = {
        name: {"sha256": entry.checksums.sha256, "size": entry.checksums.size}
        for name, entry in archive.entries.items()
        if name not in (layout.MANIFEST, layout.MANIFEST_DIGEST)
    }
    listed = manifest.get("members")
    for name in sorted(present.keys() | (listed.keys() if isinstance(listed, dict) else set())):
        if not isinstance(listed, dict) or listed.get(name) != present.get(name):
            found.problems.append(
                Problem("member-altered", f"{name} is not the file that the manifest names")
            )


class _Inputs(NamedTuple):
    """What a report is a function of, read from a bundle."""

    runs: dict[str, RunEvidence]
    policy: PolicySpec
    settings: ComparisonSettings
    clusters: dict[int, str] | None


def _recompute(archive: Archive, found: Verification) -> None:
    is_same_version = _check_versions(found)
    if (
        is_same_version
        and archive.content(layout.README, most=MOST_JSON_BYTES) != layout.README_TEXT.encode()
    ):
        found.problems.append(Problem("input-altered", f"{layout.README} does not say what Assay writes"))
    with tempfile.TemporaryDirectory(prefix="assay-verify-") as directory:
        inputs = _inputs(archive, Path(directory), found, is_same_version=is_same_version)
        noise_floor = inputs.runs.get("noise_floor")
        outcome = compare(
            inputs.runs["baseline"],
            [inputs.runs["candidate"]],
            settings=inputs.settings,
            policy=inputs.policy,
            noise_floor=noise_floor,
            clusters=inputs.clusters,
        )
    report = outcome.report
    found.recomputed = judge(report.candidates[0], inputs.policy)
    stored_report = _json(archive, layout.REPORT)
    stored_judgement = _json(archive, layout.JUDGEMENT)
    # Before the comparison of every field: a reader wants to see both verdicts, even of a forged file.
    found.stored = Judgement.model_validate(stored_judgement)
    ComparisonReport.model_validate(stored_report)
    for code, name, stored, again in (
        ("judgement-differs", layout.JUDGEMENT, stored_judgement, found.recomputed),
        ("report-differs", layout.REPORT, stored_report, report),
    ):
        _compare(stored, again, name=name, code=code, found=found, is_same_version=is_same_version)


def _check_versions(found: Verification) -> bool:
    """Note every library of another version; returns whether the evidence library is the same."""
    stored = found.manifest.get("versions")
    if not isinstance(stored, dict):
        raise BundleError("manifest-altered", "the manifest names no versions of libraries")
    here = layout.library_versions()
    for name in sorted(stored.keys() | here.keys()):
        if stored.get(name) != here.get(name):
            found.notes.append(
                f"{name} was {stored.get(name, 'not named')} and is {here.get(name, 'not known')} here"
            )
    return bool(stored.get("assay-evidence") == here["assay-evidence"])


def _inputs(archive: Archive, directory: Path, found: Verification, *, is_same_version: bool) -> _Inputs:
    def read(name: str, model: type[Any]) -> Any:
        stored = _json(archive, name)
        value = model.model_validate(stored)
        _compare(stored, value, name=name, code="input-altered", found=found, is_same_version=is_same_version)
        return value

    is_stored_policy = "id" in _json(archive, layout.POLICY)
    policy = read(layout.POLICY, Policy if is_stored_policy else PolicySpec)
    if isinstance(policy, Policy) and is_same_version and policy.digest != digest_of(policy):
        found.problems.append(Problem("policy-altered", "the policy does not have the digest that it names"))
    settings = read(layout.SETTINGS, ComparisonSettings)
    runs = {}
    for role in layout.ROLES:
        if f"{role}/facts.json" not in archive.entries:
            continue
        facts = read(f"{role}/facts.json", RunFacts)
        if facts.plan != _json(archive, f"{role}/plan.json"):
            found.problems.append(Problem("input-altered", f"{role}/plan.json is not the plan of its facts"))
        tables = [directory / f"{role}.{name}" for name in ("samples.parquet", "requests.parquet")]
        for table in tables:
            archive.extract(f"{role}/{table.name.removeprefix(f'{role}.')}", table)
            check_size(table)
        runs[role] = read_run(facts, *tables)
    return _Inputs(runs, policy, settings, _clusters(archive))


def _clusters(archive: Archive) -> dict[int, str] | None:
    if layout.CLUSTERS not in archive.entries:
        return None
    return {int(index): str(label) for index, label in _json(archive, layout.CLUSTERS).items()}


def _json(archive: Archive, name: str) -> dict[str, Any]:
    try:
        value = json.loads(archive.content(name, most=MOST_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError("unusable-content", f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BundleError("unusable-content", f"{name} is not a JSON object")
    return value


def _compare(
    stored: Mapping[str, Any],
    again: BaseModel,
    *,
    name: str,
    code: str,
    found: Verification,
    is_same_version: bool,
) -> None:
    """Set what is stored beside what it should be; words of another version, and fields that it did not
    have, are notes."""
    wrong = []
    for path, what in _differences(stored, again.model_dump(mode="json"), ""):
        is_wording = path.rpartition(".")[2] in _WORDS or what.startswith("is not there")
        if is_wording and not is_same_version:
            found.notes.append(f"{name}{path} {what}")
        else:
            wrong.append(f"{path.removeprefix('.')} {what}")
    if wrong:
        more = f"; and {len(wrong) - DIFFERENCES_SHOWN} more" if len(wrong) > DIFFERENCES_SHOWN else ""
        message = (
            f"{name} is not what the bundle's evidence gives: {'; '.join(wrong[:DIFFERENCES_SHOWN])}{more}"
        )
        found.problems.append(Problem(code, message))


def _differences(stored: Any, again: Any, path: str) -> Iterator[tuple[str, str]]:
    """Path of every difference, and what it is."""
    if isinstance(stored, dict) and isinstance(again, dict):
        for key in sorted(stored.keys() | again.keys()):
            inner = f"{path}.{key}"
            if key not in stored:
                yield inner, f"is not there, and should be {_shown(again[key])}"
            elif key not in again:
                yield inner, f"is {_shown(stored[key])}, and should not be there"
            else:
                yield from _differences(stored[key], again[key], inner)
    elif isinstance(stored, list) and isinstance(again, list) and len(stored) == len(again):
        for position, (one, other) in enumerate(zip(stored, again, strict=True)):
            yield from _differences(one, other, f"{path}[{position}]")
    elif not _is_equal(stored, again):
        yield path, f"is {_shown(stored)}, and should be {_shown(again)}"


def _is_equal(stored: Any, again: Any) -> bool:
    numbers = (int, float)
    if isinstance(stored, bool) or isinstance(again, bool):
        return stored is again
    if isinstance(stored, numbers) and isinstance(again, numbers):
        if isinstance(stored, int) and isinstance(again, int):
            return stored == again
        both_nan = math.isnan(stored) and math.isnan(again)
        return both_nan or math.isclose(stored, again, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
    return bool(stored == again)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

"""Which tasks of lm-eval's index are defined on the data that a snapshot holds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay_harness.index import IndexEntry
from method_svc.domain.snapshots import Snapshot, SourceKind

MAX_CANDIDATES = 20


@dataclass(frozen=True, slots=True)
class TaskMatches:
    """Tasks that were found; where there are none, the names that may have been meant."""

    items: list[IndexEntry]
    suggestions: list[str]


@dataclass(frozen=True, slots=True)
class TaskCandidate:
    """A task on the same repository; ``reason`` says how it differs from what the snapshot holds.

    ``same_subset`` is whether it is defined on the very subset of the snapshot.
    """

    entry: IndexEntry
    same_subset: bool
    reason: str


def repository_key(name: str) -> str:
    """What two spellings of a repository of the Hub have in common: old names have no owner."""
    return name.rpartition("/")[2].lower()


def candidates(snapshot: Snapshot, entries: Iterable[IndexEntry]) -> Sequence[TaskCandidate]:
    """The tasks among ``entries`` for the repository of the snapshot, the best first.

    What can be run comes before what cannot, the same subset before another, a task that evaluates on the
    snapshot's split before one that does not, then the shortest name.
    """
    if snapshot.kind is not SourceKind.HUGGINGFACE:
        return []
    source = snapshot.source
    mine = [entry for entry in entries if _same_repository(entry, source)]

    def rank(entry: IndexEntry) -> tuple[bool, bool, bool, int, str]:
        return (
            entry.refusal is not None,
            not _same_subset(entry, source),
            _evaluated_split(entry) != snapshot.split,
            len(entry.name),
            entry.name,
        )

    ranked = sorted(mine, key=rank)[:MAX_CANDIDATES]
    return [
        TaskCandidate(entry=entry, same_subset=_same_subset(entry, source), reason=_reason(entry, snapshot))
        for entry in ranked
    ]


def _same_repository(entry: IndexEntry, source: Mapping[str, Any]) -> bool:
    repo_id = str(source.get("repo_id", "")).lower()
    path = entry.dataset_path.lower()
    return path == repo_id if "/" in path else repository_key(path) == repository_key(repo_id)


def _same_subset(entry: IndexEntry, source: Mapping[str, Any]) -> bool:
    subset = source.get("subset") or "default"
    return (entry.dataset_name or "default") == subset


def _evaluated_split(entry: IndexEntry) -> str | None:
    return entry.splits.get("test") or entry.splits.get("validation")


def _reason(entry: IndexEntry, snapshot: Snapshot) -> str:
    subset = f", subset {entry.dataset_name!r}" if entry.dataset_name else ""
    parts = [f"lm-eval defines {entry.name!r} on {entry.dataset_path}{subset}"]
    split = _evaluated_split(entry)
    if not _same_subset(entry, snapshot.source):
        parts.append(f"the rows are of subset {snapshot.source.get('subset') or 'default'!r}")
    if split is not None and split != snapshot.split:
        parts.append(
            f"it evaluates on split {split!r} and the rows are split {snapshot.split!r}: "
            "the numbers are not the published ones"
        )
    if entry.refusal:
        parts.append(f"it cannot be run here: {entry.refusal}")
    return "; ".join(parts)

"""The static index of lm-eval's tasks: names, what they need, and which of them are refused and why.

Building it takes lm-eval 10-20 s, once per version (`python -m assay_harness.index FILE` does it by hand, for
an image). An entry is decoded when it is asked for, so that reading takes milliseconds and no lm-eval.
"""

import difflib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from assay_harness.errors import HarnessFailed, TaskRefused, UnknownTask
from assay_harness.settings import default_cache_directory

_BUILD_SECONDS = 300
_BUILDERS = (
    "index",
    "index_builder",
    "refusals",
    "group_scan",
    "module_scan",
    "class_scan",
    "columns",
    "sources",
)
_CANDIDATES = 60
_SCORED_TYPES = ("multiple_choice", "loglikelihood", "loglikelihood_rolling")


class EntryKind(StrEnum):
    """What a name of the index stands for."""

    TASK = "task"
    GROUP = "group"
    TAG = "tag"


class TaskStatus(StrEnum):
    """Whether and under which condition this platform runs a name.

    `ok` and `needs-log-probabilities` (where the backend gives them) run; the others are refused.
    """

    OK = "ok"
    NEEDS_LOG_PROBABILITIES = "needs-log-probabilities"
    NEEDS_EXTRA = "needs-extra"
    UNSAFE_CODE = "unsafe-code"
    REMOTE_JUDGE = "remote-judge"
    HUB_METRIC = "hub-metric"
    MULTIMODAL = "multimodal"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One name of the index.

    `yaml_path` is relative to the lm-eval package. `output_type` of a group or tag is that of all its tasks,
    or "mixed". `splits` maps the roles `training`, `validation`, `test` and `fewshot` to the names that the
    task's author uses. `columns` are those that the task's templates read, None where only code knows.
    `missing_packages` were not installed when the index was built. `members` are the direct children of a
    group or tag; `references` the names that it refers to, where its file defines groups inside itself.
    `refusal` says why this platform does not run the name.
    """

    name: str
    kind: EntryKind = EntryKind.TASK
    yaml_path: str = ""
    output_type: str = ""
    version: str = ""
    splits: dict[str, str] = field(default_factory=dict)
    dataset_path: str = ""
    dataset_name: str = ""
    num_fewshot: int | None = None
    columns: list[str] | None = None
    tags: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    missing_packages: list[str] = field(default_factory=list)
    refusal: str | None = None
    status: TaskStatus = TaskStatus.OK

    @property
    def reason(self) -> str:
        """What the status means for this name, in words; empty for `ok`."""
        if self.refusal:
            return self.refusal
        if self.status is TaskStatus.NEEDS_LOG_PROBABILITIES:
            return "it scores given continuations, so the backend must return log-probabilities of a prompt"
        return ""

    @property
    def needs_log_probabilities(self) -> bool:
        """Whether the backend must score given text instead of only generating."""
        return self.status is TaskStatus.NEEDS_LOG_PROBABILITIES or self.output_type in _SCORED_TYPES


class Definition(NamedTuple):
    """All that lm-eval must read to build a name: the files of it and of everything below it.

    `yaml_paths` (relative to the lm-eval package) are of tasks and groups, `tags` maps tags to their tasks.
    """

    name: str
    kind: EntryKind
    yaml_paths: dict[str, str]
    groups: list[str]
    tags: dict[str, list[str]]


class TaskIndex:
    """Look-ups over the names. `entries` maps each name to its entry as JSON text."""

    def __init__(self, entries: Mapping[str, str]) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def get(self, name: str) -> IndexEntry:
        """Return the entry of a task, group or tag; raises `UnknownTask`."""
        entry = _decode(name, self._stored(name))
        if entry.refusal or not entry.missing_packages:
            return entry
        missing = [package for package in entry.missing_packages if importlib.util.find_spec(package) is None]
        refusal = f"it needs Python packages that are not installed here: {', '.join(missing)}"
        return replace(entry, refusal=refusal, status=TaskStatus.NEEDS_EXTRA) if missing else entry

    def runnable(self, name: str) -> IndexEntry:
        """Return the entry of a name that may be run; raises `UnknownTask` or `TaskRefused`."""
        entry = self.get(name)
        if entry.refusal:
            raise TaskRefused(task=name, reason=entry.refusal)
        return entry

    def tasks_of(self, name: str) -> list[str]:
        """Return the tasks below a group or tag, each once, in order; a task is its own only one.

        These are the names for which `spec.GroupRows` needs rows. Raises `UnknownTask`.
        """
        return [found for found, stored in self._below(name).items() if stored.get("kind", "task") == "task"]

    def definition(self, name: str) -> Definition:
        """Return what lm-eval must read to build a name that may be run; raises like `runnable`."""
        entry = self.runnable(name)
        below = self._below(name)
        kinds = {found: EntryKind(stored.get("kind", "task")) for found, stored in below.items()}
        return Definition(
            name=name,
            kind=entry.kind,
            yaml_paths={
                found: stored["yaml_path"] for found, stored in below.items() if "yaml_path" in stored
            },
            groups=[found for found, kind in kinds.items() if kind is EntryKind.GROUP],
            tags={found: below[found]["members"] for found, kind in kinds.items() if kind is EntryKind.TAG},
        )

    def nearest(self, name: str, count: int = 5) -> list[str]:
        """Return the `count` names most like `name`, best first; spaces count as underscores."""
        wanted = "_".join(name.lower().split())
        grams = _trigrams(wanted)

        def overlap(task: str) -> float:
            other = self._trigrams_of_names[task]
            return len(grams & other) / (len(grams | other) or 1)

        candidates = sorted(self._trigrams_of_names, key=overlap, reverse=True)[:_CANDIDATES]
        matcher = difflib.SequenceMatcher(b=wanted, autojunk=False)

        def similarity(task: str) -> float:
            matcher.set_seq1(task.lower())
            return matcher.ratio()

        return sorted(candidates, key=similarity, reverse=True)[:count]

    def search(
        self,
        text: str,
        limit: int = 20,
        *,
        status: TaskStatus | None = None,
        kind: EntryKind | None = None,
    ) -> list[IndexEntry]:
        """Return entries whose name, tags or groups hold every word of `text`; the closest names first.

        An exact name leads, then names that begin with the text, then shorter ones. Empty text lists by name.
        Nothing found is an empty list: `nearest` then suggests what may have been meant.
        """
        words = text.lower().split()
        whole = "_".join(words)

        def rank(name: str) -> tuple[bool, bool, bool, int, str]:
            lower = name.lower()
            in_name = all(word in lower for word in words)
            return (lower != whole, not lower.startswith(whole), not in_name, len(name) if words else 0, name)

        found: list[IndexEntry] = []
        places = self._places
        for name in sorted(
            (name for name in places if all(word in places[name] for word in words)), key=rank
        ):
            if len(found) == limit:
                break
            entry = self.get(name)
            if status in (None, entry.status) and kind in (None, entry.kind):
                found.append(entry)
        return found

    def _stored(self, name: str) -> dict[str, Any]:
        """Return the fields of an entry; raises `UnknownTask`."""
        text = self._entries.get(name)
        if text is None:
            raise UnknownTask(task=name, nearest=self.nearest(name))
        stored: dict[str, Any] = json.loads(text)
        return stored

    def _below(self, name: str) -> dict[str, dict[str, Any]]:
        """Return a name and all that it refers to, however deep, with their fields."""
        found: dict[str, dict[str, Any]] = {}
        waiting = [name]
        while waiting:
            current = waiting.pop(0)
            if current not in found:
                found[current] = self._stored(current)
                waiting = [*(found[current].get("references") or found[current].get("members", [])), *waiting]
        return found

    @cached_property
    def _places(self) -> dict[str, str]:
        """What a search looks at, by name: the name, the tags and the groups, in lower case."""
        places = {}
        for name, text in self._entries.items():
            stored = json.loads(text)
            places[name] = " ".join([name, *stored.get("tags", ()), *stored.get("groups", ())]).lower()
        return places

    @cached_property
    def _trigrams_of_names(self) -> dict[str, frozenset[str]]:
        """The three-letter pieces of every name."""
        return {name: _trigrams(name.lower()) for name in self._entries}


def index_path(cache_dir: Path) -> Path:
    """Where the index lies under a cache directory, for the installed lm-eval and the code that builds it."""
    version = importlib.metadata.version("lm-eval")
    digest = hashlib.sha256()
    for module in _BUILDERS:
        digest.update(Path(__file__).with_name(f"{module}.py").read_bytes())
    return cache_dir / f"lm-eval-tasks-{version}-{digest.hexdigest()[:12]}.index"


def load_task_index(cache_dir: Path | None = None) -> TaskIndex:
    """Read the index, building it first (10-20 s, in a process of its own) where it is absent.

    Blocks; call it from a thread where there is an event loop. Several processes may call it at once: one
    builds. Calling again costs nothing. Raises `HarnessFailed` where the build does not succeed.
    """
    path = index_path(cache_dir or default_cache_directory())
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _build_in_process(path)
    return read_index(path)


@lru_cache(maxsize=4)
def read_index(path: Path) -> TaskIndex:
    """Read an index file as it is, once per process: the file of a version never changes."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return TaskIndex(dict(line.split("\t", 1) for line in lines))


def _build_in_process(path: Path) -> None:
    """Build the index in a child, so that lm-eval's 350 MB never enter this process."""
    command = [sys.executable, "-m", "assay_harness.index", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        problem = f"building the task index took more than {_BUILD_SECONDS} s"
        raise HarnessFailed(problem, traceback_text=str(error.stderr or "")) from error
    if done.returncode or not path.exists():
        raise HarnessFailed("building the task index failed", traceback_text=done.stderr)


def _decode(name: str, stored: Mapping[str, Any]) -> IndexEntry:
    """Make an entry of its stored fields."""
    kind, status = EntryKind(stored.get("kind", "task")), TaskStatus(stored.get("status", "ok"))
    return IndexEntry(**{**stored, "name": name, "kind": kind, "status": status})


def _trigrams(text: str) -> frozenset[str]:
    """Return the three-letter pieces of a text with marked ends."""
    padded = f"  {text} "
    return frozenset(padded[start : start + 3] for start in range(len(padded) - 2))


def main(arguments: list[str]) -> int:
    """Build the index into the file named by the only argument; the file appears whole or not at all."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m assay_harness.index FILE\n")
        return 2
    # Imported here because it loads lm-eval, which everybody else who imports this module must not.
    from assay_harness.index_builder import build_entries

    path = Path(arguments[0])
    partial = path.with_suffix(f".{os.getpid()}.partial")
    # ASCII, so that no name or text holds anything that a reader takes for the end of a line.
    lines = [
        f"{name}\t{json.dumps(entry, separators=(',', ':'))}\n" for name, entry in build_entries().items()
    ]
    partial.write_text("".join(lines), encoding="utf-8")
    partial.replace(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What groups and tags consist of, and whether all of it can be run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lm_eval.tasks._index import Entry, Kind

from assay_harness.index import TaskStatus

_TASKS = (Kind.TASK, Kind.PY_TASK)


@dataclass(frozen=True, slots=True)
class Collection:
    """A group, or a tag, which is a group without metrics of its own.

    `members` are its direct children under lm-eval's names (`group::inner` for a group that is written inside
    another's file); `references` the names of the index that it refers to at any depth of its own file.
    `output_type` is that of all its tasks, or "mixed".
    """

    kind: str
    members: list[str]
    references: list[str]
    output_type: str
    missing_packages: list[str]
    refusal: str | None
    status: str


def describe_collections(
    index: Mapping[str, Entry], *, tasks: Mapping[str, Mapping[str, Any]]
) -> dict[str, Collection]:
    """Describe all groups and tags; `tasks` are the described tasks."""
    return {
        name: _describe(name, index=index, tasks=tasks)
        for name, entry in index.items()
        if entry.kind not in _TASKS
    }


def _describe(name: str, *, index: Mapping[str, Entry], tasks: Mapping[str, Mapping[str, Any]]) -> Collection:
    """Describe one group or tag by its own file and the tasks below it."""
    entry = index[name]
    leaves, problem = _leaves(name, index, path=())
    refused = next((leaf for leaf in leaves if tasks[leaf]["refusal"]), None)
    status = TaskStatus.OK
    if problem is None and not leaves:
        problem = "it names no task"
    if problem is not None:
        status = TaskStatus.UNSUPPORTED
    elif refused is not None:
        status = TaskStatus(tasks[refused]["status"])
        problem = f"its task {refused!r} cannot be run here: {tasks[refused]['refusal']}"
    elif any(tasks[leaf]["status"] == TaskStatus.NEEDS_LOG_PROBABILITIES for leaf in leaves):
        status = TaskStatus.NEEDS_LOG_PROBABILITIES
    types = {tasks[leaf]["output_type"] for leaf in leaves}
    return Collection(
        kind="tag" if entry.kind is Kind.TAG else "group",
        members=_members(entry, index),
        references=_references(entry, index),
        output_type=types.pop() if len(types) == 1 else "mixed",
        missing_packages=sorted({package for leaf in leaves for package in tasks[leaf]["missing_packages"]}),
        refusal=problem,
        status=status,
    )


def _items(entry: Entry) -> list[Any]:
    """Return what a group's file lists, or a tag's tasks in lm-eval's order."""
    if entry.kind is Kind.TAG:
        return sorted(entry.tags)
    listed = (entry.cfg or {}).get("task") or []
    return listed if isinstance(listed, list) else [listed]


def _members(entry: Entry, index: Mapping[str, Entry]) -> list[str]:
    """Return the names of the direct children."""
    names = []
    for item in _items(entry):
        inline = isinstance(item, dict) and "group" in item and item["group"] not in index
        name = (item.get("group") or item.get("task")) if isinstance(item, dict) else item
        names.append(f"{entry.name}::{name}" if inline else str(name))
    return list(dict.fromkeys(names))


def _references(entry: Entry, index: Mapping[str, Entry]) -> list[str]:
    """Return the names of the index in a group's file, at any depth."""
    return list(dict.fromkeys(name for name, _ in _referenced(_items(entry), index) if name in index))


def _referenced(items: list[Any], index: Mapping[str, Entry]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each name that a list of members refers to, with the settings given beside it."""
    for item in items:
        if not isinstance(item, dict):
            yield str(item), {}
        elif "group" in item and item["group"] not in index:
            inner = item.get("task") or []
            yield from _referenced(inner if isinstance(inner, list) else [inner], index)
        else:
            name = item.get("group") or item.get("task")
            yield str(name), item


def _leaves(name: str, index: Mapping[str, Entry], *, path: tuple[str, ...]) -> tuple[list[str], str | None]:
    """Return the tasks below a name, each once, and what lm-eval cannot build, in words."""
    if name in path:
        return [], f"it contains itself ({name!r})"
    if index[name].kind in _TASKS:
        return [name], None
    leaves: dict[str, None] = {}
    problem = None
    for child, settings in _referenced(_items(index[name]), index):
        problem = problem or _problem(child, settings, index)
        if child in index:
            below, deeper = _leaves(child, index, path=(*path, name))
            leaves |= dict.fromkeys(below)
            problem = problem or deeper
    return list(leaves), problem


def _problem(child: str, settings: Mapping[str, Any], index: Mapping[str, Entry]) -> str | None:
    """Say why lm-eval cannot build one member, None where it can."""
    if child not in index:
        return f"it defines a task of its own inside the group ({child!r})"
    if settings and index[child].kind not in _TASKS:
        return f"it changes settings of {child!r} in a way that gives all of its tasks one name"
    if "include" in settings:
        return f"it includes a file into its task {child!r}, which lm-eval does not carry out"
    return None

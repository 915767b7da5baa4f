"""A name of the index as lm-eval builds it: one task, or a group's tree with our tasks as its leaves."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval.api.group import Group
from lm_eval.api.task import Task
from lm_eval.evaluator_utils import EvalAcc, _propagate_higher_is_better, aggregate_groups
from lm_eval.tasks._factory import TaskFactory
from lm_eval.tasks._index import Entry, Kind

from assay_harness.errors import GroupRowsMismatch, HarnessError
from assay_harness.index import Definition, EntryKind
from assay_harness.python_task import build_class
from assay_harness.rows import RowReader
from assay_harness.sources import PACKAGE_ROOT
from assay_harness.spec import GroupRows, RowFiles, Rows, TaskOptions
from assay_harness.task import BuiltTask, build_builtin, load_definition


@dataclass(frozen=True, slots=True)
class BuiltDefinition:
    """The tasks of a name in lm-eval's order, and the groups that it aggregates over them."""

    tasks: list[BuiltTask]
    groups: dict[str, Group]


def build_definition(definition: Definition, *, options: TaskOptions, rows: Rows) -> BuiltDefinition:
    """Construct all tasks of a name; raises `GroupRowsMismatch` and what `task.build_builtin` raises."""
    reader = RowReader(options.column_mapping)
    if definition.kind is EntryKind.TASK:
        files = rows_of(definition.name, rows, tasks=[definition.name])
        path = Path(definition.yaml_paths[definition.name])
        return BuiltDefinition(
            tasks=[build_task(definition.name, path, options=options, rows=files, reader=reader)],
            groups={},
        )
    factory = _PinnedFactory(options=options, rows=rows, reader=reader, tasks=_task_names(definition))
    registry = _registry(definition)
    root = factory.build(registry[definition.name], registry=registry)
    groups: dict[str, Group] = {}
    leaves: list[Task] = root
    if isinstance(root, Group):
        groups = {group.name: group for group in (root, *root.get_all_groups())}
        leaves = root.get_all_tasks()
    # As lm-eval does: a task that occurs twice is asked once, in its first place, as built the last time.
    tasks = {task.config.task: factory.built[id(task)] for task in leaves}
    return BuiltDefinition(tasks=list(tasks.values()), groups=groups)


def build_task(
    name: str,
    yaml_path: Path,
    *,
    options: TaskOptions,
    rows: RowFiles,
    reader: RowReader,
    overrides: Mapping[str, Any] | None = None,
) -> BuiltTask:
    """Construct one task, be it a YAML file or a class; raises what either kind raises."""
    path = PACKAGE_ROOT / yaml_path
    config = load_definition(name, path)
    if "class" in config:
        return build_class(name, path, config["class"], options=options, rows=rows, reader=reader)
    return build_builtin(yaml_path, config, options=options, rows=rows, reader=reader, overrides=overrides)


def rows_of(task: str, rows: Rows, *, tasks: list[str]) -> RowFiles:
    """Return the rows of a task; `RowFiles` serve every task. Raises `GroupRowsMismatch`."""
    if isinstance(rows, GroupRows):
        missing = [name for name in tasks if name not in rows.members]
        unknown = [name for name in rows.members if name not in tasks]
        if missing or unknown:
            raise GroupRowsMismatch(missing=missing, unknown=unknown)
        return rows.members[task]
    return rows


def aggregate_metrics(
    metrics: dict[str, dict[str, Any]],
    groups: Mapping[str, Group],
    *,
    higher_is_better: Mapping[str, Mapping[str, bool | None]],
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, bool | None]]]:
    """Add the groups' metrics and directions to those of the tasks, by lm-eval's own rules."""
    results = EvalAcc(metrics=dict(metrics), groups=dict(groups))
    aggregate_groups(results)
    directions = {name: dict(directions) for name, directions in higher_is_better.items()}
    _propagate_higher_is_better(list(groups.values()), directions)
    return results.metrics, directions


class _PinnedFactory(TaskFactory):  # type: ignore[misc]
    """lm-eval's builder of groups, which takes every task from us."""

    def __init__(self, *, options: TaskOptions, rows: Rows, reader: RowReader, tasks: list[str]) -> None:
        super().__init__()
        self._options = options
        self._rows = rows
        self._reader = reader
        self._tasks = tasks
        self.built: dict[int, BuiltTask] = {}

    def _build_task(self, entry: Entry, overrides: dict[str, Any] | None) -> Task:
        """Construct a task on its rows and remember how it was built; an error says which task it was."""
        rows = rows_of(entry.name, self._rows, tasks=self._tasks)
        try:
            built = build_task(
                entry.name,
                entry.yaml_path.relative_to(PACKAGE_ROOT),
                options=self._options,
                rows=rows,
                reader=self._reader,
                overrides=overrides,
            )
        except HarnessError as error:
            error.args = (f"in task {entry.name!r}: {error}",)
            raise
        self.built[id(built.task)] = built
        return built.task


def _task_names(definition: Definition) -> list[str]:
    """Return the names of the definition's tasks."""
    return [name for name in definition.yaml_paths if name not in definition.groups]


def _registry(definition: Definition) -> dict[str, Entry]:
    """Return the part of lm-eval's index that the definition needs."""
    registry = {
        name: Entry(
            name=name,
            kind=Kind.GROUP if name in definition.groups else Kind.TASK,
            yaml_path=PACKAGE_ROOT / path,
        )
        for name, path in definition.yaml_paths.items()
    }
    tags = {
        name: Entry(name=name, kind=Kind.TAG, yaml_path=None, tags=set(tasks))
        for name, tasks in definition.tags.items()
    }
    return registry | tags

"""Tasks that lm-eval has as Python classes: the class itself, on our rows instead of those it would fetch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from lm_eval.api.task import ConfigurableTask

from assay_harness.class_scan import ClassFacts, scan_class
from assay_harness.deviations import find_deviations
from assay_harness.errors import InvalidOptions, TaskRefused, UnmappedColumn
from assay_harness.fewshot import SplitPlan
from assay_harness.results import FewshotSource
from assay_harness.rows import RowReader
from assay_harness.sources import config_sha256, file_digests, function_references, unresolved_config
from assay_harness.spec import RowFiles, TaskOptions
from assay_harness.task import BuiltTask, generation_overrides


def build_class(
    name: str,
    path: Path,
    task_class: type[ConfigurableTask],
    *,
    options: TaskOptions,
    rows: RowFiles,
    reader: RowReader,
) -> BuiltTask:
    """Construct a task that is a class; `path` is its YAML file, which names the class.

    Raises `UnmappedColumn`, `InvalidOptions` for what such a class does not offer, `TaskRefused`,
    `RowFileProblem`.
    """
    definition = unresolved_config(path)
    facts = _facts(name, definition)
    _check_options(name, options)
    evaluation = reader.read(rows.evaluation)
    missing = [column for column in facts.columns if column not in evaluation.column_names]
    if missing:
        raise UnmappedColumn(columns=missing, available=evaluation.column_names)
    role = facts.splits.get("test") or facts.splits["validation"]
    task = _pin(task_class, {role: evaluation})
    task.config.task = name
    task.set_config("repeats", options.repeats or task.config.repeats)
    task.set_config("generation_kwargs", generation_overrides(options), update=True)
    task.set_config("num_fewshot", 0)
    _check_arguments(task, options)
    plan = SplitPlan(
        evaluation=role,
        evaluation_role=role,
        fewshot=None,
        source=FewshotSource.NONE,
        canonical=True,
        own_fewshot=None,
        overrides={},
    )
    described = {"dataset_path": facts.dataset_path, "dataset_name": facts.dataset_name}
    return BuiltTask(
        task=task,
        plan=plan,
        num_fewshot=0,
        fewshot_pool_size=0,
        rows=rows,
        row_problems={},
        columns=evaluation.column_names,
        config_sha256=config_sha256(definition),
        file_sha256=file_digests(path),
        deviations=find_deviations(described, plan=plan, num_fewshot=0, rows=rows, options=options),
    )


def request_arguments(task: ConfigurableTask) -> dict[str, Any]:
    """Return the generation arguments of a task's first request: a class may write them into its code."""
    instances = task.construct_requests(doc=task.eval_docs[0], ctx="", metadata=(task.config.task, 0, 1))
    first = instances[0] if isinstance(instances, list) else instances
    arguments: dict[str, Any] = first.args[1]
    return arguments


def _facts(name: str, definition: Mapping[str, Any]) -> ClassFacts:
    """Scan the file of the class that a definition names."""
    for path, class_name in function_references(definition.get("class")):
        facts = scan_class(path, class_name)
        if facts is not None and ("test" in facts.splits or "validation" in facts.splits):
            return facts
    raise TaskRefused(task=name, reason="its class does not say which split it evaluates on")


def _check_options(name: str, options: TaskOptions) -> None:
    """Refuse what lm-eval itself cannot do with such a class."""
    if options.num_fewshot:
        problem = f"task {name!r} is a class whose documents cannot be examples; leave it out or set it to 0"
        raise InvalidOptions(option="num_fewshot", problem=problem)


def _check_arguments(task: ConfigurableTask, options: TaskOptions) -> None:
    """Refuse generation arguments that the class would ignore without a word."""
    used = request_arguments(task)
    ignored = [key for key, value in generation_overrides(options).items() if used.get(key) != value]
    if ignored:
        problem = f"task {task.config.task!r} has its own values for {', '.join(sorted(ignored))} in its code"
        raise InvalidOptions(option="generation_kwargs", problem=problem)


def _pin(task_class: type[ConfigurableTask], splits: Mapping[str, Any]) -> ConfigurableTask:
    """Construct the class with its download replaced by given splits."""

    def download(self: Any, *arguments: object, **options: object) -> None:
        self.dataset = splits

    try:
        return type(task_class.__name__, (task_class,), {"download": download})(config=None)
    except (KeyError, jinja2.UndefinedError) as error:
        available = next(iter(splits.values())).column_names
        raise UnmappedColumn(columns=[str(error).strip("'")], available=available) from error

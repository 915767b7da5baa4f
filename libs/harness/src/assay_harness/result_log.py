"""Stored numbers in the layout of lm-eval's results file, put together by lm-eval's own code."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lm_eval.api.group import Group
from lm_eval.evaluator_utils import EvalAcc, aggregate_groups
from lm_eval.utils import handle_non_serializable
from pydantic import JsonValue

if TYPE_CHECKING:
    from assay_harness.evaluation import TaskEvaluation

ABSENT = "N/A"
"""lm-eval's word for a number that there is not; JSON has none for "not a number" either."""


def results_document(
    tasks: Sequence["TaskEvaluation"],
    groups: Mapping[str, Group],
    *,
    metrics: Mapping[str, float | None],
    sample_counts: Mapping[str, int],
) -> dict[str, JsonValue]:
    """Lay stored metrics out as `lm_eval.evaluate` does; the rest comes from the constructed tasks.

    `metrics` go by `<task>.<metric>,<filter>`, `sample_counts` by task: documents behind its numbers.
    """
    numbers = _by_name(metrics, [*(task.name for task in tasks), *groups])
    results = EvalAcc(groups=dict(groups))
    for task in tasks:
        built = task.built.task
        config = dict(built.dump_config())
        count = sample_counts.get(task.name, 0)
        results.metrics[task.name] = {
            "name": task.name,
            "alias": config.get("task_alias", task.name),
            "sample_len": count,
            **numbers[task.name],
        }
        results.configs[task.name] = config
        results.versions[task.name] = built.VERSION
        results.num_fewshot[task.name] = task.built.num_fewshot
        results.higher_is_better[task.name] = task.scorer.higher_is_better()
        results.n_samples[task.name] = {"original": task.row_count, "effective": count}
    _add_groups(results, numbers)
    document = results._to_eval_results()
    laid_out: dict[str, JsonValue] = json.loads(json.dumps(document, default=_plain, ensure_ascii=False))
    return laid_out


def _add_groups(results: EvalAcc, numbers: Mapping[str, Mapping[str, Any]]) -> None:
    """Let lm-eval shape the groups' entries, and put the stored numbers into them.

    It adds numbers up where it finds them, so that "N/A" must not be among those of the tasks meanwhile.
    """
    stored = results.metrics
    results.metrics = {name: _summable(entry) for name, entry in stored.items()}
    aggregate_groups(results)
    for name, entry in results.metrics.items():
        if name in stored:
            results.metrics[name] = stored[name]
        else:
            results.metrics[name] = {**entry, **numbers[name]}


def _plain(value: object) -> object:
    """As lm-eval writes what is no JSON, but a function by its name: its address differs from run to run."""
    name = getattr(value, "__qualname__", None)
    return name if callable(value) and isinstance(name, str) else handle_non_serializable(value)


def _summable(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A task's entry without metrics that have no number; "N/A" as a standard error is one that it knows."""
    return {
        key: value
        for key, value in entry.items()
        if value != ABSENT or key.partition(",")[0].endswith("_stderr")
    }


def _by_name(metrics: Mapping[str, float | None], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The metrics of each task and group, by `<metric>,<filter>`; a name may contain dots."""
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    longest_first = sorted(names, key=len, reverse=True)
    for full, value in metrics.items():
        owner = next((name for name in longest_first if full.startswith(f"{name}.")), None)
        if owner is not None:
            found[owner][full[len(owner) + 1 :]] = ABSENT if value is None else value
    return found

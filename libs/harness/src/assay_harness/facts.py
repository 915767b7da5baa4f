"""What is written down about a task before anything is asked."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from lm_eval.api.group import Group
from lm_eval.models.utils import normalize_gen_kwargs
from pydantic import JsonValue

from assay_harness.index import Definition, EntryKind
from assay_harness.python_task import request_arguments
from assay_harness.results import Deviation, FewshotSource, MemberFacts, RequestKind, TaskFacts
from assay_harness.sources import PACKAGE_ROOT, config_sha256
from assay_harness.task import PinnedTask

if TYPE_CHECKING:
    from assay_harness.evaluation import TaskEvaluation

_Item = TypeVar("_Item")
_MEMBER_FIELDS = [item.name for item in dataclasses.fields(MemberFacts) if item.name not in ("start", "stop")]

KINDS = {
    "generate_until": RequestKind.GENERATE,
    "loglikelihood": RequestKind.LOGLIKELIHOOD,
    "multiple_choice": RequestKind.LOGLIKELIHOOD,
    "loglikelihood_rolling": RequestKind.ROLLING,
}
_LIBRARIES = ("lm-eval", "datasets", "jinja2", "numpy", "pyarrow", "sacrebleu", "scikit-learn")


def generation_arguments(arguments: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Normalise generation arguments under lm-eval's rules: always `until` as a list, `max_gen_toks`,

    `temperature` and `do_sample`; other keys pass as they are.
    """
    normalised: dict[str, JsonValue] = json.loads(json.dumps(dict(normalize_gen_kwargs(dict(arguments)))))
    normalised.setdefault("temperature", 0.0)
    return normalised


def definition_facts(
    tasks: Sequence["TaskEvaluation"], *, definition: Definition | None, groups: Mapping[str, Group]
) -> TaskFacts:
    """Collect the facts of constructed tasks; `groups` are those of a definition that is no single task."""
    facts = [_task_facts(task) for task in tasks]
    if definition is None or definition.kind is EntryKind.TASK:
        return facts[0]
    root = groups.get(definition.name)
    paths = [definition.yaml_paths[name] for name in definition.groups]
    digests = {path: hashlib.sha256((PACKAGE_ROOT / path).read_bytes()).hexdigest() for path in paths}
    for member in facts:
        digests |= member.file_sha256
    generating = next((member for member in facts if member.generation_kwargs), facts[0])
    return TaskFacts(
        task=definition.name,
        version=root.version if root is not None else "N/A",
        output_type=_common(member.output_type for member in facts),
        request_kinds=_union(member.request_kinds for member in facts),
        needs_log_probabilities=any(member.needs_log_probabilities for member in facts),
        row_count=sum(member.row_count for member in facts),
        document_count=sum(member.document_count for member in facts),
        repeats=max(member.repeats for member in facts),
        columns=_union(member.columns for member in facts),
        evaluation_split=_common(member.evaluation_split for member in facts),
        evaluation_role=_common(member.evaluation_role for member in facts),
        num_fewshot=max(member.num_fewshot for member in facts),
        fewshot_source=_group_source(facts),
        fewshot_canonical=all(member.fewshot_canonical for member in facts),
        fewshot_pool_size=sum(member.fewshot_pool_size for member in facts),
        generation_kwargs=generating.generation_kwargs,
        until=generating.until,
        max_gen_toks=generating.max_gen_toks,
        metric_names=_union(member.metric_names for member in facts),
        filters=_union(member.filters for member in facts),
        higher_is_better={
            key: value for member in reversed(facts) for key, value in member.higher_is_better.items()
        },
        config_sha256=config_sha256(
            {"files": {path: digests[path] for path in paths}, "tasks": [m.config_sha256 for m in facts]}
        ),
        file_sha256=digests,
        library_versions=facts[0].library_versions,
        deviations=_union_of_deviations(facts),
        members=[
            MemberFacts(
                start=task.start,
                stop=task.start + task.count,
                **{name: getattr(member, name) for name in _MEMBER_FIELDS},
            )
            for task, member in zip(tasks, facts, strict=True)
        ],
    )


def _common(values: Iterable[str]) -> str:
    """Return what all values are, "mixed" where they differ."""
    found = set(values)
    return found.pop() if len(found) == 1 else "mixed"


def _union(lists: Iterable[Iterable[_Item]]) -> list[_Item]:
    """Return the items of all lists, each once, in order."""
    return list(dict.fromkeys(item for items in lists for item in items))


def _group_source(facts: Sequence[TaskFacts]) -> FewshotSource:
    """Return where examples come from: of members that differ, the one that is furthest from their tasks."""
    order = (FewshotSource.EVALUATION_ROWS, FewshotSource.ROWS, FewshotSource.TASK, FewshotSource.NONE)
    return next(source for source in order if any(member.fewshot_source is source for member in facts))


def _union_of_deviations(facts: Sequence[TaskFacts]) -> list[Deviation]:
    """Return the members' deviations, one for each field and message, with the members' names in front."""
    found: dict[str, list[tuple[str, Deviation]]] = {}
    for member in facts:
        for deviation in member.deviations:
            found.setdefault(deviation.field, []).append((member.task, deviation))
    result = []
    for items in found.values():
        task, first = items[0]
        more = f" (and {len(items) - 1} more of its tasks)" if len(items) > 1 else ""
        result.append(replace(first, message=f"{task}{more}: {first.message}"))
    return result


def _task_facts(evaluation: "TaskEvaluation") -> TaskFacts:
    """Collect the facts of one task."""
    built = evaluation.built
    task, rows = built.task, built.rows
    kind = KINDS[task.OUTPUT_TYPE]
    generation = {}
    if kind is RequestKind.GENERATE:
        own = isinstance(task, PinnedTask)
        generation = generation_arguments(task.config.generation_kwargs if own else request_arguments(task))
    until, max_gen_toks = generation.get("until"), generation.get("max_gen_toks")
    scorer = evaluation.scorer
    filters = list(scorer.filters)
    directions = {name: bool(value) for name, value in scorer.higher_is_better().items() if value is not None}
    return TaskFacts(
        task=evaluation.name,
        version=str(task.VERSION),
        output_type=task.OUTPUT_TYPE,
        request_kinds=[kind],
        needs_log_probabilities=kind is not RequestKind.GENERATE,
        row_count=evaluation.row_count,
        document_count=evaluation.count,
        repeats=task.config.repeats or 1,
        columns=built.columns,
        evaluation_split=rows.evaluation_split,
        evaluation_role=built.plan.evaluation_role,
        num_fewshot=built.num_fewshot,
        fewshot_source=built.plan.source,
        fewshot_canonical=built.plan.canonical
        and not any(found.field == "fewshot_split" and found.run_value for found in built.deviations),
        fewshot_pool_size=built.fewshot_pool_size,
        generation_kwargs=generation,
        until=[str(text) for text in until] if isinstance(until, list) else None,
        max_gen_toks=int(max_gen_toks) if isinstance(max_gen_toks, int) else None,
        metric_names=[f"{metric},{name}" for name in filters for metric in scorer.aggregation()],
        filters=filters,
        higher_is_better=directions,
        config_sha256=built.config_sha256,
        file_sha256=built.file_sha256,
        library_versions=_library_versions(),
        deviations=built.deviations,
    )


@functools.cache
def _library_versions() -> dict[str, str]:
    """Return the versions of what decides numbers; read once, as it takes 8 ms."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in _LIBRARIES
    }

"""What is written down about a task before anything is asked."""

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from typing import Any

from lm_eval.models.utils import normalize_gen_kwargs
from pydantic import JsonValue

from assay_harness.results import RequestKind, TaskFacts
from assay_harness.spec import RowFiles
from assay_harness.task import BuiltTask

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


def task_facts(built: BuiltTask, *, rows: RowFiles, count: int, row_count: int) -> TaskFacts:
    """Collect the facts of a constructed task; `count` documents of `row_count` will be evaluated."""
    task = built.task
    kind = KINDS[task.OUTPUT_TYPE]
    generation = generation_arguments(task.config.generation_kwargs) if kind is RequestKind.GENERATE else {}
    until, max_gen_toks = generation.get("until"), generation.get("max_gen_toks")
    filters = [ensemble.name for ensemble in task._filters]
    directions = {name: bool(value) for name, value in task.higher_is_better().items() if value is not None}
    return TaskFacts(
        task=task.config.task,
        version=str(task.VERSION),
        output_type=task.OUTPUT_TYPE,
        request_kinds=[kind],
        needs_log_probabilities=kind is not RequestKind.GENERATE,
        row_count=row_count,
        document_count=count,
        repeats=task.config.repeats or 1,
        columns=built.columns,
        evaluation_split=rows.evaluation_split,
        evaluation_role=built.plan.evaluation_role,
        num_fewshot=built.num_fewshot,
        fewshot_source=built.plan.source,
        fewshot_canonical=built.plan.canonical,
        fewshot_pool_size=built.fewshot_pool_size,
        generation_kwargs=generation,
        until=[str(text) for text in until] if isinstance(until, list) else None,
        max_gen_toks=int(max_gen_toks) if isinstance(max_gen_toks, int) else None,
        metric_names=[f"{metric},{name}" for name in filters for metric in task.aggregation()],
        filters=filters,
        higher_is_better=directions,
        config_sha256=built.config_sha256,
        file_sha256=built.file_sha256,
        library_versions={"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _LIBRARIES},
    )

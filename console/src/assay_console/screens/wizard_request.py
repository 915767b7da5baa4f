"""Between the fields of the wizard, which are text, and a run request of the API.

Every field is named by its dotted path in the request, as a refusal names it. What cannot be read is sent as
it was typed: the platform says what is wrong with it, in one place for all its clients.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from assay.models import Fault, Plan, Problem
from assay_console.gateway import ApiError
from assay_console.screens.assignments import BadLine, as_lines, assignments

GIBIBYTE = 2**30
MAPPING = "column_mapping."
MAPPING_LINES = "column_mapping"
YES = "yes"


def _integer(text: str) -> int | str:
    try:
        return int(text.replace(",", ""))
    except ValueError:
        return text


def _number(text: str) -> float | str:
    try:
        found = float(text)
    except ValueError:
        return text
    return found if -1e300 < found < 1e300 else text


def _bytes(text: str) -> int | str:
    found = _number(text)
    return found if isinstance(found, str) else round(found * GIBIBYTE)


def _is_yes(text: str) -> bool:
    return text == YES


def _sampling(text: str) -> dict[str, Any]:
    return {name: _json_or_text(value) for name, value in assignments(text).items()}


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


_READERS: Mapping[str, Callable[[str], Any]] = {
    "name": str,
    "artifact_id": str,
    "dataset_id": str,
    "snapshot_id": str,
    "method_id": str,
    "method_version": _integer,
    "fewshot_dataset_id": str,
    "fewshot_snapshot_id": str,
    "member_datasets": assignments,
    "member_fewshot_datasets": assignments,
    MAPPING_LINES: assignments,
    "options.limit": _integer,
    "options.batch_size": _integer,
    "options.concurrency": _integer,
    "options.num_fewshot": _integer,
    "options.serving.cpus": _number,
    "options.serving.memory_bytes": _bytes,
    "options.serving.accelerators": _integer,
    "options.serving.max_context_tokens": _integer,
    "options.generation_kwargs": _sampling,
    "options.system_instruction": str,
    "options.apply_chat_template": _is_yes,
    "options.fewshot_as_multiturn": _is_yes,
    "options.seeds.random": _integer,
    "options.seeds.numpy": _integer,
    "options.seeds.fewshot": _integer,
    "options.repeats": _integer,
    "options.bootstrap_iterations": _integer,
    "options.reuse_responses": _is_yes,
    "options.on_failure": str,
    "options.max_retries": _integer,
    "options.goodput.ttft_s": _number,
    "options.goodput.itl_s": _number,
    "options.goodput.latency_s": _number,
    "options.early_stop.baseline_run_id": str,
    "options.early_stop.margin": _number,
    "options.early_stop.metric": str,
    "options.early_stop.alpha": _number,
    "options.early_stop.looks": _integer,
    "options.early_stop.order_seed": _integer,
}
FIELDS = tuple(_READERS)
"""Names of all fields but those of the column mapping."""

DEFAULTS: Mapping[str, str] = {
    **dict.fromkeys(FIELDS, ""),
    "options.batch_size": "1",
    "options.concurrency": "1",
    "options.apply_chat_template": "no",
    "options.fewshot_as_multiturn": YES,
    "options.reuse_responses": "no",
    "options.on_failure": "score_zero",
}
ADVANCED = frozenset(FIELDS[FIELDS.index("options.serving.max_context_tokens") :]) | {
    "method_version",
    "snapshot_id",
    "fewshot_snapshot_id",
    "member_datasets",
    "member_fewshot_datasets",
}
"""Fields that are folded away as long as they are as they come."""

# Line breaks count in a system instruction, and so may its end.
_UNTRIMMED = frozenset({"options.system_instruction"})


def values_of(form: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a form or of a query that the wizard knows, as they were typed."""
    return {
        name: str(value) if name in _UNTRIMMED else str(value).strip()
        for name, value in form.items()
        if name in _READERS or name.startswith(MAPPING)
    }


def run_request(values: Mapping[str, str]) -> dict[str, Any]:
    """What ``POST /v1/evaluations`` takes; what is left empty is left to the platform.

    Raises:
        ApiError: a line of a field that holds several values cannot be read (422, as the platform words it).
    """
    body: dict[str, Any] = {"options": {}}
    for name, reader in _READERS.items():
        text = values.get(name, "")
        if text:
            _put(body, name.split("."), _read(name, reader, text))
    _choose_rows(body)
    if "baseline_run_id" not in body["options"].get("early_stop", {"baseline_run_id": None}):
        # The fields beside it mean nothing without a run to be judged against.
        del body["options"]["early_stop"]
    mapping = {
        name.removeprefix(MAPPING): column
        for name, column in values.items()
        if name.startswith(MAPPING) and column and column != name.removeprefix(MAPPING)
    }
    if mapping:
        body[MAPPING_LINES] = {**body.get(MAPPING_LINES, {}), **mapping}
    return body


def values_of_plan(plan: Plan) -> dict[str, str]:
    """The fields that ask for the same plan again, without its artifact."""
    extra = plan.model_extra or {}
    values: dict[str, str] = {
        "method_id": str(plan.method.get("id") or ""),
        "method_version": str(plan.method.get("version") or ""),
        "dataset_id": str(plan.dataset.get("id") or ""),
        "snapshot_id": str(plan.dataset.get("snapshot_id") or ""),
        "fewshot_snapshot_id": str((plan.fewshot or {}).get("snapshot_id") or ""),
        **_member_values(plan),
    }
    values |= {
        f"{MAPPING}{column}": str(named) for column, named in (extra.get("column_mapping") or {}).items()
    }
    for name in FIELDS:
        if name.startswith("options."):
            text = _text(name, _found(plan.options, name.split(".")[1:]))
            if text:
                values[name] = text
    return values


def _member_values(plan: Plan) -> dict[str, str]:
    """Datasets of a group's tasks, where they are not all the same one."""
    if not plan.members:
        return {}
    datasets = {member["task"]: str((member.get("dataset") or {}).get("id") or "") for member in plan.members}
    snapshots = {str((member.get("dataset") or {}).get("snapshot_id") or "") for member in plan.members}
    if len(snapshots) == 1:
        return {"snapshot_id": snapshots.pop()}
    return {"member_datasets": as_lines(datasets), "snapshot_id": ""}


def _choose_rows(body: dict[str, Any]) -> None:
    """Name the rows once, as the platform wants it: the narrower choice wins."""
    if body.get("member_datasets"):
        body.pop("dataset_id", None)
        body.pop("snapshot_id", None)
    elif body.get("snapshot_id"):
        body.pop("dataset_id", None)
    if body.get("fewshot_snapshot_id"):
        body.pop("fewshot_dataset_id", None)


def _read(name: str, reader: Callable[[str], Any], text: str) -> Any:
    try:
        return reader(text)
    except BadLine as error:
        fault = Fault(message=str(error), field=name)
        raise ApiError(422, Problem(title="Something is wrong with the input", errors=[fault])) from error


def _put(body: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        body = body.setdefault(name, {})
    body[path[-1]] = value


def _found(options: Mapping[str, Any], path: list[str]) -> Any:
    found: Any = options
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _text(name: str, value: Any) -> str:
    """A value as its field shows it."""
    match value:
        case None:
            return ""
        case bool():
            return YES if value else "no"
        case dict():
            return as_lines({key: json.dumps(one, ensure_ascii=False) for key, one in value.items()})
        case int() if name.endswith("_bytes"):
            return f"{value / GIBIBYTE:g}"
        case float():
            return f"{value:g}"
    return str(value)

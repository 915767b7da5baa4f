"""Builds the static task index from the installed lm-eval (seconds of YAML parsing; runs no task's code)."""

import importlib.util
import logging
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import jinja2
from lm_eval.api.registry import metric_registry
from lm_eval.tasks._index import Entry, Kind, TaskIndex

from assay_harness.columns import required_columns
from assay_harness.module_scan import ModuleScanner
from assay_harness.sources import PACKAGE_ROOT, relative_references

_ROLES = ("training", "validation", "test", "fewshot")
_RENDERED = ("doc_to_text", "doc_to_target", "doc_to_choice", "description", "gen_prefix")
_MEMBERS_SHOWN = 8


def build_entries() -> dict[str, dict[str, Any]]:
    """Return name -> fields of `index.IndexEntry` that differ from their defaults, for all names, sorted."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    index = TaskIndex.build([PACKAGE_ROOT / "tasks"])
    groups = _group_members(index)
    memberships: dict[str, list[str]] = defaultdict(list)
    for group, members in sorted(groups.items()):
        for member in members:
            memberships[member].append(group)
    scanner = ModuleScanner(PACKAGE_ROOT)
    entries = {}
    for name in sorted(index):
        entry = index[name]
        if entry.kind in (Kind.TASK, Kind.PY_TASK):
            described = _task(entry, groups=memberships[name], scanner=scanner)
        else:
            members = groups.get(name) or sorted(entry.tags)
            described = _collection(entry, members)
        entries[name] = {key: value for key, value in described.items() if value not in (None, "", [], {})}
    return entries


def _group_members(index: Mapping[str, Entry]) -> dict[str, list[str]]:
    """Return the names that each group lists."""
    members = {}
    for name, entry in index.items():
        if entry.kind is Kind.GROUP:
            listed = (entry.cfg or {}).get("task") or []
            items = listed if isinstance(listed, list) else [listed]
            names = [
                item.get("task") or item.get("group") if isinstance(item, dict) else item for item in items
            ]
            members[name] = [member for member in names if isinstance(member, str)]
    return members


def _collection(entry: Entry, members: list[str]) -> dict[str, Any]:
    """Describe a group or tag: it is known, so that its name gets a helpful refusal."""
    kind = "group" if entry.kind is Kind.GROUP else "tag"
    shown = ", ".join(members[:_MEMBERS_SHOWN]) + (", ..." if len(members) > _MEMBERS_SHOWN else "")
    return {
        "kind": kind,
        "members": members,
        "refusal": f"it is a {kind} of {len(members)}, each with its own rows; run them one by one: {shown}",
    }


def _task(entry: Entry, *, groups: list[str], scanner: ModuleScanner) -> dict[str, Any]:
    """Describe a task from its merged YAML, functions unresolved."""
    config = relative_references(entry.cfg or {})
    if not isinstance(config, dict):
        raise TypeError(f"{entry.name} is not described by a mapping")
    metadata = config.get("metadata")
    version = metadata.get("version") if isinstance(metadata, dict) else None
    return {
        "yaml_path": entry.yaml_path.resolve().relative_to(PACKAGE_ROOT).as_posix()
        if entry.yaml_path
        else "",
        "output_type": "" if entry.kind is Kind.PY_TASK else config.get("output_type", "generate_until"),
        "version": "" if version is None else str(version),
        "splits": {role: str(config[f"{role}_split"]) for role in _ROLES if config.get(f"{role}_split")},
        "dataset_path": _text(config.get("dataset_path")),
        "dataset_name": _text(config.get("dataset_name")),
        "num_fewshot": config.get("num_fewshot"),
        "columns": _columns(config),
        "tags": sorted(entry.tags),
        "groups": groups,
        "missing_packages": [
            name for name in scanner.packages(config) if importlib.util.find_spec(name) is None
        ],
        "refusal": _refusal(config, scanner),
    }


def _text(value: object) -> str:
    """Return a YAML scalar as text, nothing for nothing."""
    return "" if value is None else str(value)


def _refusal(config: Mapping[str, Any], scanner: ModuleScanner) -> str | None:
    """Return the first reason against running the task, in words."""
    if "class" in config:
        return "it is a Python class with data handling of its own, which cannot be given registered rows"
    if config.get("unsafe_code"):
        return "it executes code that the model wrote"
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        return "it needs images or sound; only text can be evaluated"
    if "llm_judge" in _text(config.get("process_results")):
        return "it asks another language model over the network to judge the answers"
    if config.get("custom_dataset"):
        return "it generates its own rows, so it cannot be evaluated on a registered dataset"
    if config.get("use_prompt"):
        return "it takes its prompts from a collection outside lm-eval"
    if not (config.get("test_split") or config.get("validation_split")):
        return "it names neither a test nor a validation split"
    if scanner.loads_from_hub(config) or _has_hub_metric(config):
        return "one of its metrics is code that would be downloaded and executed"
    return None


def _has_hub_metric(config: Mapping[str, Any]) -> bool:
    """Whether lm-eval would look a metric up outside its own registry."""
    if config.get("process_results") is not None:
        return False
    for metric in config.get("metric_list") or []:
        name = metric.get("metric")
        is_function = isinstance(name, str) and name.startswith("tasks/")
        if metric.get("hf_evaluate") or not (is_function or name in metric_registry):
            return True
    return False


def _columns(config: Mapping[str, Any]) -> list[str] | None:
    """Return the columns that the task reads, None where code decides (or the templates are unreadable)."""
    if config.get("process_docs") or "class" in config:
        return None
    names: set[str] = set()
    for field in _RENDERED:
        value = config.get(field)
        if isinstance(value, str):
            found = _columns_of_text(value)
            if found is None:
                return None
            names |= found
    return sorted(names)


def _columns_of_text(text: str) -> set[str] | None:
    """Return the columns that one template reads; a function's are unknown."""
    if text.startswith("tasks/"):
        return None
    try:
        return required_columns(text)
    except jinja2.TemplateSyntaxError:
        return None

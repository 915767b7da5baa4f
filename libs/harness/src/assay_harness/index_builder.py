"""Builds the static task index from the installed lm-eval (seconds of YAML parsing; runs no task's code)."""

import importlib.util
import logging
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import jinja2
from lm_eval.tasks._index import Entry, Kind, TaskIndex

from assay_harness.columns import required_columns
from assay_harness.group_scan import Collection, describe_collections
from assay_harness.module_scan import ModuleScanner
from assay_harness.refusals import class_facts, refuse
from assay_harness.sources import PACKAGE_ROOT, relative_references

_ROLES = ("training", "validation", "test", "fewshot")
_RENDERED = ("doc_to_text", "doc_to_target", "doc_to_choice", "description", "gen_prefix")
_SCORED = ("multiple_choice", "loglikelihood", "loglikelihood_rolling")


def build_entries() -> dict[str, dict[str, Any]]:
    """Return name -> fields of `index.IndexEntry` that differ from their defaults, for all names, sorted."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    index = TaskIndex.build([PACKAGE_ROOT / "tasks"])
    scanner = ModuleScanner(PACKAGE_ROOT)
    described = {
        name: _task(entry, scanner=scanner)
        for name, entry in index.items()
        if entry.kind in (Kind.TASK, Kind.PY_TASK)
    }
    memberships: dict[str, list[str]] = defaultdict(list)
    for name, collection in sorted(describe_collections(index, tasks=described).items()):
        if collection.kind == "group":
            for member in collection.members:
                memberships[member].append(name)
        described[name] = _collection(index[name], collection)
    for name, groups in memberships.items():
        if name in described:
            described[name]["groups"] = groups
    return {name: _without_defaults(described[name]) for name in sorted(described)}


def _without_defaults(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what an entry says by being silent."""
    return {key: value for key, value in entry.items() if value not in (None, "", [], {}, "ok")}


def _collection(entry: Entry, collection: Collection) -> dict[str, Any]:
    """Describe a group or tag."""
    return {
        "kind": collection.kind,
        "yaml_path": _yaml_path(entry),
        "version": _version(entry.cfg or {}),
        "tags": sorted(entry.tags) if collection.kind == "group" else [],
        "output_type": collection.output_type,
        "members": collection.members,
        "references": collection.references if collection.references != collection.members else [],
        "missing_packages": collection.missing_packages,
        "refusal": collection.refusal,
        "status": collection.status,
    }


def _task(entry: Entry, *, scanner: ModuleScanner) -> dict[str, Any]:
    """Describe a task from its merged YAML, functions unresolved."""
    config = relative_references(entry.cfg or {})
    if not isinstance(config, dict):
        raise TypeError(f"{entry.name} is not described by a mapping")
    refusal = refuse(config, scanner)
    facts = class_facts(config)
    if facts is not None:
        config |= {
            "output_type": facts.output_type,
            "dataset_path": facts.dataset_path,
            "dataset_name": facts.dataset_name,
            "metadata": {"version": facts.version},
            **{f"{role}_split": split for role, split in facts.splits.items()},
        }
    output_type = config.get("output_type", "generate_until")
    return {
        "yaml_path": _yaml_path(entry),
        "output_type": output_type,
        "version": _version(config),
        "splits": {role: str(config[f"{role}_split"]) for role in _ROLES if config.get(f"{role}_split")},
        "dataset_path": _text(config.get("dataset_path")),
        "dataset_name": _text(config.get("dataset_name")),
        "num_fewshot": config.get("num_fewshot"),
        "columns": facts.columns if facts else _columns(config),
        "tags": sorted(entry.tags),
        "missing_packages": [
            name for name in scanner.packages(config) if importlib.util.find_spec(name) is None
        ],
        "refusal": refusal and refusal.reason,
        "status": refusal.status
        if refusal
        else "needs-log-probabilities"
        if output_type in _SCORED
        else "ok",
    }


def _yaml_path(entry: Entry) -> str:
    """Return the entry's file relative to the lm-eval package, nothing for a tag."""
    return entry.yaml_path.resolve().relative_to(PACKAGE_ROOT).as_posix() if entry.yaml_path else ""


def _version(config: Mapping[str, Any]) -> str:
    """Return the version in the metadata, nothing where there is none."""
    metadata = config.get("metadata")
    return _text(metadata.get("version")) if isinstance(metadata, dict) else ""


def _text(value: object) -> str:
    """Return a YAML scalar as text, nothing for nothing."""
    return "" if value is None else str(value)


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

"""Why a task of lm-eval is not run by this platform, found in its definition without running its code."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from lm_eval.api.registry import metric_registry

from assay_harness.class_scan import ClassFacts, scan_class
from assay_harness.index import TaskStatus
from assay_harness.module_scan import ModuleScanner
from assay_harness.sources import function_references

_NETWORK_CLIENTS = {"requests", "httpx", "aiohttp", "openai", "anthropic"}


class Refusal(NamedTuple):
    """The kind of obstacle, and the sentence that a user reads after "it cannot be run here:"."""

    status: TaskStatus
    reason: str


def refuse(config: Mapping[str, Any], scanner: ModuleScanner) -> Refusal | None:
    """Return the first reason against running a task; `config` is its YAML with functions as text."""
    if "class" in config:
        return _refuse_class(config, scanner)
    if config.get("unsafe_code"):
        return Refusal(TaskStatus.UNSAFE_CODE, "it executes code that the model wrote")
    if "llm_judge" in str(config.get("process_results") or ""):
        return Refusal(
            TaskStatus.REMOTE_JUDGE,
            "it asks another language model over the network to judge the answers",
        )
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        return Refusal(TaskStatus.MULTIMODAL, "it needs images or sound; only text can be evaluated")
    return _refuse_data(config) or _refuse_metrics(config, scanner)


def _refuse_class(config: Mapping[str, Any], scanner: ModuleScanner) -> Refusal | None:
    """Find what keeps a task that is a Python class from being run on given rows."""
    facts = class_facts(config)
    if facts is None:
        return Refusal(TaskStatus.UNSUPPORTED, "its definition is a class that lm-eval does not bring along")
    if facts.loads_rows:
        return Refusal(
            TaskStatus.UNSUPPORTED,
            "it is a Python class that loads its rows itself, so it cannot be given registered ones",
        )
    if not {"test", "validation"} & set(facts.splits):
        return Refusal(TaskStatus.UNSUPPORTED, "its class does not say which split it evaluates on")
    refusal = _refuse_metrics(config, scanner)
    if refusal is None and facts.request_types != ["generate_until"]:
        return Refusal(TaskStatus.UNSUPPORTED, "it is a Python class that asks in several ways at once")
    return refusal


def class_facts(config: Mapping[str, Any]) -> ClassFacts | None:
    """Return what the file of a task's class says, None without a class or its file."""
    for path, name in function_references(config.get("class")):
        return scan_class(path, name)
    return None


def _refuse_data(config: Mapping[str, Any]) -> Refusal | None:
    """Find what keeps the task from standing on given rows."""
    if config.get("custom_dataset"):
        reason = "it generates its own rows, so it cannot be evaluated on a registered dataset"
    elif config.get("use_prompt"):
        reason = "it takes its prompts from a collection outside lm-eval"
    elif not (config.get("test_split") or config.get("validation_split")):
        reason = "it names neither a test nor a validation split"
    else:
        return None
    return Refusal(TaskStatus.UNSUPPORTED, reason)


def _refuse_metrics(config: Mapping[str, Any], scanner: ModuleScanner) -> Refusal | None:
    """Find metrics that are not part of what is installed, or that a service computes."""
    if _NETWORK_CLIENTS & set(scanner.packages(config)):
        return Refusal(
            TaskStatus.REMOTE_JUDGE, "it sends the answers to a service over the network, which judges them"
        )
    if scanner.loads_from_hub(config) or _has_hub_metric(config):
        return Refusal(
            TaskStatus.HUB_METRIC, "one of its metrics is code that would be downloaded and executed"
        )
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

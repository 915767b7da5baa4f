"""lm-eval's results file of a run: what its tracker adds to the numbers, and the names of its files."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue

from assay_evidence.facts import RunFacts
from metrics_svc.domain.plans import RunPlan

MODEL_SOURCE = "assay"
NOT_KNOWN = "N/A"


@dataclass(frozen=True, slots=True)
class LogNames:
    """Names of lm-eval's files of a run, by which its tools find task and time."""

    folder: str
    results: str
    moment: str

    @classmethod
    def of(cls, facts: RunFacts) -> "LogNames":
        """Names after the model and the time at which the run was finished."""
        moment = _moment(facts.finished_at).isoformat().replace(":", "-")
        return cls(folder=sanitized(model_name(facts)), results=f"results_{moment}.json", moment=moment)

    def samples(self, task: str) -> str:
        """The samples file of a task."""
        return f"samples_{sanitized(task)}_{self.moment}.jsonl"


def sanitized(name: str) -> str:
    """A name as part of a path: lm-eval's replacements, and nothing that is hidden, invisible or a way up."""
    replaced = re.sub(r"[\"<>:/|\\?*\[\]]+", "__", name)
    return re.sub(r"[\x00-\x1f\x7f]", "_", replaced).lstrip(".")[:150] or "unnamed"


def model_name(facts: RunFacts) -> str:
    """The model of the artifact; the artifact's own name where that is not known."""
    return str(facts.artifact.get("model") or facts.artifact.get("name") or facts.artifact.get("id"))


def task_hash(hashes: Iterable[str], *, filters: int) -> str:
    """lm-eval's hash of a task's samples.

    Args:
        hashes: document, prompt and target hash of each sample as one text, in the order of the documents.
        filters: how often the file has each of them.
    """
    digest = hashlib.sha256()
    known = list(hashes)
    for _ in range(filters):
        for one in known:
            digest.update(one.encode())
    return digest.hexdigest()


def filters_of(task: str, facts: RunFacts) -> list[str]:
    """Filters whose numbers a task has, in the order of its numbers."""
    keys = [name.removeprefix(f"{task}.") for name in facts.quality if name.startswith(f"{task}.")]
    return list(dict.fromkeys(key.rpartition(",")[2] for key in keys))


def results_file(
    layout: Mapping[str, JsonValue],
    *,
    facts: RunFacts,
    plan: RunPlan,
    run: Mapping[str, Any],
    task_hashes: Mapping[str, str],
) -> dict[str, JsonValue]:
    """The whole file; ``assay`` is what lm-eval's own does not have.

    Args:
        layout: the numbers, as the harness lays them out.
        facts: of the run or the scored view.
        plan: of the run.
        run: as eval-svc returns it.
        task_hashes: by task.
    """
    options = plan.harness.options
    instruction = options.system_instruction
    name = model_name(facts)
    artifact = facts.artifact
    began, ended = _moment(run.get("started_at") or facts.finished_at), _moment(facts.finished_at)
    config: dict[str, JsonValue] = {
        "model": MODEL_SOURCE,
        "model_args": {"model": name, "artifact": artifact.get("name"), "backend": artifact.get("backend")},
        "model_revision": artifact.get("revision"),
        "model_sha": artifact.get("sha256") or artifact.get("digest"),
        "batch_size": plan.options.batch_size,
        "batch_sizes": [],
        "device": artifact.get("backend"),
        "use_cache": None,
        "limit": plan.options.limit,
        "bootstrap_iters": options.bootstrap_iterations,
        "gen_kwargs": options.generation_kwargs or None,
        "random_seed": options.random_seed,
        "numpy_seed": options.numpy_seed,
        "torch_seed": None,
        "fewshot_seed": options.fewshot_seed,
    }
    return {
        **layout,
        "config": config,
        "git_hash": None,
        "date": began.replace(tzinfo=UTC).timestamp(),
        "pretty_env_info": NOT_KNOWN,
        "transformers_version": NOT_KNOWN,
        "lm_eval_version": facts.versions.get("lm-eval", NOT_KNOWN),
        "upper_git_hash": None,
        "task_hashes": dict(task_hashes),
        "model_source": MODEL_SOURCE,
        "model_name": name,
        "model_name_sanitized": sanitized(name),
        "system_instruction": instruction,
        "system_instruction_sha": hashlib.sha256(instruction.encode()).hexdigest() if instruction else None,
        "fewshot_as_multiturn": options.fewshot_as_multiturn,
        "chat_template": None,
        "chat_template_sha": None,
        "total_evaluation_time_seconds": str((ended - began).total_seconds()),
        "assay": _provenance(facts, plan),
    }


def _provenance(facts: RunFacts, plan: RunPlan) -> dict[str, JsonValue]:
    return {
        "run_id": facts.run_id,
        "scoring_id": facts.scoring_id,
        "run_name": facts.run_name,
        "artifact": facts.artifact,
        "dataset": facts.dataset_name,
        "snapshot_digest": facts.snapshot_digest,
        "method": f"{facts.method_name} version {facts.method_version}",
        "recipe_hash": facts.recipe_hash,
        "plan_hash": facts.plan_hash,
        "canonical": facts.canonical,
        # Texts: readers that make columns of the file take lists of one type only.
        "deviations": [one.message for one in plan.deviations],
        "failure_policy": facts.failure_policy,
        "samples_failed": facts.samples_failed,
        "early_stop": facts.early_stop.model_dump(mode="json") if facts.early_stop else None,
        "runtime": dict(facts.runtime),
        # With intervals and counts; none of runs that were scored before these were kept.
        "runtime_estimates": (facts.runtime_details or {}).get("estimates", {}),
        "versions": dict(facts.versions),
    }


def _moment(text: str | None) -> datetime:
    """A time in UTC, without its zone, as lm-eval's names have it."""
    moment = datetime.fromtimestamp(0, UTC) if text is None else datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None)

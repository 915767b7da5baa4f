"""Plans and facts of runs that never were, in the form in which eval-svc freezes them."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from assay_evidence.facts import RunFacts

Plan = dict[str, JsonValue]


def digest(text: str) -> str:
    """sha256 of ``text``, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def synthetic_plan(*, task: str, members: Sequence[str], documents: int, artifact: str, backend: str) -> Plan:
    """The effective plan of a run of ``task`` (a group where it has ``members``) on ``documents`` rows."""
    generation: dict[str, JsonValue] = {
        "until": ["\n\n"],
        "max_gen_toks": 256,
        "temperature": 0.0,
        "do_sample": False,
    }
    options: dict[str, JsonValue] = {
        "limit": None,
        "batch_size": 1,
        "concurrency": 4,
        "num_fewshot": 5,
        "generation_kwargs": {},
        "system_instruction": None,
        "apply_chat_template": False,
        "fewshot_as_multiturn": True,
        "seeds": {"random": 0, "numpy": 1234, "fewshot": 1234},
        "repeats": None,
        "bootstrap_iterations": 1000,
        "reuse_responses": False,
        "on_failure": "score_zero",
        "max_retries": 3,
        "serving": {"cpus": None, "memory_bytes": None, "accelerators": None, "max_context_tokens": None},
    }
    dataset: dict[str, JsonValue] = {
        "id": "ds_1",
        "name": "questions",
        "snapshot_id": "snap_1",
        "digest": digest("questions"),
        "rows": documents,
        "split": "test",
        "source": {"kind": "jsonl", "sha256": digest("file")},
    }
    reference: dict[str, JsonValue] = {
        "snapshot_id": "snap_1",
        "digest": digest("questions"),
        "split": "test",
        "origin": {"kind": "jsonl"},
    }
    plan: Plan = {
        "dataset": dataset,
        "fewshot": None,
        "fewshot_source": "task",
        "members": [_member(name, number) for number, name in enumerate(members)] or None,
        "method": {
            "id": "mtd_1",
            "name": "method",
            "version": 1,
            "recipe": {"template": "builtin-lm-eval", "task": task},
            "recipe_hash": digest(task),
        },
        "artifact": {
            "id": f"art_{artifact}",
            "name": artifact,
            "model": "model",
            "backend": backend,
            "uri": f"/models/{artifact}",
            "format": "gguf",
            "sha256": digest(artifact),
            "revision": None,
            "serving_parameters": {},
        },
        "task": {
            "task": task,
            "version": "3.0",
            "document_count": documents,
            "row_count": documents,
            "repeats": 1,
            "num_fewshot": 5,
            "fewshot_source": "task",
            "generation_kwargs": generation,
            "until": ["\n\n"],
            "max_gen_toks": 256,
            "config_sha256": digest(f"config {task}"),
            "file_sha256": {"tasks/task.yaml": digest("file")},
            "library_versions": {"lm-eval": "0.4.9"},
        },
        "canonical": True,
        "deviations": [],
        "notes": [],
        "options": options,
        "column_mapping": {},
        "seeds": {"random": 0, "numpy": 1234, "fewshot": 1234},
        "harness": {
            "recipe": {"template": "builtin-lm-eval", "task": task},
            "options": {"num_fewshot": 5, "limit": None, "generation_kwargs": {}, "fewshot_seed": 1234},
            "evaluation": None if members else reference,
            "fewshot": None,
            "members": [{"task": name, "evaluation": reference, "fewshot": None} for name in members] or None,
        },
    }
    return plan | {"plan_hash": digest(json.dumps(plan, sort_keys=True))}


def _member(name: str, number: int) -> dict[str, JsonValue]:
    return {"task": name, "version": "1.0", "config_sha256": digest(f"config {name}"), "start": number}


def synthetic_facts(
    *,
    run_id: str,
    task: str,
    members: Sequence[str] = (),
    quality: Mapping[str, float | None],
    higher_is_better: Mapping[str, bool],
    sample_metrics: Sequence[str],
    samples: int,
    failed: int = 0,
    artifact: str | None = None,
    backend: str = "cpu",
) -> RunFacts:
    """Facts of a run of ``samples`` documents, ``failed`` of them without a response.

    Runs of one ``task`` have equal plans but for the artifact, which is named after the run if not given.
    """
    plan = synthetic_plan(
        task=task, members=members, documents=samples, artifact=artifact or run_id, backend=backend
    )
    described, method, dataset = plan["artifact"], plan["method"], plan["dataset"]
    assert isinstance(described, dict)
    assert isinstance(method, dict)
    assert isinstance(dataset, dict)
    return RunFacts(
        run_id=run_id,
        run_name=run_id,
        artifact=described,
        dataset_id=str(dataset["id"]),
        dataset_name=str(dataset["name"]),
        snapshot_digest=str(dataset["digest"]),
        method_id=str(method["id"]),
        method_name=str(method["name"]),
        method_version=1,
        recipe_hash=str(method["recipe_hash"]),
        task=task,
        plan_hash=str(plan["plan_hash"]),
        plan=plan,
        quality=dict(quality),
        higher_is_better=dict(higher_is_better),
        sample_metrics=list(sample_metrics),
        failure_policy="score_zero",
        canonical=True,
        samples_scored=samples - failed,
        samples_failed=failed,
        samples_expected=samples,
    )

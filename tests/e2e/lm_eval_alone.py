"""lm-eval by itself on GSM8K's own files, answering every prompt from a file of recorded responses.

``python lm_eval_alone.py TEST.jsonl TRAIN.jsonl RESPONSES.json LIMIT`` prints, as JSON, the prompts in order
with their generation arguments, and the values of the task's four metrics. RESPONSES.json maps prompt to
response. It runs in a process of its own, so that nothing of Assay is loaded beside lm-eval.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager


class Replay(LM):  # type: ignore[misc]
    """A model that answers from the recording, and keeps what it was asked."""

    def __init__(self, responses: dict[str, str]) -> None:
        super().__init__()
        self.responses = responses
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def generate_until(self, requests: list[Any]) -> list[str]:
        self.asked += [request.args for request in requests]
        return [self.responses[request.args[0]] for request in requests]

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        raise NotImplementedError


def main() -> None:
    test, train, responses, limit = sys.argv[1:]
    model = Replay(json.loads(Path(responses).read_text()))
    family = Path(lm_eval.__file__).parent / "tasks" / "gsm8k"
    with tempfile.TemporaryDirectory() as cache:
        member = {
            "task": "gsm8k",
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {"test": test, "train": train}, "cache_dir": cache},
        }
        results = lm_eval.simple_evaluate(
            model=model,
            # A group, because a single task's overrides are not merged with the registered task.
            tasks=[{"group": "alone", "task": [member]}],
            task_manager=TaskManager(include_defaults=False, include_path=str(family)),
            limit=int(limit),
        )
    metrics = {f"gsm8k.{key}": value for key, value in results["results"]["gsm8k"].items() if "," in key}
    print(json.dumps({"asked": model.asked, "metrics": metrics}))


if __name__ == "__main__":
    main()

"""lm-eval by itself on rows from JSON Lines files, answering every request from a file of recorded responses.

``python lm_eval_alone.py REQUEST.json`` prints, as JSON, the texts of the requests in order and the values of
every metric by ``<task>.<metric>,<filter>``. It runs in a process of its own, so that nothing of Assay is
loaded beside lm-eval. REQUEST.json holds:

- ``family``: the folder of lm-eval's tasks; ``task``: a task or group in it;
- ``tasks``: task to ``{"files": {split: path}, "overrides": {...}}``, one for a task, several for a group;
- ``responses``: list of ``[prompt, continuation, repeat, response]``; an answer to a scored text is
  ``[log-probability, is greedy]``, the prompt of a rolling one is empty;
- ``arguments``: more arguments of ``simple_evaluate``.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import lm_eval
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager


class Replay(LM):  # type: ignore[misc]
    """A model that answers from the recording, and keeps what it was asked."""

    def __init__(self, responses: list[Any]) -> None:
        super().__init__()
        self.responses = {(prompt, text, repeat): response for prompt, text, repeat, response in responses}
        self.asked: list[str] = []

    def generate_until(self, requests: list[Any]) -> list[str]:
        seen: Counter[tuple[str, int, str]] = Counter()
        found = []
        for request in requests:
            prompt = request.args[0]
            key = (request.task_name, request.doc_id, prompt)
            found.append(self.responses[prompt, "", seen[key]])
            seen[key] += 1
        self.asked += [request.args[0] for request in requests]
        return found

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        self.asked += ["".join(request.args) for request in requests]
        return [tuple(self.responses[*request.args, 0]) for request in requests]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        self.asked += [request.args[0] for request in requests]
        return [self.responses["", request.args[0], 0][0] for request in requests]


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text())
    tasks = request["tasks"]

    def download(built: Any, *_: object, **__: object) -> None:
        files = tasks[built.config.task]["files"]
        built.dataset = {
            split: datasets.Dataset.from_list(
                [json.loads(line) for line in Path(path).read_text().splitlines()]
            )
            for split, path in files.items()
        }

    ConfigurableTask.download = download
    task = request["task"]
    # Overrides of a single task are merged with the registered one only inside a group.
    wrapped = (
        {"group": "alone", "task": [{"task": task, **tasks[task]["overrides"]}]} if task in tasks else task
    )
    model = Replay(request["responses"])
    family = Path(lm_eval.__file__).parent / "tasks" / request["family"]
    results = lm_eval.simple_evaluate(
        model=model,
        tasks=[wrapped],
        task_manager=TaskManager(include_defaults=False, include_path=str(family)),
        **request["arguments"],
    )
    metrics = {
        f"{name}.{key}": None if value == "N/A" else value
        for name, found in results["results"].items()
        for key, value in found.items()
        if "," in key
    }
    print(json.dumps({"asked": model.asked, "metrics": metrics}))


if __name__ == "__main__":
    main()

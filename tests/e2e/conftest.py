"""lm-eval by itself, answering with what a run's samples have recorded."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from assay.models import Sample


def recording(samples: Iterable[Sample]) -> list[list[Any]]:
    """Every response as ``lm_eval_alone.py`` wants it."""
    found: list[list[Any]] = []
    for sample in samples:
        for request in sample.requests:
            is_text = request["kind"] == "generate"
            response = request["response"] if is_text else [request["log_probability"], request["is_greedy"]]
            found.append([request["prompt"], request["continuation"] or "", request["repeat"], response])
    return found


@pytest.fixture
def lm_eval_alone(tmp_path: Path) -> Callable[..., Any]:
    """Evaluate a task or group with lm-eval alone; ``lm_eval_alone.py`` says what goes in and comes out."""

    def run(
        samples: Iterable[Sample], *, family: str, task: str, tasks: dict[str, Any], **arguments: Any
    ) -> Any:
        request = tmp_path / f"{task}-request.json"
        content = {"family": family, "task": task, "tasks": tasks, "arguments": arguments}
        request.write_text(json.dumps({**content, "responses": recording(samples)}))
        offline = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "DISABLE_MULTIPROC": "1"}
        alone = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("lm_eval_alone.py")), str(request)],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, **offline, "TQDM_DISABLE": "1"},
        )
        assert alone.returncode == 0, alone.stderr[-3000:]
        return json.loads(alone.stdout.splitlines()[-1])

    return run

"""AIPerf as a client of the truth server, and its raw records beside the server's log.

Install it into an environment of its own (it brings hundreds of packages): ``python -m venv DIRECTORY`` and
``DIRECTORY/bin/pip install aiperf==0.13.0``. Its executable is then ``DIRECTORY/bin/aiperf``.
"""

import json
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from truth.errors import Errors, Measured, number_of
from truth.server import TruthServer

_WORDS = "word " * 600
_PATIENCE_SECONDS = 180.0


def measure_aiperf(
    executable: Path, server: TruthServer, *, streams: int, requests: int, scratch: Path
) -> dict[str, float]:
    """One run of AIPerf: what its times are wrong by, and the CPU seconds of all its processes."""
    scratch.mkdir()
    prompts = [json.dumps({"text": f"[request {number}] {_WORDS}"}) for number in range(requests)]
    (scratch / "prompts.jsonl").write_text("\n".join(prompts) + "\n")
    _write_tokenizer(scratch / "tokenizer")
    server.take_log()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    options = {
        "--model": "truth",
        "--url": server.url,
        "--endpoint-type": "completions",
        "--concurrency": str(streams),
        "--request-count": str(requests),
        "--input-file": str(scratch / "prompts.jsonl"),
        "--custom-dataset-type": "single_turn",
        "--tokenizer": str(scratch / "tokenizer"),
        "--export-level": "raw",
        "--artifact-dir": str(scratch / "out"),
        "--ui": "none",
        "--extra-inputs": "max_tokens:128",
    }
    command = [str(executable), "profile", "--streaming", "--use-server-token-count"]
    command += [part for option in options.items() for part in option]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False)
    if finished.returncode:
        raise RuntimeError(f"AIPerf failed:\n{finished.stdout[-3000:]}\n{finished.stderr[-1000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    log, errors = server.take_log(), Errors()
    for measured in _records(scratch / "out" / "profile_export_raw.jsonl"):
        true = log.get(measured.number, [])
        if len(true) == 1:
            errors.add(measured, true[0])
        else:
            errors.unmatched += 1
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return errors.row() | {"cpu seconds": cpu}


def _records(path: Path) -> Iterator[Measured]:
    """Its own clock readings, one per chunk with a token."""
    for line in path.read_text().splitlines():
        record = json.loads(line)
        stamps = [each["perf_ns"] for each in record["responses"] if _has_token(each)]
        yield Measured(
            number_of(json.dumps(record["payload"])),
            stamps[0] - record["start_perf_ns"],
            np.asarray(np.diff(stamps), dtype=np.int64),
            "user_space",
        )


def _has_token(response: dict[str, Any]) -> bool:
    return any(
        each["value"] != "[DONE]" and json.loads(each["value"])["choices"] for each in response["packets"]
    )


def _write_tokenizer(directory: Path) -> None:
    """A tokeniser in Hugging Face's form, since AIPerf wants one: a token is a word."""
    directory.mkdir()
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}
    parts = ("truncation", "padding", "normalizer", "post_processor", "decoder")
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        **dict.fromkeys(parts),
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": model,
    }
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (directory / "tokenizer_config.json").write_text(json.dumps(about))

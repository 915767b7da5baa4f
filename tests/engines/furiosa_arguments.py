"""The command line of `furiosa-llm serve` (2026.4)."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass

_TEXT = """
 --allowed-local-media-path --chat-template --devices --fxb --reasoning-parser --response-role --revision
 --scheduler-kind --structured-outputs-backend --tool-call-parser
"""
_WHOLE = """
 --data-parallel-size --image-limit-per-prompt --max-io-memory-mb --max-num-batched-tokens --npu-queue-limit
 --pipeline-parallel-size --prefix-cache-lookahead-requests --responses-api-store-max-entries
 --responses-api-store-ttl --video-limit-per-prompt
"""
_POSITIVE = " --batch-scheduling-budget-ms --max-concurrency --max-model-len --max-processing-samples"
_ON = """
 --disable-log-stats --enable-auto-tool-choice --enable-payload-logging --enable-responses-api-store
 --interleave-mm-strings
"""
_SWITCH = """
 --disable-uvicorn-access-log --enable-overlap-scheduling --enable-prefix-caching
 --profile-guided-decode-batching
"""
_OBJECT = """
 --allowed-origins --default-chat-template-kwargs --experimental-kv-transfer-config
 --experimental-speculative-config --media-io-kwargs --mm-processor-kwargs
"""
_CHOICES = {
    "--chat-template-content-format": ("auto", "string", "openai"),
    "--data-parallel-routing-policy": ("scoring", "round-robin"),
    "--data-parallel-scoring-profile": ("balanced", "locality", "load"),
    "--uvicorn-log-level": ("debug", "info", "warning", "error", "critical", "trace"),
}
_SHORT = {"--data-parallel-size": "-dp", "--pipeline-parallel-size": "-pp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FuriosaArguments:
    """What of the command line changes how the server answers."""

    model: str
    name: str
    host: str
    port: int
    key: str
    max_model_len: int
    max_concurrency: int
    speculates: bool


def parse(words: Sequence[str], *, context: int) -> FuriosaArguments:
    """Parse the words after the program's name; ends the process (status 2) as argparse does for others.

    `context` is what the compiled bundle can hold.
    """
    parser = argparse.ArgumentParser(prog="furiosa-llm")
    serve = parser.add_subparsers(required=True).add_parser("serve")
    serve.add_argument("model")
    serve.add_argument("--served-model-name")
    serve.add_argument("--host", default="0.0.0.0")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--api-key")
    for name, choices in _CHOICES.items():
        serve.add_argument(name, choices=choices)
    kinds = ((_TEXT, str), (_WHOLE, int), (_POSITIVE, _positive), (_OBJECT, json.loads))
    for names, kind in kinds:
        for name in names.split():
            short = (_SHORT[name],) if name in _SHORT else ()
            serve.add_argument(*short, name, type=kind)
    for name in _ON.split():
        serve.add_argument(name, action="store_true")
    for name in _SWITCH.split():
        serve.add_argument(name, action=argparse.BooleanOptionalAction)
    given = parser.parse_args(words)
    asked = given.max_model_len or context
    if asked > context:
        raise SystemExit(f"max_model_len {asked} is above the context length {context} of the loaded FXB")
    return FuriosaArguments(
        model=given.model,
        name=given.served_model_name or given.model,
        host=given.host,
        port=given.port,
        key=given.api_key or "",
        max_model_len=asked,
        max_concurrency=given.max_concurrency or 128,
        speculates=given.experimental_speculative_config is not None,
    )


def _positive(written: str) -> int:
    value = int(written)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {value}")
    return value

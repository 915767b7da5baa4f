"""The command line of `vllm serve` (0.32), as far as somebody who deploys a text model may need it."""

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_TEXT = """
 --chat-template --chat-template-content-format --config --distributed-executor-backend --download-dir --dtype
 --generation-config --hf-config-path --hf-overrides --kv-cache-dtype --load-format --logprobs-mode --model
 --model-loader-extra-config --override-generation-config --quantization --response-role --revision --runner
 --code-revision --tokenizer --tokenizer-mode --tokenizer-revision --uds --uvicorn-log-level --root-path
 --ssl-keyfile --ssl-certfile --ssl-ca-certs --attention-backend --compilation-config --speculative-config
 --scheduling-policy --device-ids --data-parallel-backend --additional-config --reasoning-parser
 --tool-call-parser --model-impl --config-format --limit-mm-per-prompt
"""
_WHOLE = """
 --api-server-count --block-size --data-parallel-size --max-logprobs --max-model-len --max-num-batched-tokens
 --max-num-seqs --pipeline-parallel-size --port --seed --stream-interval --tensor-parallel-size
 --long-prefill-token-threshold --shutdown-timeout --data-parallel-rank
 --num-gpu-blocks-override --max-log-len
"""
_NUMBER = " --gpu-memory-utilization --cpu-offload-gb --kv-cache-memory-bytes"
_SWITCH = """
 --async-scheduling --disable-fastapi-docs --disable-uvicorn-access-log --enable-auto-tool-choice
 --enable-chunked-prefill --enable-expert-parallel --enable-force-include-usage --enable-log-requests
 --enable-lora --enable-per-request-metrics --enable-prefix-caching --enable-prompt-tokens-details
 --enable-server-load-tracking --enable-sleep-mode --enforce-eager --log-error-stack --enable-log-outputs
 --return-tokens-as-token-ids --trust-remote-code --trust-request-chat-template --skip-tokenizer-init
 --enable-request-id-headers --disable-custom-all-reduce --enable-tokenizer-info-endpoint
"""
_SHORT = {
    "--tensor-parallel-size": "-tp",
    "--pipeline-parallel-size": "-pp",
    "--data-parallel-size": "-dp",
    "--quantization": "-q",
    "--api-server-count": "-asc",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmArguments:
    """What of the command line changes how the server answers."""

    model: str
    names: tuple[str, ...]
    host: str
    port: int
    keys: tuple[str, ...]
    max_model_len: int
    max_num_seqs: int
    max_logprobs: int
    stream_interval: int
    generation_config: str
    tensor_parallel_size: int
    returns_prompt_details: bool
    tells_tokenizer: bool
    forces_usage: bool
    fingerprint: str


def parse(words: Sequence[str], environment: Mapping[str, str], *, context: int) -> VllmArguments:
    """Parse the words after the program's name; ends the process (status 2) as argparse does for others.

    `context` is what the model itself can hold.
    """
    parser = argparse.ArgumentParser(prog="vllm", allow_abbrev=True)
    serve = parser.add_subparsers(required=True).add_parser("serve")
    serve.add_argument("model_tag", nargs="?")
    serve.add_argument("--host")
    serve.add_argument("--served-model-name", nargs="+")
    serve.add_argument("--api-key", nargs="+")
    serve.add_argument("--disable-log-stats", action="store_true")
    for names, kind in ((_TEXT, str), (_WHOLE, int), (_NUMBER, float)):
        for name in names.split():
            serve.add_argument(name, *_short(name), type=kind)
    for name in _SWITCH.split():
        serve.add_argument(name, action=argparse.BooleanOptionalAction)
    given = parser.parse_args([word.replace("_", "-") if word.startswith("--") else word for word in words])
    model = given.model_tag or given.model
    if model is None:
        parser.error("the following arguments are required: model_tag")
    asked = given.max_model_len or context
    if asked > context:
        raise SystemExit(
            f"User-specified max_model_len ({asked}) is greater than the derived max_model_len ({context})"
        )
    keys = given.api_key or [environment.get("VLLM_API_KEY", "")]
    return VllmArguments(
        model=model,
        names=tuple(given.served_model_name or (model,)),
        host=given.host or "0.0.0.0",
        port=8000 if given.port is None else given.port,
        keys=tuple(key for key in keys if key),
        max_model_len=asked,
        max_num_seqs=given.max_num_seqs or 256,
        max_logprobs=20 if given.max_logprobs is None else given.max_logprobs,
        stream_interval=given.stream_interval or 1,
        generation_config=given.generation_config or "auto",
        tensor_parallel_size=given.tensor_parallel_size or 1,
        returns_prompt_details=bool(given.enable_prompt_tokens_details),
        tells_tokenizer=bool(given.enable_tokenizer_info_endpoint),
        forces_usage=bool(given.enable_force_include_usage),
        fingerprint=f"vllm-0.32.0-{hashlib.sha256(repr(words).encode()).hexdigest()[:8]}",
    )


def _short(name: str) -> tuple[str, ...]:
    return (_SHORT[name],) if name in _SHORT else ()

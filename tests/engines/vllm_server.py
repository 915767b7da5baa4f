"""A server that behaves as `vllm serve` (0.32) does towards its clients and its launcher, without a model.

Run as ``python -m engines.vllm_server serve MODEL --host H --port P ...``. `engines.script` lists the
environment variables that set its timing and its faults, docs/faithful-servers.md what it was compared with.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engines.fields import Fields, WrongField
from engines.generation import ConnectionCut, Delta, EngineFailed, Generator
from engines.http_server import Reply, Request, dump
from engines.merging import generate_all
from engines.processes import CoreProcesses, Habits, ServerProcess, exit_with, load
from engines.script import Script
from engines.tokenizer import TOKENIZER_INFO
from engines.vllm_answers import AnswerWriter
from engines.vllm_arguments import VllmArguments, parse
from engines.vllm_requests import Asked, Refused, RequestReader, wrong_type

_GUARDED = ("/v1", "/v2", "/inference", "/cohere")
_DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."
_HABITS = Habits(core_name="VLLM::EngineCore", drains=False, ends_by_signal=False, dead_core_seconds=0.3)


class VllmServer:
    """Answers the requests of one server."""

    def __init__(self, arguments: VllmArguments, script: Script) -> None:
        self._arguments = arguments
        self._generator = Generator(script, batch=arguments.max_num_seqs)
        config = _generation_config(arguments.model, script)
        self._reader = RequestReader(arguments, self._generator.tokenizer, config)
        self._started = int(time.time())

    def connect(self, process: ServerProcess) -> None:
        """Let the script's faults end the process, and hear of its core's death."""
        self._generator.on_fatal = process.fail  # type: ignore[method-assign]
        process.when_core_is_dead = self._generator.die

    async def handle(self, request: Request, reply: Reply) -> None:
        """Answer one request."""
        if request.path.startswith(_GUARDED) and not self._is_allowed(request):
            reply.send_json(401, {"error": "Unauthorized"})
            return
        routes = {
            ("GET", "/health"): self._health,
            ("GET", "/ping"): self._health,
            ("GET", "/load"): self._load,
            ("GET", "/version"): self._version,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/v1/models"): self._models,
            ("POST", "/v1/completions"): self._completions,
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/tokenize"): self._tokenize,
            ("POST", "/detokenize"): self._detokenize,
        }
        if self._arguments.tells_tokenizer:
            routes["GET", "/tokenizer_info"] = self._tokenizer_info
        route = routes.get((request.method, request.path))
        if route is not None:
            with contextlib.suppress(ConnectionCut):
                await self._guard(route, request, reply)
                return
            reply.cut()
        elif any(path == request.path for _, path in routes):
            allowed = ", ".join(method for method, path in routes if path == request.path)
            reply.send_json(405, {"detail": "Method Not Allowed"}, headers={"allow": allowed})
        else:
            reply.send_json(404, {"detail": "Not Found"})

    async def _guard(self, route: Any, request: Request, reply: Reply) -> None:
        """Turn what a route raises into the answer that goes out for it."""
        try:
            await route(request, reply)
        except WrongField as error:
            _refuse(reply, wrong_type(error))
        except Refused as error:
            _refuse(reply, error)
        except EngineFailed:
            _refuse(reply, Refused(_DEAD, "InternalServerError", None, 500))

    def _is_allowed(self, request: Request) -> bool:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        keys = self._arguments.keys
        return not keys or (scheme.lower() == "bearer" and key in keys)

    async def _health(self, _: Request, reply: Reply) -> None:
        reply.send(503 if self._generator.dead.is_set() else 200)

    async def _load(self, _: Request, reply: Reply) -> None:
        reply.send_json(200, {"server_load": 0})

    async def _version(self, _: Request, reply: Reply) -> None:
        reply.send_json(200, {"version": "0.32.0"})

    async def _models(self, _: Request, reply: Reply) -> None:
        permission = {
            "id": "modelperm-0000000000000000",
            "object": "model_permission",
            "created": self._started,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        models = [
            {
                "id": name,
                "object": "model",
                "created": self._started,
                "owned_by": "vllm",
                "root": self._arguments.model,
                "parent": None,
                "max_model_len": self._arguments.max_model_len,
                "permission": [permission],
            }
            for name in self._arguments.names
        ]
        reply.send_json(200, {"object": "list", "data": models})

    async def _metrics(self, _: Request, reply: Reply) -> None:
        counts = self._generator.counts
        labels = f'{{engine="0",model_name="{self._arguments.names[0]}"}}'
        lines = []
        for name, kind, value in (
            ("num_requests_running", "gauge", counts.running),
            ("num_requests_waiting", "gauge", counts.waiting),
            ("kv_cache_usage_perc", "gauge", counts.running / self._arguments.max_num_seqs),
            ("prompt_tokens_total", "counter", counts.prompt_tokens),
            ("generation_tokens_total", "counter", counts.generation_tokens),
        ):
            lines += [f"# TYPE vllm:{name} {kind}", f"vllm:{name}{labels} {float(value)}"]
        lines.append("# TYPE vllm:request_success_total counter")
        for reason in ("stop", "length", "abort"):
            told = labels[:-1] + f',finished_reason="{reason}"}}'
            lines.append(f"vllm:request_success_total{told} {float(counts.finished.get(reason, 0))}")
        text = "\n".join([*lines, ""])
        reply.send(200, text.encode(), content_type="text/plain; version=1.0.0; charset=utf-8")

    async def _tokenize(self, request: Request, reply: Reply) -> None:
        fields = _fields(request)
        ids = self._reader.tokenize(fields)
        names = None
        if fields.flag("return_token_strs"):
            names = [self._generator.tokenizer.token_name(token) for token in ids]
        length = self._arguments.max_model_len
        reply.send_json(200, {"count": len(ids), "max_model_len": length, "tokens": ids, "token_strs": names})

    async def _tokenizer_info(self, _: Request, reply: Reply) -> None:
        reply.send_json(200, TOKENIZER_INFO)

    async def _detokenize(self, request: Request, reply: Reply) -> None:
        reply.send_json(200, {"prompt": self._reader.detokenize(_fields(request))})

    async def _completions(self, request: Request, reply: Reply) -> None:
        await self._generate(self._reader.completion(self._noted(request)), reply, is_chat=False)

    async def _chat(self, request: Request, reply: Reply) -> None:
        await self._generate(self._reader.chat(self._noted(request)), reply, is_chat=True)

    def _noted(self, request: Request) -> Fields:
        fields = _fields(request)
        self._generator.note("http", 0, path=request.path, body=dict(fields.raw_items()))
        return fields

    async def _generate(self, asked: Asked, reply: Reply, *, is_chat: bool) -> None:
        if self._generator.dead.is_set():
            raise EngineFailed
        writer = AnswerWriter(
            self._generator,
            asked,
            fingerprint=self._arguments.fingerprint,
            prompt_details=self._arguments.returns_prompt_details,
        )
        if asked.streams:
            await self._stream(asked, writer, reply, is_chat=is_chat)
            return
        whole = [Delta() for _ in asked.wanted]
        async with contextlib.aclosing(generate_all(self._generator, asked.wanted)) as deltas:
            async for index, delta in deltas:
                whole[index].extend(delta)
        reply.send_json(200, writer.chat(whole) if is_chat else writer.completion(whole))

    async def _stream(self, asked: Asked, writer: AnswerWriter, reply: Reply, *, is_chat: bool) -> None:
        reply.begin_events()
        stream = generate_all(self._generator, asked.wanted, stream_interval=asked.stream_interval)
        try:
            has_begun = False
            async with contextlib.aclosing(stream) as deltas:
                async for index, delta in deltas:
                    if is_chat and not has_begun:
                        for choice in range(len(asked.wanted)):
                            reply.send_event(dump(writer.chat_start(choice)))
                    has_begun = True
                    chunk = writer.chat_chunk if is_chat else writer.completion_chunk
                    reply.send_event(dump(chunk(index, delta)))
            if asked.includes_usage:
                reply.send_event(dump(writer.usage_chunk(is_chat=is_chat)))
        except EngineFailed:
            error = {"message": _DEAD, "type": "InternalServerError", "param": None, "code": 500}
            reply.send_event(json.dumps({"error": error}))
        reply.send_event("[DONE]")
        reply.end_events()


def _refuse(reply: Reply, error: Refused) -> None:
    content = {
        "message": error.message,
        "type": error.kind,
        "param": error.param,
        "code": error.status,
    }
    reply.send_json(error.status, {"error": content})


def _fields(request: Request) -> Fields:
    if "application/json" not in request.headers.get("content-type", ""):
        message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        raise Refused(message, "Bad Request")
    try:
        content = json.loads(request.body)
    except ValueError as error:
        place = f"body.{getattr(error, 'pos', 0)}"
        detail = {
            "type": "json_invalid",
            "loc": place,
            "msg": "JSON decode error",
            "input": "<dict of 0 items>",
            "ctx": {"error": getattr(error, "msg", str(error))},
        }
        raise Refused(f"1 validation error:\n  {detail}", "Bad Request", place) from None
    return Fields(content)


def _generation_config(model: str, script: Script) -> Mapping[str, Any]:
    """The model's own sampling defaults: of its directory where it is one, else the script's."""
    file = Path(model) / "generation_config.json"
    if file.is_file():
        content: dict[str, Any] = json.loads(file.read_text())
        return content
    return script.generation_config


def main(words: Sequence[str]) -> None:
    """Load as the script says, then serve until told to end."""
    script = Script.read(os.environ)
    arguments = parse(words, os.environ, context=script.context)
    count = script.core_processes
    if count is None:
        count = arguments.tensor_parallel_size + (arguments.tensor_parallel_size > 1)
    cores = CoreProcesses(count, name=_HABITS.core_name, stubborn=script.stubborn)
    load(script)

    async def serve() -> int:
        server = VllmServer(arguments, script)
        process = ServerProcess(script, cores, _HABITS)
        server.connect(process)
        return await process.serve(server.handle, host=arguments.host, port=arguments.port)

    exit_with(asyncio.run(serve()))


if __name__ == "__main__":
    main(sys.argv[1:])

"""A server that behaves as `furiosa-llm serve` (2026.4) does towards its clients and its launcher.

Run as ``python -m engines.furiosa_server serve MODEL --host H --port P ...``. `engines.script` lists the
environment variables that set its timing and its faults. Written after the published package's source; it was
never compared with a device.
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
from engines.furiosa_answers import AnswerWriter
from engines.furiosa_arguments import FuriosaArguments, parse
from engines.furiosa_requests import Asked, Refused, RequestReader
from engines.generation import ConnectionCut, Delta, EngineFailed, Generator
from engines.http_server import Reply, Request, dump
from engines.merging import generate_all
from engines.processes import CoreProcesses, Habits, ServerProcess, exit_with, load
from engines.script import Script
from engines.tokenizer import TOKENIZER_INFO

_HABITS = Habits(core_name="furiosa-engine", drains=True, ends_by_signal=True, dead_core_seconds=0.05)


class FuriosaServer:
    """Answers the requests of one server."""

    def __init__(self, arguments: FuriosaArguments, script: Script) -> None:
        self._arguments = arguments
        self._generator = Generator(script, batch=arguments.max_concurrency)
        config = _generation_config(arguments.model, script)
        self._reader = RequestReader(arguments, self._generator.tokenizer, config)
        self._started = int(time.time())

    def connect(self, process: ServerProcess) -> None:
        """Let the script's faults end the process, and hear of its core's death."""
        self._generator.on_fatal = process.fail  # type: ignore[method-assign]
        process.when_core_is_dead = self._generator.die

    async def handle(self, request: Request, reply: Reply) -> None:
        """Answer one request."""
        if request.path.startswith("/v1") and not self._is_allowed(request):
            reply.send_json(401, {"error": "Unauthorized"}, headers={"www-authenticate": "Bearer"})
            return
        routes = {
            ("GET", "/health"): self._health,
            ("GET", "/version"): self._version,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/v1/models"): self._models,
            ("POST", "/v1/completions"): self._completions,
            ("POST", "/v1/chat/completions"): self._chat,
            ("GET", "/tokenizer_info"): self._tokenizer_info,
            ("POST", "/tokenize"): self._tokenize,
            ("POST", "/detokenize"): self._detokenize,
        }
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
            reply.send_json(400, {"detail": f"1 validation error\n{error.name}\n  {error.message}"})
        except Refused as error:
            content = {"detail": error.message} if error.is_detail else _error(error)
            reply.send_json(error.status, content)
        except EngineFailed:
            reply.send(500, b"Internal Server Error", content_type="text/plain; charset=utf-8")

    def _is_allowed(self, request: Request) -> bool:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return not self._arguments.key or (scheme.lower() == "bearer" and key == self._arguments.key)

    async def _health(self, _: Request, reply: Reply) -> None:
        reply.send(503 if self._generator.dead.is_set() else 200)

    async def _version(self, _: Request, reply: Reply) -> None:
        build = {"git_hash": "0000000", "build_time": "2026-06-01T00:00:00Z"}
        llm = {"stage": "release", "version": "2026.4.0", "git_hash": "0000000"}
        reply.send_json(
            200,
            {
                "version": "2026.4.0",
                "furiosa-llm": llm,
                "furiosa-runtime": {"version": "2026.4.0", **build},
                "npu-ir": {"version": "1.0", **build},
            },
        )

    async def _models(self, _: Request, reply: Reply) -> None:
        model = {
            "id": self._arguments.name,
            "created": self._started,
            "object": "model",
            "owned_by": "furiosa-ai",
            "artifact_id": "00000000-0000-0000-0000-000000000000",
            "max_model_len": self._arguments.max_model_len,
        }
        reply.send_json(200, {"object": "list", "data": [model]})

    async def _metrics(self, _: Request, reply: Reply) -> None:
        counts = self._generator.counts
        labels = f'{{model_name="{self._arguments.name}"}}'
        lines = []
        for name, kind, value in (
            ("num_requests_running", "gauge", counts.running),
            ("num_requests_waiting", "gauge", counts.waiting),
            ("prompt_tokens_total", "counter", counts.prompt_tokens),
            ("generation_tokens_total", "counter", counts.generation_tokens),
        ):
            lines += [f"# TYPE furiosa_llm_{name} {kind}", f"furiosa_llm_{name}{labels} {float(value)}"]
        text = "\n".join([*lines, ""])
        reply.send(200, text.encode(), content_type="text/plain; charset=utf-8")

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
        writer = AnswerWriter(self._generator, asked, model=self._arguments.name)
        if asked.streams:
            await self._stream(asked, writer, reply, is_chat=is_chat)
            return
        whole = [Delta() for _ in asked.wanted]
        async with contextlib.aclosing(generate_all(self._generator, asked.wanted)) as deltas:
            async for index, delta in deltas:
                whole[index].extend(delta)
        reply.send_json(200, writer.chat(whole[0]) if is_chat else writer.completion(whole))

    async def _stream(self, asked: Asked, writer: AnswerWriter, reply: Reply, *, is_chat: bool) -> None:
        reply.begin_events()
        has_begun = False
        try:
            async with contextlib.aclosing(generate_all(self._generator, asked.wanted)) as deltas:
                async for index, delta in deltas:
                    if is_chat and not has_begun:
                        reply.send_event(dump(writer.chat_start()))
                    has_begun = True
                    chunk = writer.chat_chunk(delta) if is_chat else writer.completion_chunk(index, delta)
                    reply.send_event(dump(chunk))
        except EngineFailed:
            # The stream goes on as if it had ended: usage, where it was asked for, and the end mark.
            error = _error(Refused("internal server error", "InternalServerError", 500))
            reply.send_event(json.dumps({"error": error}))
        if asked.includes_usage:
            reply.send_event(dump(writer.usage_chunk(is_chat=is_chat)))
        reply.send_event("[DONE]")
        reply.end_events()


def _error(error: Refused) -> dict[str, Any]:
    return {
        "object": "error",
        "message": error.message,
        "type": error.kind,
        "param": None,
        "code": error.status,
    }


def _fields(request: Request) -> Fields:
    if "application/json" not in request.headers.get("content-type", ""):
        raise Refused("Content-Type must be application/json", status=415, is_detail=True)
    try:
        return Fields(json.loads(request.body))
    except ValueError as error:
        raise Refused(str(error), is_detail=True) from None


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
    arguments = parse(words, context=script.context)
    cores = CoreProcesses(script.core_processes or 0, name=_HABITS.core_name, stubborn=script.stubborn)
    load(script)

    async def serve() -> int:
        server = FuriosaServer(arguments, script)
        process = ServerProcess(script, cores, _HABITS)
        server.connect(process)
        return await process.serve(server.handle, host=arguments.host, port=arguments.port)

    exit_with(asyncio.run(serve()))


if __name__ == "__main__":
    main(sys.argv[1:])

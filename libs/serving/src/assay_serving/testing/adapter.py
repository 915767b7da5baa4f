"""The adapter of the scripted endpoint: an engine like any other, over a model that is a function."""

import asyncio
import hashlib
import platform
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from assay_serving.arrivals import Arrivals
from assay_serving.backend import Engine, PreparedArtifact, ServingBackend
from assay_serving.errors import (
    ArtifactMismatch,
    ArtifactNotFound,
    ContextTooLong,
    EngineError,
    InvalidRequest,
    StartFailed,
)
from assay_serving.launchers.endpoint import connect_endpoint, resolve_endpoint
from assay_serving.launchers.orphans import end_orphans
from assay_serving.launchers.process import EngineProcess, ProcessCommand
from assay_serving.launchers.server import Progress
from assay_serving.testing import answers
from assay_serving.testing.answers import count_tokens
from assay_serving.testing.endpoint import MODEL
from assay_serving.testing.script import Failure, Script
from assay_serving.types import (
    AdapterDescription,
    Backend,
    Capabilities,
    Determinism,
    Device,
    FinishReason,
    GenerateRequest,
    GenerateResult,
    InstanceLog,
    InstanceState,
    Provenance,
    ProvisionSpec,
    RequestTimes,
    ScoreMethod,
    ScoreRequest,
    ScoreResult,
    ServingParameter,
    StampSource,
    Support,
)
from assay_serving.upstream import ServerEvent, Upstream, UpstreamAddress, UpstreamError, UpstreamReply

SCRIPTED_URI = "scripted://answers"
ENGINE = "scripted endpoint"
VERSION = "1"
_POLL_SECONDS = 0.01
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_MAX_CONCURRENCY = 4096
_DEVICE = Device(id="scripted", product="a function of the prompt")
_PARAMETERS = {
    "first_token": "seconds from a request to its first token",
    "chunks": "pieces in which an answer comes; 0: one per token",
    "interval": "seconds between two pieces",
    "fail": "which requests fail: kind@number, separated by commas",
}


class ScriptedBackend(ServingBackend):
    """Serves `scripted://answers` by an endpoint of its own, or a running one by its http URL on loopback."""

    def __init__(self, *, directory: Path) -> None:
        self._directory = directory
        self._label = str(directory)
        self._capabilities = Capabilities(
            generate=Support.YES,
            score=Support.YES,
            score_method=ScoreMethod.PROMPT_LOGPROBS,
            chat=Support.YES,
            ignore_eos=Support.YES,
            greedy_determinism=Determinism.REPEATABLE_ANY_BATCH,
            max_context_tokens=1 << 20,
            max_concurrency=_MAX_CONCURRENCY,
        )

    async def describe(self) -> AdapterDescription:
        """See ServingBackend."""
        return AdapterDescription(
            adapter="assay-adapter-scripted",
            adapter_version=VERSION,
            backend=Backend.CPU,
            engine=ENGINE,
            engine_version=VERSION,
            devices=(_DEVICE,),
            capabilities=self._capabilities,
            artifact_formats=("scripted", "gguf", "endpoint"),
            serving_parameters=tuple(ServingParameter(name=n, description=d) for n, d in _PARAMETERS.items()),
        )

    def check(self, spec: ProvisionSpec) -> None:
        """See ServingBackend."""
        uri = spec.artifact.uri
        if uri != SCRIPTED_URI and not uri.startswith("http://"):
            raise ArtifactNotFound(f"{uri}: this adapter serves {SCRIPTED_URI} and http URLs on loopback")
        if uri != SCRIPTED_URI and spec.serving_parameters:
            raise InvalidRequest("serving_parameters: a running endpoint has its script already")
        _script_of(spec)

    async def prepare(self, spec: ProvisionSpec, *, progress: Progress) -> PreparedArtifact:
        """See ServingBackend. The artifact is the module that computes the answers."""
        progress(InstanceState.PULLING, "reading the module that answers")
        path = Path(str(answers.__file__))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if spec.artifact.sha256 not in ("", digest):
            raise ArtifactMismatch(f"{spec.artifact.uri} has sha256 {digest}, not {spec.artifact.sha256}")
        return PreparedArtifact(path=path, sha256=digest, model_name=MODEL)

    async def launch(
        self, spec: ProvisionSpec, prepared: PreparedArtifact, *, instance_id: str, progress: Progress
    ) -> "ScriptedEngine":
        """See ServingBackend."""
        progress(InstanceState.STARTING, "starting the endpoint")
        capabilities = replace(
            self._capabilities,
            max_concurrency=spec.max_concurrency,
            max_context_tokens=spec.max_context_tokens or self._capabilities.max_context_tokens,
        )
        if spec.artifact.format == "endpoint":
            server = await connect_endpoint(
                spec.artifact.uri, key=spec.endpoint_key, allowed_hosts=_LOOPBACK, health_path="/health"
            )
            return ScriptedEngine(
                server.address, None, prepared=prepared, capabilities=capabilities, headers=server.headers
            )
        if spec.artifact.uri != SCRIPTED_URI:
            endpoint = await resolve_endpoint(spec.artifact.uri, allowed_hosts=_LOOPBACK)
            address = UpstreamAddress(host=endpoint.ip_address, port=endpoint.port)
            return ScriptedEngine(address, None, prepared=prepared, capabilities=capabilities)
        script = replace(_script_of(spec), max_model_tokens=capabilities.max_context_tokens)
        process, address = await _start_endpoint(
            script, log=self._directory / f"{instance_id}.log", label=self._label, instance_id=instance_id
        )
        return ScriptedEngine(address, process, prepared=prepared, capabilities=capabilities)

    async def reap(self, living: Collection[str]) -> list[str]:
        """See ServingBackend."""
        return await asyncio.to_thread(end_orphans, self._label, is_living=living.__contains__)


def _script_of(spec: ProvisionSpec) -> Script:
    values, defaults = spec.serving_parameters, Script()
    try:
        return Script(
            first_token=float(values.get("first_token", defaults.first_token)),
            chunks=int(values.get("chunks", defaults.chunks)),
            interval=float(values.get("interval", defaults.interval)),
            failures=tuple(Failure.parse(each) for each in values.get("fail", "").split(",") if each),
        )
    except ValueError as error:
        raise InvalidRequest(f"serving_parameters: {error}") from None


async def _start_endpoint(
    script: Script, *, log: Path, label: str, instance_id: str
) -> tuple[EngineProcess, UpstreamAddress]:
    address_file = log.with_suffix(".address")
    command = [sys.executable, "-m", "assay_serving.testing", "endpoint", *script.arguments()]
    process = EngineProcess.start(
        ProcessCommand(
            arguments=[*command, f"--address-file={address_file}"],
            environment={},
            log_path=log,
            label=label,
            instance_id=instance_id,
        )
    )
    try:
        while not address_file.exists():
            if process.exit_code is not None:
                raise StartFailed("the scripted endpoint did not start", engine_detail=process.log_tail())
            await asyncio.sleep(_POLL_SECONDS)
        port = int(address_file.read_text().rpartition(":")[2])
        address_file.unlink()
    except BaseException:
        await process.stop(grace=0.0)
        raise
    return process, UpstreamAddress(port=port)


@dataclass(slots=True)
class _Stream:
    """What the events of one answer bring together."""

    arrivals: Arrivals
    pieces: list[str]
    finish_reason: str = ""
    stop_reason: str | None = None
    usage: Mapping[str, int] | None = None

    def add(self, event: ServerEvent) -> None:
        if event.data == b"[DONE]":
            return
        chunk = orjson.loads(event.data)
        self.usage = chunk.get("usage")
        for choice in chunk["choices"]:
            text = choice["text"]
            self.pieces.append(text)
            self.arrivals.add(event, tokens=len(choice["token_ids"]), text_length=len(text))
            if choice["finish_reason"]:
                self.finish_reason, self.stop_reason = choice["finish_reason"], choice["stop_reason"]


class ScriptedEngine(Engine):
    """Completions of one endpoint, at most `capabilities.max_concurrency` at a time."""

    def __init__(
        self,
        address: UpstreamAddress,
        process: EngineProcess | None,
        *,
        prepared: PreparedArtifact,
        capabilities: Capabilities,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._headers = headers or {}
        self._upstream = Upstream(address, keep_alive=True)
        self._process = process
        self._prepared = prepared
        self._capabilities = capabilities
        self._slots = asyncio.Semaphore(capabilities.max_concurrency)

    @property
    def capabilities(self) -> Capabilities:
        """See Engine."""
        return self._capabilities

    @property
    def provenance(self) -> Provenance:
        """See Engine."""
        return Provenance(
            engine=ENGINE,
            engine_version=VERSION,
            artifact_sha256=self._prepared.sha256,
            model_name=self._prepared.model_name,
            devices=(_DEVICE,),
            host=platform.node(),
            engine_pid=self.process_id,
        )

    @property
    def launcher(self) -> str:
        """See Engine."""
        return "process" if self._process else "endpoint"

    @property
    def process_id(self) -> int:
        """See Engine."""
        return self._process.pid if self._process else 0

    async def warm_up(self) -> None:
        """See Engine. A completion would count as a request of the script, so the models are listed."""
        try:
            reply = await self._upstream.exchange("GET", "/v1/models", headers=self._headers)
        except UpstreamError as error:
            raise StartFailed(f"the endpoint does not answer: {error}") from error
        if reply.status != 200:
            raise StartFailed(f"the endpoint answers {reply.status}", engine_detail=reply.body[:500].decode())

    async def generate(self, request: GenerateRequest, *, received_mono_ns: int) -> GenerateResult:
        """See Engine."""
        sampling = request.sampling
        body = {
            "model": MODEL,
            "prompt": request.text or _chat_prompt(request),
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature or 0.0,
            "stop": sampling.stop,
            "ignore_eos": sampling.ignore_eos,
            "stream": True,
        }
        stream = _Stream(Arrivals(), [])
        try:
            async with self._slots:
                reply = await self._post(body, stream)
        except UpstreamError as error:
            tokens = stream.arrivals.token_count
            raise await self.connection_lost(error, tokens_before_error=tokens) from error
        return _result(stream, reply, received_mono_ns=received_mono_ns)

    async def score(self, request: ScoreRequest, *, received_mono_ns: int) -> ScoreResult:
        """See Engine."""
        text = request.context + request.continuation
        body = {"model": MODEL, "prompt": text, "max_tokens": 0, "echo": True, "logprobs": 1}
        try:
            async with self._slots:
                reply = await self._post(body, None)
        except UpstreamError as error:
            raise await self.connection_lost(error) from error
        found = orjson.loads(reply.body)["choices"][0]["logprobs"]
        begin = count_tokens(request.context.rstrip())
        scored = slice(begin, None)
        best = [max(each, key=each.__getitem__) for each in found["top_logprobs"][scored]]
        return ScoreResult(
            log_probability=sum(found["token_logprobs"][scored]),
            is_greedy=found["tokens"][scored] == best,
            context_tokens=begin,
            continuation_tokens=len(best),
            times=RequestTimes(
                received_mono_ns=received_mono_ns,
                sent_mono_ns=reply.sent_mono_ns,
                done_mono_ns=reply.done_mono_ns,
                stamp_source=StampSource.USER_SPACE,
            ),
        )

    async def wait_dead(self) -> str:
        """See Engine."""
        if self._process is None:
            await asyncio.Event().wait()
            raise AssertionError("nobody sets this event")
        return f"the scripted endpoint ended with status {await self._process.wait()}"

    def log_tail(self) -> str:
        """See Engine."""
        return self._process.log_tail() if self._process else ""

    async def read_log(self, max_bytes: int) -> InstanceLog:
        """See Engine."""
        return self._process.read_log(max_bytes) if self._process else InstanceLog(text="")

    async def stop(self) -> None:
        """See Engine."""
        self._upstream.close()
        if self._process is not None:
            await self._process.stop(grace=0.0)

    async def _post(self, body: Mapping[str, Any], stream: _Stream | None) -> UpstreamReply:
        reply = await self._upstream.exchange(
            "POST",
            "/v1/completions",
            body=orjson.dumps(body),
            headers={"Content-Type": "application/json", **self._headers},
            on_event=stream.add if stream else None,
        )
        if reply.status != 200:
            _raise_refusal(reply)
        return reply


def _chat_prompt(request: GenerateRequest) -> str:
    """The scripted model's chat template."""
    return "".join(f"{message.role}: {message.content}\n" for message in request.chat) + "assistant:"


def _raise_refusal(reply: UpstreamReply) -> None:
    error = orjson.loads(reply.body)["error"]
    if error["type"] == "context_length_exceeded":
        raise ContextTooLong(error["message"])
    if reply.status == 400:
        raise InvalidRequest(error["message"])
    raise EngineError(f"the endpoint answers {reply.status}: {error['message']}", retryable=True)


def _result(stream: _Stream, reply: UpstreamReply, *, received_mono_ns: int) -> GenerateResult:
    usage = stream.usage
    if usage is None:
        raise EngineError("the stream ended without usage", retryable=True)
    if stream.stop_reason:
        reason = FinishReason.STOP_STRING
    else:
        reason = FinishReason.LENGTH if stream.finish_reason == "length" else FinishReason.END_OF_SEQUENCE
    tokens = usage["completion_tokens"]
    return GenerateResult(
        text="".join(stream.pieces),
        finish_reason=reason,
        stop_match=stream.stop_reason or "",
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=tokens,
        times=stream.arrivals.times(reply, completion_tokens=tokens, received_mono_ns=received_mono_ns),
        token_text_lengths=stream.arrivals.text_lengths(completion_tokens=tokens),
    )

"""One llama.cpp server in a child process, as an engine of the adapter."""

import asyncio
import platform
import secrets
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import orjson
import xllamacpp

from assay_adapter_cpu.llama_http import LlamaHttp, raise_engine_error
from assay_adapter_cpu.llama_server import MAX_BATCH_TOKENS, LlamaServerConfig
from assay_adapter_cpu.scoring import ScoringLane
from assay_adapter_cpu.turns import PromptTurns
from assay_serving.arrivals import Arrivals
from assay_serving.backend import Engine, PreparedArtifact
from assay_serving.errors import ContextTooLong, EngineError, StartFailed
from assay_serving.launchers.process import EngineProcess, ProcessCommand
from assay_serving.power.host import RaplMeter
from assay_serving.power.source import PowerSource
from assay_serving.settings import engine_environment
from assay_serving.types import (
    Capabilities,
    Determinism,
    Device,
    FinishReason,
    GenerateRequest,
    GenerateResult,
    InstanceLog,
    Provenance,
    SamplingParameters,
    ScoreRequest,
    ScoreResult,
)
from assay_serving.upstream import ServerEvent, UpstreamAddress, UpstreamError, UpstreamReply

_PORT_POLL_SECONDS = 0.02
_UNSEEDED = 2**32 - 1  # llama.cpp's value for "take a random seed"
_FINISH_REASONS = {
    "eos": FinishReason.END_OF_SEQUENCE,
    "limit": FinishReason.LENGTH,
    "word": FinishReason.STOP_STRING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlan:
    """What to launch: the file, how many sequences of how many tokens, and where files and sensors are.

    `label` and `instance_id` mark its processes; see `assay_serving.launchers.orphans`.
    """

    instance_id: str
    label: str
    artifact: PreparedArtifact
    concurrency: int
    context_tokens: int
    prompt_threads: int
    run_directory: Path
    log_path: Path
    powercap_directory: Path
    devices: tuple[Device, ...]
    capabilities: Capabilities


@dataclass(slots=True)
class _Stream:
    """What the events of one answer bring together."""

    arrivals: Arrivals = field(default_factory=Arrivals)
    pieces: list[str] = field(default_factory=list)
    final: dict[str, Any] | None = None

    def add(self, event: ServerEvent) -> None:
        chunk = orjson.loads(event.data)
        if "error" in chunk:
            raise_engine_error(chunk["error"], tokens_before_error=self.arrivals.token_count)
        text = chunk["content"]
        if text:
            self.pieces.append(text)
        self.arrivals.add(event, tokens=len(chunk.get("tokens", ())), text_length=len(text))
        if chunk["stop"]:
            self.final = chunk


class LlamaEngine(Engine):
    """Generation on `concurrency` sequences, and one more sequence that scores. Make it with `launch`."""

    def __init__(
        self, plan: EnginePlan, process: EngineProcess, http: LlamaHttp, config: LlamaServerConfig
    ) -> None:
        self._plan = plan
        self._process = process
        self._http = http
        self._config = config
        self._turns = PromptTurns()
        self._slots: asyncio.Queue[int] = asyncio.Queue()
        for slot in range(plan.concurrency):
            self._slots.put_nowait(slot)
        self._scoring: ScoringLane | None = None
        self._quantization = ""

    @classmethod
    async def launch(cls, plan: EnginePlan) -> Self:
        """Start the server and return when it listens.

        Raises:
            StartFailed: it ended before; `engine_detail` is the end of its log.
        """
        plan.run_directory.mkdir(parents=True, mode=0o700)
        port_file, config_file = plan.run_directory / "port", plan.run_directory / "config.json"
        config = LlamaServerConfig(
            model_path=str(plan.artifact.path),
            sequences=plan.concurrency + 1,
            context_tokens=plan.context_tokens,
            decode_threads=1,
            prompt_threads=plan.prompt_threads,
            api_key=secrets.token_urlsafe(24),
            port_file=str(port_file),
        )
        config.save(config_file)
        process = EngineProcess.start(
            ProcessCommand(
                arguments=[sys.executable, "-m", "assay_adapter_cpu.llama_server", str(config_file)],
                environment=engine_environment(),
                log_path=plan.log_path,
                label=plan.label,
                instance_id=plan.instance_id,
            )
        )
        try:
            while not port_file.exists():
                if process.exit_code is not None:
                    raise StartFailed(
                        f"the engine ended while loading {plan.artifact.path.name}",
                        engine_detail=process.log_tail(),
                    )
                await asyncio.sleep(_PORT_POLL_SECONDS)
            address = UpstreamAddress(port=int(port_file.read_text()))
            return cls(plan, process, LlamaHttp(address, api_key=config.api_key), config)
        except BaseException:
            await process.stop(grace=0.0)
            shutil.rmtree(plan.run_directory, ignore_errors=True)
            raise

    @property
    def capabilities(self) -> Capabilities:
        """Those of the adapter, with this engine's context, concurrency and determinism."""
        whole_prompt_in_a_batch = self._plan.context_tokens <= MAX_BATCH_TOKENS
        return replace(
            self._plan.capabilities,
            greedy_determinism=Determinism.REPEATABLE_ANY_BATCH
            if whole_prompt_in_a_batch
            else Determinism.REPEATABLE_SERIAL,
            max_context_tokens=self._plan.context_tokens,
            max_concurrency=self._plan.concurrency,
        )

    def power_sources(self) -> tuple[PowerSource, ...]:
        """The processor's energy counters, which count whatever else runs on it as well."""
        return (RaplMeter(self._plan.powercap_directory),)

    @property
    def provenance(self) -> Provenance:
        """Engine, model and settings; the quantization is known after `warm_up`."""
        return Provenance(
            engine="llama.cpp (xllamacpp)",
            engine_version=xllamacpp.__version__,
            instruction_set=_instruction_set(),
            command_line=(sys.executable, "-m", "assay_adapter_cpu.llama_server"),
            artifact_sha256=self._plan.artifact.sha256,
            source_sha256=self._plan.artifact.source_sha256,
            model_name=self._plan.artifact.model_name,
            quantization=self._quantization,
            devices=self._plan.devices,
            host=platform.node(),
            engine_settings=self._config.engine_settings(),
            engine_pid=self._process.pid,
        )

    @property
    def process_id(self) -> int:
        """The server's process."""
        return self._process.pid

    async def warm_up(self) -> None:
        """Read the model's properties and make one short completion."""
        try:
            properties = await self._http.properties()
            self._quantization = self._plan.artifact.quantization or str(properties.get("model_ftype", ""))
            prefix = str(properties.get("bos_token") or properties.get("eos_token") or "")
            tokens = await self._http.tokenize(prefix, add_special=False)
            if len(tokens) != 1:
                raise StartFailed(f"the model names no begin or end of sequence token ({prefix!r})")
            self._scoring = ScoringLane(
                self._http,
                self._turns,
                slot=self._plan.concurrency,
                context_tokens=self._plan.context_tokens,
                prefix_token=tokens[0],
            )
            await self._http.complete({"prompt": "The", "n_predict": 2, "cache_prompt": False, "id_slot": 0})
        except UpstreamError as error:
            raise StartFailed(f"no completion: {error}", engine_detail=self.log_tail()) from error

    async def generate(self, request: GenerateRequest, *, received_mono_ns: int) -> GenerateResult:
        """Answer one request; waits for a free sequence and for its turn at prompt evaluation."""
        stream = _Stream()
        try:
            slot = await self._slots.get()
            try:
                prompt = await self._encode(request)
                settings = _completion_body(request.sampling, context_tokens=self._plan.context_tokens)
                body = {"prompt": prompt, "id_slot": slot, **settings}
                # A prompt of two tokens beside another sequence would be evaluated one by one.
                async with self._turns.turn(alone=len(prompt) == 2) as prompt_done:

                    def on_event(event: ServerEvent) -> None:
                        prompt_done()
                        stream.add(event)

                    reply = await self._http.stream(body, on_event)
            finally:
                self._slots.put_nowait(slot)
        except UpstreamError as error:
            tokens = stream.arrivals.token_count
            raise await self.connection_lost(error, tokens_before_error=tokens) from error
        return _result(stream, reply, received_mono_ns=received_mono_ns)

    async def score(self, request: ScoreRequest, *, received_mono_ns: int) -> ScoreResult:
        """Score one continuation in the scoring lane."""
        assert self._scoring is not None, "no request comes before warm_up"
        try:
            return await self._scoring.score(request, received_mono_ns=received_mono_ns)
        except UpstreamError as error:
            raise await self.connection_lost(error) from error

    async def wait_dead(self) -> str:
        """See Engine."""
        code = await self._process.wait()
        return f"the engine's process ended with {'signal' if code < 0 else 'status'} {abs(code)}"

    def log_tail(self) -> str:
        """See Engine."""
        return self._process.log_tail()

    async def read_log(self, max_bytes: int) -> InstanceLog:
        """See Engine."""
        return self._process.read_log(max_bytes)

    async def stop(self) -> None:
        """See Engine. The server keeps nothing, so it is killed at once."""
        await self._process.stop(grace=0.0)
        shutil.rmtree(self._plan.run_directory, ignore_errors=True)
        if not self.log_tail():
            self._plan.log_path.unlink(missing_ok=True)

    async def _encode(self, request: GenerateRequest) -> list[int]:
        text = await self._http.apply_template(request.chat) if request.chat else request.text
        tokens = await self._http.tokenize(text)
        wanted = request.sampling.max_tokens
        if len(tokens) + wanted > self._plan.context_tokens:
            raise ContextTooLong(
                f"{len(tokens)} prompt tokens and max_tokens {wanted} exceed the context of "
                f"{self._plan.context_tokens}; ask for fewer, or provision with more max_context_tokens"
            )
        return tokens


def _completion_body(sampling: SamplingParameters, *, context_tokens: int) -> dict[str, Any]:
    """llama.cpp's fields. All are always sent: its defaults are not neutral (top_k 40, min_p 0.05)."""

    def set_or(value: float | None, neutral: float) -> float:
        return neutral if value is None else value

    return {
        "n_predict": sampling.max_tokens,
        "stream": True,
        "return_tokens": True,
        "cache_prompt": False,
        "temperature": set_or(sampling.temperature, 0.0),
        "top_p": set_or(sampling.top_p, 1.0),
        "top_k": set_or(sampling.top_k, 0),
        "min_p": set_or(sampling.min_p, 0.0),
        "seed": set_or(sampling.seed, _UNSEEDED),
        "repeat_penalty": set_or(sampling.repetition_penalty, 1.0),
        "repeat_last_n": context_tokens,  # the whole sequence, as elsewhere
        # The order in which vLLM applies them, so that one set of parameters means one distribution.
        "samplers": ["penalties", "temperature", "min_p", "top_k", "top_p"],
        "stop": list(sampling.stop),
        "ignore_eos": sampling.ignore_eos,
    }


def _result(stream: _Stream, reply: UpstreamReply, *, received_mono_ns: int) -> GenerateResult:
    final = stream.final
    if final is None:
        raise EngineError(
            "the engine's stream ended without its last message",
            retryable=True,
            tokens_before_error=stream.arrivals.token_count,
        )
    reason = _FINISH_REASONS.get(final["stop_type"])
    if reason is None:
        raise EngineError(f"the engine stopped for an unknown reason: {final['stop_type']!r}")
    completion_tokens = int(final["tokens_predicted"])
    return GenerateResult(
        text="".join(stream.pieces),
        finish_reason=reason,
        stop_match=final.get("stopping_word", ""),
        prompt_tokens=int(final["tokens_evaluated"]),
        completion_tokens=completion_tokens,
        times=stream.arrivals.times(
            reply, completion_tokens=completion_tokens, received_mono_ns=received_mono_ns
        ),
        token_text_lengths=stream.arrivals.text_lengths(completion_tokens=completion_tokens),
    )


def _instruction_set() -> str:
    """What the loaded library computes with, as it reports it."""
    text = xllamacpp.get_system_info()
    names = [part.split("=")[0].strip(" |:") for part in text.split("|") if "= 1" in part]
    return " ".join(name.removeprefix("CPU : ") for name in names)

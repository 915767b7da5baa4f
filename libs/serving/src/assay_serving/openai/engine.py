"""An engine over one OpenAI-compatible model server, whoever runs it."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from assay_serving.backend import Engine, PreparedArtifact
from assay_serving.errors import ContextTooLong, EngineError, InvalidRequest, ServingError, StartFailed
from assay_serving.launchers.server import RunningServer
from assay_serving.openai.completion import CompletionStream, Prompt, completion_body, scoring_body
from assay_serving.openai.http import ModelHttp
from assay_serving.openai.scoring import PromptScorer
from assay_serving.power.source import PowerSource
from assay_serving.types import (
    Capabilities,
    Device,
    GenerateRequest,
    GenerateResult,
    InstanceLog,
    Provenance,
    SamplingParameters,
    ScoreMethod,
    ScoreRequest,
    ScoreResult,
    Support,
)
from assay_serving.upstream import UpstreamError

ENDPOINT = "endpoint"
_logger = logging.getLogger(__name__)
_TAIL_BYTES = 4096
_WARM_UP_TEXT = "The capital of France is"
_WARM_UP_TOKENS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlan:
    """What an engine is told of its server beside how to reach it.

    Attributes:
        engine: name of the server's software.
        artifact: what it serves.
        capabilities: what its software does; context, concurrency and scoring are found out.
        concurrency: requests in flight at once; more wait here.
        context_tokens: that are needed; 0 where the server's own are enough.
        launcher: see `Engine.launcher`.
        devices: that it occupies.
        accelerators: how many of them are accelerators.
        model: name that the server knows the model by; empty where it serves one alone.
        command_line, settings: for provenance; no secrets.
        power_sources: sensors of its devices, opened anew by each call.
        on_stop: called once it has stopped; gives the devices back.
    """

    engine: str
    artifact: PreparedArtifact
    capabilities: Capabilities
    concurrency: int
    context_tokens: int = 0
    launcher: str
    devices: tuple[Device, ...] = ()
    accelerators: int = 0
    model: str = ""
    command_line: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    power_sources: Callable[[], tuple[PowerSource, ...]] = tuple
    on_stop: Callable[[], None] = lambda: None


class OpenAIEngine(Engine):
    """Generation by streamed completions, scoring by log-probabilities of the prompt."""

    def __init__(self, server: RunningServer, plan: EnginePlan) -> None:
        self._server = server
        self._plan = plan
        self._http = ModelHttp(server)
        self._requests = asyncio.Semaphore(plan.concurrency)
        self._model = plan.model
        self._version = ""
        self._tail = ""
        self._scorer: PromptScorer | None = None
        self._has_warned = False
        self._is_stopped = False
        self._capabilities = replace(
            plan.capabilities, max_context_tokens=plan.context_tokens, max_concurrency=plan.concurrency
        )

    @property
    def capabilities(self) -> Capabilities:
        """Those of the server's software, with this server's context and whether it scores."""
        return self._capabilities

    @property
    def provenance(self) -> Provenance:
        """Server, model, devices and settings; the version is known after `warm_up`."""
        plan, place = self._plan, self._server.place
        return Provenance(
            engine=plan.engine,
            engine_version=self._version,
            command_line=plan.command_line,
            artifact_sha256=plan.artifact.sha256,
            source_sha256=plan.artifact.source_sha256,
            model_name=plan.artifact.model_name,
            quantization=plan.artifact.quantization,
            devices=plan.devices,
            host=place.get("node") or place.get("host", ""),
            engine_settings={**plan.settings, **place},
            engine_pid=self._server.process_id,
        )

    @property
    def process_id(self) -> int:
        """See Engine."""
        return self._server.process_id

    @property
    def launcher(self) -> str:
        """See Engine."""
        return self._plan.launcher

    @property
    def accelerators(self) -> int:
        """See Engine."""
        return self._plan.accelerators

    def power_sources(self) -> tuple[PowerSource, ...]:
        """See Engine."""
        return self._plan.power_sources()

    async def renew(self, lease: float) -> None:
        """See Engine."""
        await self._server.renew(lease)

    async def warm_up(self) -> None:
        """Find out what the server serves, make a short completion and, where it can score, a first score.

        Raises:
            StartFailed: the server lacks something that every request needs; the message says what.
        """
        try:
            await self._read_model()
            self._version = await self._read_version()
            await self._try_completion()
            await self._try_scoring()
        except (UpstreamError, InvalidRequest, EngineError) as error:
            self._tail = (await self._server.read_log(_TAIL_BYTES)).text
            raise StartFailed(f"no completion: {error}", engine_detail=self._tail) from error

    async def generate(self, request: GenerateRequest, *, received_mono_ns: int) -> GenerateResult:
        """Answer one request; waits while as many are in flight as the instance may have."""
        stream = self._stream(request.sampling)
        try:
            async with self._requests:
                prompt = await self._prompt_of(request)
                body = completion_body(prompt, request.sampling, model=self._model)
                reply = await self._http.stream(body, stream.add)
        except UpstreamError as error:
            tokens = stream.arrivals.token_count
            raise await self.connection_lost(error, tokens_before_error=tokens) from error
        except InvalidRequest as error:
            raise await self._explained(error, request) from error
        result = stream.result(reply, received_mono_ns=received_mono_ns)
        self._check_counts(stream, result)
        return result

    async def score(self, request: ScoreRequest, *, received_mono_ns: int) -> ScoreResult:
        """Score one continuation."""
        assert self._scorer is not None, "no score is asked for where the capability is refused"
        try:
            return await self._scorer.score(request, received_mono_ns=received_mono_ns)
        except UpstreamError as error:
            raise await self.connection_lost(error) from error

    async def wait_dead(self) -> str:
        """See Engine."""
        end = await self._server.wait_dead()
        self._tail = (await self._server.read_log(_TAIL_BYTES)).text
        return end

    async def connection_lost(self, error: Exception, *, tokens_before_error: int = 0) -> ServingError:
        """See Engine. Whether somebody else's server has died shows only later, so nobody waits for it."""
        if self._plan.launcher == ENDPOINT:
            return EngineError(str(error), retryable=True, tokens_before_error=tokens_before_error)
        return await Engine.connection_lost(self, error, tokens_before_error=tokens_before_error)

    def log_tail(self) -> str:
        """The end of the log as it was read last; see `read_log`."""
        return self._tail

    async def read_log(self, max_bytes: int) -> InstanceLog:
        """See Engine."""
        return await self._server.read_log(max_bytes)

    async def stop(self) -> None:
        """See Engine. A server that somebody else runs goes on."""
        self._http.close()
        await self._server.stop()
        if not self._is_stopped:
            self._is_stopped = True
            self._plan.on_stop()

    async def _read_model(self) -> None:
        """Take name and context of the model from the server's list."""
        listed = (await self._http.get("/v1/models")).get("data") or []
        names = [str(each.get("id")) for each in listed]
        if self._plan.model and self._plan.model not in names:
            raise StartFailed(f"the server has no model {self._plan.model!r}; it has {', '.join(names)}")
        if not self._plan.model and len(names) != 1:
            raise StartFailed(
                f"the server has {len(names)} models; name one by the serving parameter 'served_model': "
                f"{', '.join(names[:20])}"
            )
        self._model = self._plan.model or names[0]
        context = int(listed[names.index(self._model)].get("max_model_len") or self._plan.context_tokens)
        if context < self._plan.context_tokens or not context:
            raise StartFailed(
                f"max_context_tokens: {self._plan.context_tokens} are asked for, and the server has {context}"
                if context
                else "max_context_tokens: the server does not tell its model's context; say how long it is"
            )
        self._capabilities = replace(self._capabilities, max_context_tokens=context)

    async def _read_version(self) -> str:
        try:
            return str((await self._http.get("/version")).get("version", ""))
        except EngineError:
            return ""  # only some servers tell

    async def _try_completion(self) -> None:
        sampling = SamplingParameters(max_tokens=_WARM_UP_TOKENS, temperature=0.0, ignore_eos=True)
        stream = self._stream(sampling)
        await self._http.stream(completion_body(_WARM_UP_TEXT, sampling, model=self._model), stream.add)
        if stream.usage is None:
            raise EngineError("the server sends no usage with a stream (stream_options.include_usage)")
        if not stream.arrivals.token_count:
            raise EngineError(
                "the server sends no token ids (return_token_ids), without which tokens cannot be counted"
            )

    async def _try_scoring(self) -> None:
        """Make the first score, which is slow on some servers; where it fails none will be asked for."""
        if self._plan.capabilities.score is not Support.YES:
            return
        tokens = await self._http.tokenize(_WARM_UP_TEXT, model=self._model, add_special=True)
        try:
            choice = (await self._http.complete(scoring_body(tokens, model=self._model))).choice
        except InvalidRequest as error:
            _logger.info("no scoring here: %s", error.message)
            self._withdraw_scoring(Support.REFUSED)
            return
        if not choice.get("prompt_logprobs"):
            self._withdraw_scoring(Support.IGNORED)
            return
        self._capabilities = replace(self._capabilities, score_method=ScoreMethod.PROMPT_LOGPROBS)
        self._scorer = PromptScorer(
            self._http,
            model=self._model,
            context_tokens=self._capabilities.max_context_tokens,
            prefix_token=await self._prefix_token(),
            requests=self._requests,
        )

    def _withdraw_scoring(self, support: Support) -> None:
        self._capabilities = replace(self._capabilities, score=support, score_method=None)

    async def _prefix_token(self) -> int | None:
        """What stands for an empty context: see `PairEncoder`."""
        try:
            about: dict[str, Any] = await self._http.get("/tokenizer_info")
        except EngineError:
            about = {}  # a server may keep it to itself
        name = about.get("bos_token") or about.get("eos_token")
        if name:
            tokens = await self._http.tokenize(str(name), model=self._model, add_special=False)
        else:
            tokens = await self._http.tokenize("", model=self._model, add_special=True)
        return tokens[0] if len(tokens) == 1 else None

    def _stream(self, sampling: SamplingParameters) -> CompletionStream:
        return CompletionStream(sampling=sampling, context_tokens=self._capabilities.max_context_tokens)

    async def _prompt_of(self, request: GenerateRequest) -> Prompt:
        if not request.chat:
            return request.text
        tokens = await self._http.tokenize_chat(request.chat, model=self._model)
        self._check_fits(len(tokens), request.sampling.max_tokens)
        return tokens

    def _check_fits(self, prompt_tokens: int, max_tokens: int) -> None:
        context = self._capabilities.max_context_tokens
        if prompt_tokens + max_tokens > context:
            raise ContextTooLong(
                f"{prompt_tokens} prompt tokens and max_tokens {max_tokens} exceed the context of {context}; "
                "ask for fewer, or provision with more max_context_tokens"
            )

    async def _explained(self, error: InvalidRequest, request: GenerateRequest) -> ServingError:
        """The refusal, or that the context is too short: servers say the latter in words that change."""
        if request.text:
            try:
                tokens = await self._http.tokenize(request.text, model=self._model, add_special=True)
                self._check_fits(len(tokens), request.sampling.max_tokens)
            except ContextTooLong as too_long:
                too_long.engine_detail = error.message
                return too_long
            except (UpstreamError, ServingError):
                pass  # the refusal stands
        return error

    def _check_counts(self, stream: CompletionStream, result: GenerateResult) -> None:
        if result.times.exact_token_times or self._has_warned:
            return
        self._has_warned = True
        _logger.warning(
            "%s counts %d tokens of an answer and sent the ids of %d: such answers have no exact token times",
            self._plan.engine,
            result.completion_tokens,
            stream.arrivals.token_count,
        )

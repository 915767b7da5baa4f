"""The engine of a faithful server: places in the batch, steps in time, stop conditions, faults, counts."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from engines.model import START, Model, Position, Sampling, position_after
from engines.script import FaultKind, Script
from engines.tokenizer import END_ID, IncrementalText, Tokenizer


class EngineFailed(Exception):
    """The engine failed on one request, or is dead."""


class ConnectionCut(Exception):
    """The connection is to be closed without another byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One sequence to generate.

    `logprobs` is how many of the most probable tokens to tell at each step, if any are wanted.
    """

    prompt: Sequence[int]
    sampling: Sampling
    max_tokens: int
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    include_stop: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    logprobs: int | None = None
    prompt_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class TokenScore:
    """Log-probability and rank (from 1) of a token at a position."""

    token: int
    log_probability: float
    rank: int


@dataclass(slots=True, kw_only=True)
class Delta:
    """What one step brought: tokens, the text known since, and the scores of each token's position.

    The chosen token's score comes first, then those of the most probable ones.
    """

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    scores: list[list[TokenScore]] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    def extend(self, following: "Delta") -> None:
        """Take in the delta that follows this one."""
        self.text += following.text
        self.tokens += following.tokens
        self.scores += following.scores
        self.finish_reason, self.stop_reason = following.finish_reason, following.stop_reason


@dataclass(slots=True)
class Counts:
    """What a server tells in its metrics."""

    requests: int = 0
    running: int = 0
    waiting: int = 0
    most_running: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    finished: dict[str, int] = field(default_factory=dict)


class Generator:
    """Generates up to `batch` sequences at once; others wait for a place in the order of their coming."""

    def __init__(self, script: Script, *, batch: int) -> None:
        self.script = script
        self.tokenizer = Tokenizer()
        self.model = Model(self.tokenizer)
        self.counts = Counts()
        self.dead = asyncio.Event()
        self._sleepers: set[asyncio.Future[None]] = set()
        self._places = asyncio.Semaphore(batch)
        self._journal = Path(script.journal) if script.journal else None

    async def generate(self, wanted: Wanted) -> AsyncGenerator[Delta, None]:
        """The sequence step by step; leaving it early gives its place back.

        Raises:
            EngineFailed: the script says that this request fails, or the engine has died.
            ConnectionCut: the script says so.
        """
        self.counts.requests += 1
        number = self.counts.requests
        self.counts.waiting += 1
        is_waiting = True
        outcome = "abort"
        self.note("request", number, prompt=list(wanted.prompt), sampling=asdict(wanted.sampling))
        try:
            async with self._places:
                self.counts.waiting -= 1
                is_waiting = False
                self._begin(wanted)
                self.note("begin", number)
                try:
                    async for delta in self._steps(wanted, number):
                        self.counts.generation_tokens += len(delta.tokens)
                        outcome = delta.finish_reason or outcome
                        yield delta
                finally:
                    self.counts.running -= 1
        finally:
            self.counts.waiting -= is_waiting
            self.counts.finished[outcome] = self.counts.finished.get(outcome, 0) + 1
            self.note("end", number, outcome=outcome)

    def prompt_scores(self, prompt: Sequence[int], most_probable: int) -> list[list[TokenScore] | None]:
        """Scores of each prompt token after those before it; the first has none."""
        found: list[list[TokenScore] | None] = [None]
        position = START
        for token, following in pairwise(prompt):
            position = position.after(token)
            found.append(self.scores(position, following, most_probable))
        return found

    def scores(self, position: Position, token: int, most_probable: int) -> list[TokenScore]:
        """The token's score at this position, then those of the most probable tokens (-1: all)."""
        if most_probable < 0:
            most_probable = self.model.vocabulary_size
        own = self.model.rank(position, token)
        ranks = [own, *(rank for rank in range(most_probable) if rank != own)]
        return [
            TokenScore(self.model.token(position, rank), self.model.log_probability(rank), rank + 1)
            for rank in ranks
        ]

    def _begin(self, wanted: Wanted) -> None:
        counts = self.counts
        counts.running += 1
        counts.most_running = max(counts.most_running, counts.running)
        counts.prompt_tokens += len(wanted.prompt)

    async def _steps(self, wanted: Wanted, number: int) -> AsyncIterator[Delta]:
        script = self.script
        fault = script.fault_of(number=number, prompt=self.tokenizer.decode(wanted.prompt))
        due = time.monotonic() + script.first_token
        produced = 0
        for delta in _in_steps(self._tokens(wanted), script.tokens_per_step):
            await self._sleep_until(due)
            due += script.interval
            yield delta
            produced += len(delta.tokens)
            if fault is not None and produced >= script.fault_after:
                await self._fail(fault)

    def _tokens(self, wanted: Wanted) -> Iterator[Delta]:
        """One delta per token, without regard to time."""
        text = IncrementalText(
            self.tokenizer, skip_special_tokens=wanted.skip_special_tokens, prompt=wanted.prompt
        )
        held = _StopStrings(wanted.stop, include=wanted.include_stop)
        position = position_after(wanted.prompt)
        output: list[int] = []
        while True:
            token = self._next(position, wanted, output)
            output.append(token)
            delta = Delta(tokens=[token])
            if wanted.logprobs is not None:
                delta.scores.append(self.scores(position, token, wanted.logprobs))
            delta.finish_reason, delta.stop_reason = _end_by_token(wanted, token, len(output))
            # The text of a token that ends the answer does not show.
            shown = "" if delta.finish_reason == "stop" and not wanted.include_stop else text.feed(token)
            delta.text, matched = held.feed(shown, is_last=delta.finish_reason is not None)
            if matched is not None and len(output) >= wanted.min_tokens:
                delta.finish_reason, delta.stop_reason = "stop", matched
            yield delta
            if delta.finish_reason is not None:
                return
            position = position.after(token)

    def _next(self, position: Position, wanted: Wanted, output: list[int]) -> int:
        may_end = len(output) >= wanted.min_tokens
        if may_end and 0 < self.script.answer_tokens <= len(output) + 1:
            return END_ID
        sampling = wanted.sampling
        token = self.model.choose(position, sampling, prompt=wanted.prompt, output=output)
        if token == END_ID and not may_end:
            return self.model.token(position, 1)
        return token

    async def _sleep_until(self, due: float) -> None:
        """Wait for the moment, or raise once the engine is dead."""
        if self.dead.is_set():
            raise EngineFailed
        remaining = due - time.monotonic()
        if remaining > 0:
            loop = asyncio.get_running_loop()
            sleeper: asyncio.Future[None] = loop.create_future()
            self._sleepers.add(sleeper)
            timer = loop.call_later(remaining, _wake, sleeper)
            try:
                await sleeper
            finally:
                timer.cancel()
                self._sleepers.discard(sleeper)
        if self.dead.is_set():
            raise EngineFailed

    async def _fail(self, fault: FaultKind) -> None:
        match fault:
            case FaultKind.ERROR:
                raise EngineFailed
            case FaultKind.CUT:
                raise ConnectionCut
            case FaultKind.STALL:
                await self.dead.wait()
                raise EngineFailed
            case FaultKind.DIE | FaultKind.CORE:
                self.on_fatal(fault)
                await self.dead.wait()
                raise EngineFailed

    def die(self) -> None:
        """Fail everything that is in flight, and whatever still comes."""
        self.dead.set()
        for sleeper in self._sleepers:
            _wake(sleeper)

    def on_fatal(self, fault: FaultKind) -> None:
        """Replaced by the server, which has the processes."""
        raise NotImplementedError(fault)

    def note(self, event: str, number: int, **fields: Any) -> None:
        """Write a line to the journal, where there is one."""
        if self._journal is not None:
            line = {"event": event, "number": number, "mono_ns": time.monotonic_ns(), **fields}
            with self._journal.open("a") as journal:
                journal.write(json.dumps(line) + "\n")


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


class _StopStrings:
    """Holds back text that may be the beginning of a stop string, and finds one."""

    def __init__(self, stop: tuple[str, ...], *, include: bool) -> None:
        self._stop = stop
        self._include = include
        self._held = 0 if include else max((len(each) - 1 for each in stop), default=0)
        self._text = ""
        self._sent = 0

    def feed(self, text: str, *, is_last: bool) -> tuple[str, str | None]:
        """The text to send now, and the stop string that ended it."""
        searched = max(0, len(self._text) - max(map(len, self._stop), default=0))
        self._text += text
        for stop in self._stop:
            found = self._text.find(stop, searched)
            if found >= 0:
                end = found + len(stop) if self._include else found
                return self._take(end), stop
        return self._take(len(self._text) - (0 if is_last else self._held)), None

    def _take(self, end: int) -> str:
        taken = self._text[self._sent : max(self._sent, end)]
        self._sent += len(taken)
        return taken


def _end_by_token(wanted: Wanted, token: int, count: int) -> tuple[str | None, int | str | None]:
    if count >= wanted.min_tokens:
        if token == END_ID and not wanted.ignore_eos:
            return "stop", None
        if token in wanted.stop_token_ids:
            return "stop", token
    return ("length", None) if count >= wanted.max_tokens else (None, None)


def _in_steps(deltas: Iterator[Delta], size: int) -> Iterator[Delta]:
    """Bring `size` tokens together in one delta, but the first alone."""
    whole: Delta | None = None
    limit = 1
    for delta in deltas:
        if whole is None:
            whole = delta
        else:
            whole.extend(delta)
        if len(whole.tokens) >= limit or whole.finish_reason is not None:
            yield whole
            whole, limit = None, size

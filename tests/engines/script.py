"""What a faithful server is told to do by environment variables: its timing, and what goes wrong when."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self


class FaultKind(StrEnum):
    """What goes wrong with a request, after `Script.fault_after` tokens of its answer."""

    DIE = "die"  # the server's processes end, as by SIGKILL
    CORE = "core"  # the engine's core process ends, and the server finds out
    ERROR = "error"  # the engine fails on this request alone
    CUT = "cut"  # the connection closes
    STALL = "stall"  # nothing more comes


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of one request: the one of that number (from 1), or each whose prompt has that text in it."""

    kind: FaultKind
    number: int = 0
    text: str = ""

    @classmethod
    def parse(cls, written: str) -> Self:
        """Parse ``kind@number`` or ``kind~text``; raises ValueError for anything else."""
        for separator in "@~":
            kind, found, rest = written.partition(separator)
            if found and kind in set(FaultKind) and rest:
                number = int(rest) if separator == "@" else 0
                return cls(FaultKind(kind), number, "" if number else rest)
        raise ValueError(f"ENGINE_FAULTS: {written!r} is neither kind@number nor kind~text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The variables that a server reads when it starts. Times are seconds.

    Attributes:
        load: ENGINE_LOAD_S: from start until the port opens.
        hangs: ENGINE_HANGS: the port never opens.
        refusal: ENGINE_REFUSAL: message with which it gives up instead of loading (exit status 1).
        first_token: ENGINE_FIRST_TOKEN_S: from having a place in the batch to the first token.
        interval: ENGINE_INTERVAL_S: between two steps.
        tokens_per_step: ENGINE_TOKENS_PER_STEP: tokens that come together, as with speculative decoding.
        answer_tokens: ENGINE_ANSWER_TOKENS: every answer ends by itself after that many; 0: when the model
            says so.
        faults, fault_after: ENGINE_FAULTS, separated by commas, and ENGINE_FAULT_AFTER.
        core_processes: ENGINE_CORE_PROCESSES: processes under the server's own; unset: as many as it has.
        stubborn: ENGINE_STUBBORN: SIGTERM does not end the server or its core processes.
        generation_config: ENGINE_GENERATION_CONFIG: the model's own sampling defaults, as JSON.
        context: ENGINE_CONTEXT: tokens that the model itself can hold.
        journal: ENGINE_JOURNAL: file to which a JSON line is written for each request and each end of one.
        leaves_sockets_idle: ENGINE_IDLE_S: after that many seconds an unused connection is closed.
    """

    load: float = 0.0
    hangs: bool = False
    refusal: str = ""
    first_token: float = 0.002
    interval: float = 0.001
    tokens_per_step: int = 1
    answer_tokens: int = 0
    faults: tuple[Fault, ...] = ()
    fault_after: int = 2
    core_processes: int | None = None
    stubborn: bool = False
    generation_config: Mapping[str, Any] = field(
        default_factory=lambda: {"temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.8}
    )
    context: int = 8192
    journal: str = ""
    leaves_sockets_idle: float = 5.0

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables; raises ValueError where one cannot be read."""

        usual = cls()

        def number(name: str, default: float) -> float:
            return float(environment.get(f"ENGINE_{name}", default))

        faults = environment.get("ENGINE_FAULTS", "")
        config = environment.get("ENGINE_GENERATION_CONFIG")
        cores = environment.get("ENGINE_CORE_PROCESSES", "")
        given: dict[str, Any] = {} if config is None else {"generation_config": json.loads(config)}
        return cls(
            load=number("LOAD_S", usual.load),
            hangs=environment.get("ENGINE_HANGS", "") not in ("", "0"),
            refusal=environment.get("ENGINE_REFUSAL", ""),
            first_token=number("FIRST_TOKEN_S", usual.first_token),
            interval=number("INTERVAL_S", usual.interval),
            tokens_per_step=int(number("TOKENS_PER_STEP", usual.tokens_per_step)),
            answer_tokens=int(number("ANSWER_TOKENS", usual.answer_tokens)),
            faults=tuple(Fault.parse(each) for each in faults.split(",") if each),
            fault_after=int(number("FAULT_AFTER", usual.fault_after)),
            core_processes=int(cores) if cores else None,
            stubborn=environment.get("ENGINE_STUBBORN", "") not in ("", "0"),
            context=int(number("CONTEXT", usual.context)),
            journal=environment.get("ENGINE_JOURNAL", ""),
            leaves_sockets_idle=number("IDLE_S", usual.leaves_sockets_idle),
            **given,
        )

    def fault_of(self, *, number: int, prompt: str) -> FaultKind | None:
        """How completion request `number` (from 1) with that prompt fails, if it does."""
        for fault in self.faults:
            if fault.number == number or (fault.text and fault.text in prompt):
                return fault.kind
        return None

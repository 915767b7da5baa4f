"""One serving instance of a run, from the request for it to its release, and what it leaves behind."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any

from assay_serving.client import ModelServer
from assay_serving.errors import Fenced, ServingError
from assay_serving.session import GenerateSession, ScoreSession
from assay_serving.types import Instance, InstanceLog, InstanceState, PhaseTimes, ProvisionSpec
from eval_svc.ledger import instance_ledger
from eval_svc.usage import Usage

logger = logging.getLogger(__name__)

MOST_LOG_BYTES = 256 * 1024
_TELEMETRY_PERIOD_S = 0.2
_LAST_READING_S = 2.0


@dataclass(frozen=True, slots=True)
class ClosedInstance:
    """What is left of an instance: its record, as runs store it, and the end of its log, if there is one.

    One that found no room (``had_room`` is false) held nothing: the time is in ``waited_s`` of the next.
    """

    record: dict[str, Any]
    log: InstanceLog | None
    had_room: bool = True


class LeasedInstance:
    """A serving instance that is kept alive from the moment in which it was asked for.

    Its calibrations lie outside the time in which telemetry is taken, so that their load is in no figure.

    Args:
        server: the adapter.
        instance: as ``provision`` has returned it.
        spec: that it was asked for with.
        waited: seconds until the adapter had room for it.
        clean: takes secrets out of what the serving side says.
    """

    def __init__(
        self,
        server: ModelServer,
        instance: Instance,
        *,
        spec: ProvisionSpec,
        waited: float,
        clean: Callable[[str], str],
    ) -> None:
        self._server = server
        self._instance = instance
        self._spec = spec
        self._waited = waited
        self._clean = clean
        self._using = AsyncExitStack()
        self._calibration: dict[str, Any] = {"before": None, "after": None, "note": None}
        self._keeping = asyncio.create_task(self._keep_alive())
        self.usage = Usage()
        self.is_broken = False
        """Whether it answers no more."""
        self.is_taken_over = False
        """Whether a newer lease on the run has ended it."""
        self.generate: GenerateSession
        self.score: ScoreSession

    @property
    def instance(self) -> Instance:
        """Its last known state."""
        return self._instance

    async def become_ready(self, *, calibrates: bool) -> None:
        """Wait until it answers, calibrate it if that is wanted, and open it for requests.

        Raises:
            ServingError: it does not start; ``close`` it all the same.
        """
        name = self._instance.instance_id
        self._instance = await self._server.wait_ready(name, timeout=self._spec.ready_timeout)
        self.usage = Usage(
            accelerators=self._instance.accelerators, idle_baselines=self._instance.idle_baselines
        )
        if calibrates:
            await self._calibrate("before")
        else:
            self._calibration["note"] = "switched off"
        self.generate = await self._using.enter_async_context(self._server.generate_session(name))
        self.score = await self._using.enter_async_context(self._server.score_session(name))
        self._using.push_async_callback(_end, asyncio.create_task(self._measure()))

    def record(self) -> dict[str, Any]:
        """What a run stores of it, JSON: all that is known while it serves."""
        return {
            **_described(self._instance),
            "telemetry": None,
            "ledger": None,
            "calibration": dict(self._calibration),
            "log": None,
            "ended": None,
        }

    async def close(self, *, reason: str, is_finished: bool) -> ClosedInstance:
        """Stop using it, release it and gather what it leaves.

        After its last request (``is_finished``) the sensors are read once more, and it is calibrated again if
        it was before.
        """
        if is_finished and not self.is_broken:
            await self.usage.caught_up(timeout=_LAST_READING_S)
        await self._using.aclose()
        if is_finished and not self.is_broken and self._calibration["before"] is not None:
            await self._calibrate("after")
        await _end(self._keeping)
        last, missing = await _end_at(self._server, self._instance.instance_id, reason=reason)
        log = await _log_of(self._server, self._instance.instance_id, clean=self._clean)
        was_ready = self._instance.ready_unix_ns > 0
        if last is not None:
            self._instance = last
        telemetry = _plain(self.usage.summary()) if was_ready else None
        ledger = instance_ledger(
            self._instance.instance_id,
            phases=self._instance.phase_times,
            accelerators=self._instance.accelerators,
            telemetry=telemetry,
            was_ready=was_ready,
            waited=self._waited,
            is_end_known=missing is None,
            note=missing,
        )
        record = {
            **self.record(),
            "telemetry": telemetry,
            "ledger": ledger,
            "log": _log_part(log),
            "ended": _ended_part(last, reason=reason, clean=self._clean),
        }
        return ClosedInstance(record=record, log=log)

    async def _keep_alive(self) -> None:
        name, lease = self._instance.instance_id, self._spec.lease
        while True:
            await asyncio.sleep(lease / 3)
            try:
                await self._server.keep_alive(name, lease=lease, fencing_token=self._spec.fencing_token)
            except Fenced:
                self.is_broken = self.is_taken_over = True
                return
            except ServingError:
                pass  # a dead instance shows in the requests themselves

    async def _measure(self) -> None:
        with suppress(ServingError):
            async for sample in self._server.telemetry(
                self._instance.instance_id, period=_TELEMETRY_PERIOD_S
            ):
                self.usage.add(sample)

    async def _calibrate(self, when: str) -> None:
        """Never fails a run: numbers without a calibration are numbers of unknown error, and say so."""
        try:
            found = await self._server.calibrate(self._instance.instance_id)
        except ServingError as error:
            logger.warning("no calibration of %s %s the run: %s", self._instance.instance_id, when, error)
            self._calibration["note"] = f"{when}: {self._clean(error.message)}"
        else:
            self._calibration[when] = _plain(asdict(found))


async def close_abandoned(
    server: ModelServer, record: Mapping[str, Any], *, clean: Callable[[str], str]
) -> ClosedInstance:
    """End an instance whose worker is gone, and add what its adapter still knows of it to its ``record``.

    What its telemetry said is lost with the worker.
    """
    name = record["instance_id"]
    was_ready = record["phase_times"]["ready"] > 0
    last, missing = await _end_at(server, name, reason="its worker is gone")
    log = await _log_of(server, name, clean=clean)
    found = dict(record) if last is None else {**record, **_described(last)}
    ledger = instance_ledger(
        name,
        phases=PhaseTimes(**found["phase_times"]),
        accelerators=found.get("accelerators", 0),
        telemetry=None,
        was_ready=was_ready or (last is not None and last.ready_unix_ns > 0),
        is_end_known=missing is None,
        note="its worker died, and what it had measured is lost" + (f"; {missing}" if missing else ""),
    )
    ended = _ended_part(last, reason="its worker died", clean=clean)
    return ClosedInstance(record={**found, "ledger": ledger, "log": _log_part(log), "ended": ended}, log=log)


async def _end_at(server: ModelServer, name: str, *, reason: str) -> tuple[Instance | None, str | None]:
    """Release an instance; its last state, or why that is not known. The adapter's lease ends it anyway."""
    try:
        released = await server.end(name, reason=reason)
    except ServingError as error:
        return None, f"its adapter did not tell how it ended: {error.message}"
    if released.instance is None:
        return None, "its adapter has been restarted and does not know it any more"
    return released.instance, None


async def _log_of(server: ModelServer, name: str, *, clean: Callable[[str], str]) -> InstanceLog | None:
    try:
        log = await server.logs(name, max_bytes=MOST_LOG_BYTES)
    except ServingError as error:
        logger.info("no log of instance %s: %s", name, error)
        return None
    return InstanceLog(text=clean(log.text), is_cut=log.is_cut)


def _described(instance: Instance) -> dict[str, Any]:
    kept = ("instance_id", "phase_times", "provenance", "launcher", "accelerators", "idle_baselines")
    described = asdict(instance)
    return dict(_plain({name: described[name] for name in kept}))


def _log_part(log: InstanceLog | None) -> dict[str, Any] | None:
    return None if log is None else {"bytes": len(log.text.encode()), "is_cut": log.is_cut}


def _ended_part(last: Instance | None, *, reason: str, clean: Callable[[str], str]) -> dict[str, str]:
    if last is None:
        return {"state": "lost", "reason": reason}
    if last.state is InstanceState.FAILED and last.error is not None:
        return {"state": last.state.value, "reason": clean(last.error.message)}
    return {"state": last.state.value, "reason": reason}


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """The same in JSON's own types."""
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

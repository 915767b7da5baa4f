"""A worker that takes one lease after the other, keeps each alive and notes what became of it.

Run as ``python lease_holder.py ADDRESS OWNER TOKEN COUNT SEED MODEL JOURNAL``. Every line of the journal is a
JSON object with ``event`` and ``mono`` (seconds of CLOCK_MONOTONIC, which all processes of a machine share).
"""

import asyncio
import contextlib
import json
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from assay_serving.client import ModelServer
from assay_serving.errors import AdapterUnavailable, NoCapacity, ServingError
from assay_serving.types import Artifact, GenerateRequest, Instance, ProvisionSpec, SamplingParameters

LEASE_SECONDS = 5.0
_HEARTBEAT_SECONDS = 0.5
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Journal:
    """One file per worker; a line is written whole or not at all, whoever is killed."""

    path: Path

    def note(self, event: str, **content: object) -> None:
        line = json.dumps({"event": event, "mono": time.monotonic(), **content}) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class Holder:
    """Takes leases under one owner and fencing token."""

    server: ModelServer
    journal: Journal
    owner: str
    token: int
    model: str

    async def hold(self, number: int, seconds: float) -> None:
        """One lease: provision, answer a request, stay for some time, release."""
        asked = time.monotonic()
        instance = await self._provision(number)
        accepted = time.monotonic()
        self.journal.note("provisioned", instance=instance.instance_id)
        heart = asyncio.create_task(self._keep_alive(instance.instance_id))
        try:
            await self.server.wait_ready(instance.instance_id, timeout=_PATIENCE_SECONDS)
            self.journal.note("ready", instance=instance.instance_id)
            async with self.server.generate_session(instance.instance_id) as session:
                request = GenerateRequest(text="How many?", sampling=SamplingParameters(max_tokens=4))
                await session.generate(request)
                await asyncio.sleep(seconds)
                await session.generate(request)
            released = time.monotonic()
            ended = await self.server.end(instance.instance_id, reason="done")
            self._note_ledger(ended.instance, inner=released - accepted, outer=time.monotonic() - asked)
        except ServingError as error:
            self.journal.note(
                "lost", instance=instance.instance_id, code=error.code.value, message=error.message
            )
            with contextlib.suppress(ServingError):
                await self.server.release(instance.instance_id, reason="lost")
        finally:
            heart.cancel()
            await asyncio.gather(heart, return_exceptions=True)

    async def _provision(self, number: int) -> Instance:
        spec = ProvisionSpec(
            idempotency_key=f"{self.owner}:{self.token}:{number}",
            artifact=Artifact(uri=self.model, format="hf"),
            lease=LEASE_SECONDS,
            ready_timeout=_PATIENCE_SECONDS,
            owner=self.owner,
            fencing_token=self.token,
        )
        while True:
            try:
                return await self.server.provision(spec)
            except (AdapterUnavailable, NoCapacity):
                await asyncio.sleep(0.1)

    async def _keep_alive(self, instance_id: str) -> None:
        while True:
            with contextlib.suppress(ServingError):  # which the requests themselves run into
                await self.server.keep_alive(instance_id, lease=LEASE_SECONDS, fencing_token=self.token)
                self.journal.note("heartbeat", instance=instance_id)
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    def _note_ledger(self, instance: Instance | None, *, inner: float, outer: float) -> None:
        assert instance is not None
        times = instance.phase_times
        phases = (times.schedule, times.pull, times.load, times.ready, times.serving, times.drain)
        self.journal.note(
            "released",
            instance=instance.instance_id,
            state=instance.state.value,
            phases=phases,
            occupied=times.occupied,
            inner=inner,
            outer=outer,
        )


async def main() -> None:
    """Take COUNT leases."""
    address, owner, token, count, seed, model, journal = sys.argv[1:]
    generator = random.Random(int(seed))
    async with ModelServer.connect(address) as server:
        holder = Holder(server, Journal(Path(journal)), owner, int(token), model)
        for number in range(int(count)):
            await holder.hold(number, generator.uniform(0.0, 0.6))


if __name__ == "__main__":
    asyncio.run(main())

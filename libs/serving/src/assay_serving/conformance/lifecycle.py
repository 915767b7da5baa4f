"""Checks of an instance's life: being asked for, getting ready, ending, and being somebody's own."""

import asyncio
import os
import signal
import time
import uuid
from contextlib import aclosing
from dataclasses import replace

from assay_serving.conformance.subject import Subject, expect, greedy
from assay_serving.errors import (
    ArtifactMismatch,
    ArtifactNotFound,
    EngineDied,
    Fenced,
    InvalidRequest,
    StartFailed,
    UnknownInstance,
)
from assay_serving.types import Instance, InstanceState


async def describes_itself(subject: Subject) -> None:
    """Describe is complete and healthy, and lists the format of the artifact under test."""
    description = await subject.server.describe()
    assert description.healthy, description.unhealthy_reason
    assert description.adapter
    assert description.adapter_version
    assert description.engine_version
    assert description.devices, "no device named"
    assert not subject.artifact.format or subject.artifact.format in description.artifact_formats


async def provisions_once_per_key(subject: Subject) -> None:
    """The same key gives the same instance; another specification under it is refused."""
    first = await subject.shared()
    again = await subject.server.provision(subject.spec(idempotency_key=subject.shared_key))
    assert again.instance_id == first.instance_id
    await expect(
        InvalidRequest,
        subject.server.provision(subject.spec(idempotency_key=subject.shared_key, max_concurrency=1)),
    )


async def tells_states_in_order(subject: Subject) -> None:
    """Watch goes forward through the states to READY; phase times and provenance are filled in by then."""
    seen: list[InstanceState] = []

    async def note(instance: Instance, _: str) -> None:
        seen.append(instance.state)

    pending = await subject.server.provision(subject.spec(max_concurrency=1))
    ready = await subject.server.wait_ready(
        pending.instance_id, timeout=subject.ready_seconds, on_change=note
    )
    await subject.server.release(pending.instance_id, reason="conformance")
    order = list(InstanceState)
    assert seen == sorted(seen, key=order.index), f"states went back: {seen}"
    assert seen[-1] is InstanceState.READY
    assert ready.phase_times.load > 0
    assert ready.ready_unix_ns >= ready.created_unix_ns
    assert ready.provenance.engine_version
    assert ready.launcher
    if subject.is_endpoint:
        assert not ready.provenance.artifact_sha256, "nobody can know the digest of an endpoint's model"
        assert not ready.provenance.engine_pid
        assert not ready.accelerators
    else:
        assert ready.provenance.artifact_sha256


async def refuses_wrong_artifacts(subject: Subject) -> None:
    """A missing artifact, a wrong digest and unknown serving parameters are told apart."""
    missing = StartFailed if subject.is_endpoint else ArtifactNotFound
    await expect(missing, subject.start(subject.spec(artifact=subject.missing_artifact)))
    wrong = replace(subject.artifact, sha256="0" * 64)
    await expect(ArtifactMismatch, subject.start(subject.spec(artifact=wrong)))
    await expect(InvalidRequest, subject.start(subject.spec(serving_parameters={"no-such": "1"})))


async def ends_with_its_lease(subject: Subject) -> None:
    """A lease ends when KeepAlive last said, which releases the instance; KeepAlive is refused afterwards."""
    instance = await subject.server.provision(subject.spec(max_concurrency=1))
    await subject.server.keep_alive(instance.instance_id, lease=0.3)
    async with aclosing(subject.server.watch(instance.instance_id)) as events:  # type: ignore[type-var]
        states = [event.instance.state async for event in events]
    assert states[-1] is InstanceState.RELEASED, states
    await expect(UnknownInstance, subject.server.keep_alive(instance.instance_id, lease=1.0))


async def releases_idempotently(subject: Subject) -> None:
    """Releasing twice, or what never was, is no error; requests to a released instance are."""
    instance = await subject.start(subject.spec(max_concurrency=1))
    assert await subject.server.release(instance.instance_id, reason="conformance")
    assert not await subject.server.release(instance.instance_id, reason="conformance")
    assert not await subject.server.release("never-was", reason="conformance")
    async with subject.server.generate_session(instance.instance_id) as session:
        await expect(UnknownInstance, session.generate(greedy(subject.prompt)))


async def survives_its_engine(subject: Subject) -> None:
    """kill -9 of the engine: requests fail as retryable, the instance FAILED, and a new one works."""
    spec = subject.spec(max_concurrency=2)
    instance = await subject.start(spec)
    if not instance.provenance.engine_pid:
        return
    async with subject.server.generate_session(instance.instance_id) as session:
        running = [
            asyncio.create_task(session.generate(greedy(subject.prompt, max_tokens=400))) for _ in range(3)
        ]
        await session.generate(greedy(subject.prompt, max_tokens=1))
        os.kill(instance.provenance.engine_pid, signal.SIGKILL)
        outcomes = await asyncio.gather(*running, return_exceptions=True)
    errors = [each for each in outcomes if isinstance(each, BaseException)]
    assert errors, "no request was in flight; give the subject a prompt with a long continuation"
    assert all(isinstance(each, EngineDied) and each.retryable for each in errors), errors
    async with aclosing(subject.server.watch(instance.instance_id)) as events:  # type: ignore[type-var]
        states = [event.instance.state async for event in events]
    assert states[-1] is InstanceState.FAILED
    assert (await subject.server.describe()).healthy
    again = await subject.start(spec)
    assert again.instance_id != instance.instance_id
    await subject.server.release(again.instance_id, reason="conformance")


async def accounts_for_its_time(subject: Subject) -> None:
    """The last state has a time for each phase; together they are no longer than the instance lived."""
    asked = time.monotonic()
    instance = await subject.start(subject.spec(max_concurrency=1))
    async with subject.server.generate_session(instance.instance_id) as session:
        await session.generate(greedy(subject.prompt))
    ended = await subject.server.end(instance.instance_id, reason="conformance")
    lived = time.monotonic() - asked
    assert ended.existed
    assert ended.instance is not None, "Release does not tell the last state"
    assert ended.instance.state is InstanceState.RELEASED
    times = ended.instance.phase_times
    phases = (times.schedule, times.pull, times.load, times.ready, times.serving, times.drain)
    assert min(phases) >= 0, times
    assert times.ready > 0, "becoming ready takes a completion"
    assert times.serving > 0, "the time in which it served is not told"
    assert sum(phases) <= lived, f"{times} in {lived} s"
    assert times.cold_start <= instance_age(ended.instance), times
    assert times.occupied <= lived
    if ended.instance.accelerators:
        assert times.occupied >= times.serving, "accelerators were held while it served"
    for baseline in ended.instance.idle_baselines:
        assert baseline.watts >= 0, baseline
        assert baseline.seconds > 0, baseline
        assert baseline.readings > 0, baseline


def instance_age(instance: Instance) -> float:
    """Seconds from the request for the instance until it was ready."""
    return (instance.ready_unix_ns - instance.created_unix_ns) / 1e9


async def fences_lower_tokens(subject: Subject) -> None:
    """A higher fencing token of an owner ends the owner's instances under lower ones; a lower is refused."""
    owner = f"conformance-{uuid.uuid4().hex}"
    old = await subject.start(subject.spec(owner=owner, fencing_token=5, max_concurrency=1))
    await expect(Fenced, subject.start(subject.spec(owner=owner, fencing_token=4, max_concurrency=1)))
    await expect(Fenced, subject.server.keep_alive(old.instance_id, lease=60.0, fencing_token=4))
    await subject.server.keep_alive(old.instance_id, lease=60.0, fencing_token=5)
    await subject.server.keep_alive(old.instance_id, lease=60.0)
    new = await subject.server.provision(subject.spec(owner=owner, fencing_token=6, max_concurrency=1))
    async with aclosing(subject.server.watch(old.instance_id)) as events:  # type: ignore[type-var]
        states = [event.instance.state async for event in events]
    assert states[-1] is InstanceState.RELEASED, f"the fenced instance is {states[-1]}"
    await subject.server.wait_ready(new.instance_id, timeout=subject.ready_seconds)
    other = await subject.server.provision(subject.spec(owner=f"{owner}-2", fencing_token=1))
    await subject.server.keep_alive(new.instance_id, lease=60.0, fencing_token=6)
    for instance in (new, other):
        await subject.server.release(instance.instance_id, reason="conformance")

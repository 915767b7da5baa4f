"""40 leases in a cluster where everything breaks: nothing is left, and nothing is removed under a live lease.

Two replicas of the GPU adapter's own program start the faithful vLLM server in Pods. They are killed by
kill -9, their watches are cut, the API server fails, loses answers and has conflicts, and Pods are deleted
behind their back; twice the API server is away for longer than a lease. Workers hold the leases. This test is
the cluster and the supervisor.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.api_server import Fault
from cluster.containers import Image
from cluster.launching import GPU_CAPACITY
from cluster.machine import NAMESPACE, Cluster
from cluster.scheduler import Node
from engines.fixtures import TESTS, VLLM_PROGRAM

from assay_serving.launchers.kubernetes.manifests import INSTANCE_LABEL, lease_end
from assay_serving.launchers.process_server import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("leaks")]

LEASES = 40
WORKERS = 4
SEED = int(os.environ.get("ASSAY_LEAK_SEED", "5"))
TROUBLES = {
    "adapter": 5,
    "watches": 8,
    "api server": 6,
    "pod deleted": 4,
    "pod forced": 2,
    "worker": 4,
    "outage": 2,
}
FAULTY_SHARE = 0.03
# Longer than a lease as it is written: when the API server is back, every lease looks lapsed.
OUTAGE_SECONDS = 9.0
IMAGE = "vllm/vllm-openai:v0.32.0"
LEASE_HOLDER = Path(__file__).with_name("lease_holder.py")
ROLE = TESTS.parent / "deploy" / "kubernetes" / "role.yaml"
# A lease, half of it that is written in advance, the margin, an outage, two looks; on a busy machine.
SETTLE_SECONDS = 60.0
# Longer than the longest pause before a holder writes again.
REAP_MARGIN_SECONDS = 8.0


@dataclass
class Replica:
    """One of the adapter's two processes, on a port of its own in all its lives."""

    home: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None
    kills: list[float] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@dataclass
class Worker:
    """One that works off its leases under an owner; its successor has a higher fencing token."""

    owner: str
    journal: Path
    replica: Replica
    token: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    def events(self, kind: str) -> list[dict[str, Any]]:
        if not self.journal.exists():
            return []
        events = [json.loads(line) for line in self.journal.read_text().splitlines()]
        return [event for event in events if event["event"] == kind]

    @property
    def is_done(self) -> bool:
        return self.process is not None and self.process.poll() == 0


@dataclass
class Scene:
    cluster: Cluster
    folder: Path
    replicas: list[Replica]
    workers: list[Worker]
    generator: random.Random
    taken_away: set[str] = field(default_factory=set)  # instances whose Pods somebody deleted
    troubles: Counter[str] = field(default_factory=Counter)

    def supervise(self) -> None:
        """Start again whatever has been killed."""
        for replica in self.replicas:
            if replica.process is None or replica.process.poll() is not None:
                replica.process = self._start_adapter(replica)
        for worker in self.workers:
            if worker.process is None or worker.process.poll() not in (None, 0):
                worker.token += 1
                worker.process = self._start_worker(worker)

    def leases_taken(self) -> int:
        return sum(len(worker.events("provisioned")) for worker in self.workers)

    def make(self, trouble: str) -> bool:
        """False where there is nobody to be troubled now."""
        match trouble:
            case "adapter":
                replica, before = self.generator.choice(self.replicas), time.monotonic()
                happened = _kill(replica.process)
                replica.kills += [before] * happened
            case "worker":
                happened = _kill(self.generator.choice(self.workers).process)
            case "watches":
                happened = self.cluster.api.drop_watches() > 0
            case "outage":
                self.cluster.api.faults.outage_until = time.monotonic() + OUTAGE_SECONDS
                self.cluster.api.drop_watches()
                happened = True
            case "api server":
                self.cluster.api.faults.planned = [
                    Fault("POST", "pods", 2, code=409),
                    Fault("POST", "secrets", 1, code=0, after=True),
                    Fault("PATCH", "pods", 2, code=500),
                    Fault("DELETE", "pods", 2, code=503),
                    Fault("DELETE", "services", 1, code=500, after=True),
                ]
                happened = True
            case _:
                happened = self._delete_pod(grace=0 if trouble == "pod forced" else None)
        self.troubles[trouble] += happened
        return happened

    def _delete_pod(self, *, grace: int | None) -> bool:
        pods = [pod for pod in self.cluster.pods() if "deletionTimestamp" not in pod["metadata"]]
        if not pods:
            return False
        pod = self.generator.choice(pods)
        self.taken_away.add(pod["metadata"]["labels"][INSTANCE_LABEL])
        self.cluster.delete(pod, by="test", grace=grace)
        return True

    def _start_adapter(self, replica: Replica) -> "subprocess.Popen[bytes]":
        replica.home.mkdir(exist_ok=True)
        variables = {
            "LISTEN": replica.address,
            "HOME": str(replica.home),
            "LAUNCHER": "kubernetes",
            "MAX_INSTANCES": "16",
            "KUBERNETES__IMAGE": IMAGE,
            "KUBERNETES__NAMESPACE": NAMESPACE,
            "KUBERNETES__KUBECONFIG": str(self.folder / "kubeconfig"),
            "KUBERNETES__MODEL_VOLUME__CLAIM": "models",
            "KUBERNETES__MODEL_VOLUME__MOUNT_PATH": "/models",
            "KUBERNETES__DEFAULT_CPUS": "1",
            "KUBERNETES__REAP_MARGIN_S": str(REAP_MARGIN_SECONDS),
            "KUBERNETES__TERMINATION_GRACE_S": "2",
        }
        with (replica.home / "adapter.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "assay_adapter_gpu"],
                env={**os.environ, **{f"ASSAY_GPU_{name}": value for name, value in variables.items()}},
                stdout=log,
                stderr=log,
            )

    def _start_worker(self, worker: Worker) -> "subprocess.Popen[bytes]":
        left = LEASES // WORKERS - len(worker.events("provisioned"))
        arguments = [
            worker.replica.address,
            worker.owner,
            worker.token,
            left,
            self.generator.randrange(1 << 30),
        ]
        arguments += ["file:///models/small", worker.journal]
        with (self.folder / "workers.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(LEASE_HOLDER), *map(str, arguments)], stdout=log, stderr=log
            )


def _kill(process: "subprocess.Popen[bytes] | None") -> bool:
    if process is None or process.poll() is not None:
        return False
    process.kill()
    process.wait()
    return True


async def trouble_until_done(scene: Scene) -> None:
    plan = [trouble for trouble, count in TROUBLES.items() for _ in range(count)]
    scene.generator.shuffle(plan)
    points = sorted(scene.generator.randrange(1, LEASES * 9 // 10) for _ in plan)
    due = list(zip(points, plan, strict=True))
    deadline = time.monotonic() + 400
    while not all(worker.is_done for worker in scene.workers):
        assert time.monotonic() < deadline, f"stuck with {scene.leases_taken()} leases; {scene.troubles}"
        scene.supervise()
        if due and scene.leases_taken() >= due[0][0]:
            await asyncio.sleep(scene.generator.uniform(0.0, 0.5))
            if scene.make(due[0][1]):
                due.pop(0)
        await asyncio.sleep(0.05)
    assert not due, f"did not happen: {due}"


def removed_under_a_live_lease(scene: Scene) -> list[str]:
    """Deletions by a reaper of Pods whose lease, as it stood there, had not ended."""
    found = []
    for deletion in scene.cluster.store.deletions:
        end = lease_end(deletion.annotations)
        assert end is not None
        if deletion.only_unchanged and end > deletion.at:
            found.append(deletion.name)
    return found


def lost_without_a_reason(scene: Scene) -> list[dict[str, Any]]:
    """Leases that ended although their holder kept them and nothing of theirs was killed or deleted."""
    found = []
    for worker in scene.workers:
        taken = {event["instance"]: event["mono"] for event in worker.events("provisioned")}
        for event in worker.events("lost"):
            begin, end = taken[event["instance"]], event["mono"]
            was_killed = any(begin - 1.0 <= kill <= end for kill in worker.replica.kills)
            if not was_killed and event["instance"] not in scene.taken_away:
                found.append(event)
    return found


async def test_forty_leases_leave_nothing_in_the_cluster(tmp_path: Path) -> None:
    began = time.monotonic()
    generator = random.Random(SEED)
    cluster = Cluster(tmp_path, role=yaml.safe_load(ROLE.read_text()))
    cluster.nodes = [Node(f"node-{number}", GPU_CAPACITY) for number in range(2)]
    cluster.claims.add("models")
    programs = {"vllm": (sys.executable, *VLLM_PROGRAM[1:])}
    cluster.images[IMAGE] = Image(programs=programs, environment={"PYTHONPATH": str(TESTS)})
    cluster.api.faults.random, cluster.api.faults.share = random.Random(SEED), FAULTY_SHARE
    replicas = [Replica(home=tmp_path / f"replica-{number}") for number in range(2)]
    workers = [
        Worker(f"run-{number}", tmp_path / f"worker-{number}.jsonl", replicas[number % 2])
        for number in range(WORKERS)
    ]
    async with cluster.running():
        cluster.api.write_kubeconfig(tmp_path / "kubeconfig")
        scene = Scene(cluster, tmp_path, replicas, workers, generator)
        try:
            await trouble_until_done(scene)
            deadline = time.monotonic() + SETTLE_SECONDS
            while cluster.left() and time.monotonic() < deadline:
                await asyncio.sleep(0.2)
            left, early = cluster.left(), removed_under_a_live_lease(scene)
            lost = [event for worker in workers for event in worker.events("lost")]
            released = sum(len(worker.events("released")) for worker in workers)
            unexplained = lost_without_a_reason(scene)
            reaped = sum(deletion.only_unchanged for deletion in cluster.store.deletions)
            print(
                f"\nleases: {scene.leases_taken()}; {dict(scene.troubles)}; released as asked: {released}, "
                f"lost: {len(lost)}, removed by a reaper: {reaped}; left: {len(left)}; removed under a live "
                f"lease: {len(early)}; seed {SEED}, {time.monotonic() - began:.0f} s"
            )
            assert scene.leases_taken() == LEASES
            assert dict(scene.troubles) == TROUBLES
            assert not left, left
            assert not early, early
            assert not unexplained, unexplained
            assert released > LEASES // 2, "most leases should end as asked"
            for replica in replicas:
                assert replica.process is not None
                replica.process.terminate()
            for replica in replicas:
                assert replica.process is not None
                assert await asyncio.to_thread(replica.process.wait, 30) == 0
        finally:
            for process in (*(each.process for each in replicas), *(each.process for each in workers)):
                _kill(process)

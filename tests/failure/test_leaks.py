"""200 leases under random kill -9 of adapter, launcher and worker: nothing is left, nothing ends early.

The engines are the faithful vLLM server with its core processes, which outlive a server that is killed. The
adapter is the GPU adapter's own program with the process launcher; its guards are what "launcher" means here.
Workers hold leases and keep them alive. This test is the supervisor: whoever was killed is started again.
"""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from engines.fixtures import VLLM_PROGRAM, script_environment

from assay_serving.launchers.orphans import end_orphans, find_marked
from assay_serving.launchers.process_server import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("leaks")]

LEASES = 200
WORKERS = 5
SEED = int(os.environ.get("ASSAY_LEAK_SEED", "5"))
KILLS = {"adapter": 8, "launcher": 20, "launcher and adapter": 4, "worker": 20}
LEASE_HOLDER = Path(__file__).with_name("lease_holder.py")
# From lease to lapse, to the next look for orphans, with room for a loaded machine.
SETTLE_SECONDS = 60.0
# Between the calls' own times and those of the ledger; no phase has the search for power sensors.
UNACCOUNTED_SECONDS = 0.5


@dataclass
class Worker:
    """One that works off its leases; its successor has a higher fencing token, or another owner."""

    owner: str
    journal: Path
    leases: int
    token: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        if not self.journal.exists():
            return []
        events = [json.loads(line) for line in self.journal.read_text().splitlines()]
        return [event for event in events if kind in ("", event["event"])]

    @property
    def is_done(self) -> bool:
        return self.process is not None and self.process.poll() == 0


@dataclass
class Scene:
    """The adapter, its workers, and who was killed when."""

    home: Path
    model: Path
    workers: list[Worker]
    generator: random.Random
    port: int = field(default_factory=free_port)
    adapter: "subprocess.Popen[bytes] | None" = None
    adapter_kills: list[float] = field(default_factory=list)
    guards_killed: set[str] = field(default_factory=set)
    kills: Counter[str] = field(default_factory=Counter)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def label(self) -> str:
        """What the adapter marks its processes with: read off one of them."""
        return json.loads(next(self.records.glob("*.json")).read_text())["label"]

    @property
    def records(self) -> Path:
        return self.home / "run" / "adapter-gpu"

    def supervise(self) -> None:
        """Start again whatever has been killed."""
        if self.adapter is None or self.adapter.poll() is not None:
            self.adapter = self._start_adapter()
        for worker in self.workers:
            if worker.process is None or worker.process.poll() not in (None, 0):
                if worker.token and self.generator.random() < 0.5:
                    worker.owner += (
                        "'"  # its run is given up; what the dead one had ends when its lease lapses
                    )
                worker.token += 1
                worker.process = self._start_worker(worker)

    def leases_taken(self) -> int:
        return sum(len(worker.events("provisioned")) for worker in self.workers)

    def kill(self, kind: str, label: str) -> bool:
        """kill -9; False where there is nobody to kill now."""
        if "launcher" in kind:
            guards = [each for each in find_marked(label) if each.is_guard]
            if not guards:
                return False
            guard = self.generator.choice(guards)
            self.guards_killed.add(guard.instance_id)
            os.kill(guard.pid, signal.SIGKILL)
        if "adapter" in kind:
            if self.adapter is None or self.adapter.poll() is not None:
                return False
            self.adapter_kills.append(time.monotonic())
            self.adapter.kill()
            self.adapter.wait()
        if kind == "worker":
            running = [each.process for each in self.workers if each.process and each.process.poll() is None]
            if not running:
                return False
            process = self.generator.choice(running)
            process.kill()
            process.wait()
        self.kills[kind] += 1
        return True

    def _start_adapter(self) -> "subprocess.Popen[bytes]":
        engine = shlex.join([*VLLM_PROGRAM, "serve"])
        variables = {
            "LISTEN": self.address,
            "HOME": str(self.home),
            "COMMAND": engine,
            "ENVIRONMENT": json.dumps(script_environment(core_processes=2)),
            "ALLOW_CPU": "true",
            "ARTIFACT_ROOTS": str(self.model.parent),
            "MAX_INSTANCES": "32",
        }
        with (self.home / "adapter.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "assay_adapter_gpu"],
                env={**os.environ, **{f"ASSAY_GPU_{name}": value for name, value in variables.items()}},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _start_worker(self, worker: Worker) -> "subprocess.Popen[bytes]":
        left = worker.leases - len(worker.events("provisioned"))
        seed = self.generator.randrange(1 << 30)
        arguments = [
            self.address,
            worker.owner,
            worker.token,
            left,
            seed,
            f"file://{self.model}",
            worker.journal,
        ]
        with (self.home / "workers.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(LEASE_HOLDER), *map(str, arguments)], stdout=log, stderr=log
            )


@contextmanager
def scene_of(tmp_path: Path, generator: random.Random) -> Iterator[Scene]:
    """Afterwards nothing of it runs, whatever the test found."""
    model = tmp_path / "models" / "small"
    model.mkdir(parents=True)
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "model.safetensors").write_bytes(b"weights")
    home = tmp_path / "home"
    home.mkdir()
    workers = [
        Worker(owner=f"run-{number}", journal=tmp_path / f"worker-{number}.jsonl", leases=LEASES // WORKERS)
        for number in range(WORKERS)
    ]
    scene = Scene(home=home, model=model, workers=workers, generator=generator)
    try:
        yield scene
    finally:
        for process in (scene.adapter, *(worker.process for worker in workers)):
            if process is not None:
                process.kill()
                process.wait()
        for process in engines_of(model):
            process.kill()


def engines_of(model: Path) -> list[psutil.Process]:
    """Processes that name the model in their command line: guards, servers and their core processes."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        is_ours = str(model) in (process.info["cmdline"] or ()) and process.pid != os.getpid()
        if is_ours and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def kill_as_planned(scene: Scene) -> str:
    """Kill at random points until all leases were taken; returns the adapter's label."""
    plan = [kind for kind, count in KILLS.items() for _ in range(count)]
    scene.generator.shuffle(plan)
    # The last tenth goes undisturbed, so that every kill hits somebody.
    points = sorted(scene.generator.sample(range(2, LEASES * 9 // 10), len(plan)))
    label = ""
    due = list(zip(points, plan, strict=True))
    deadline = time.monotonic() + 500
    while not all(worker.is_done for worker in scene.workers):
        assert time.monotonic() < deadline, f"stuck with {scene.leases_taken()} leases; kills: {scene.kills}"
        scene.supervise()
        if not label and any(scene.records.glob("*.json")):
            label = scene.label
        if label and due and scene.leases_taken() >= due[0][0]:
            time.sleep(scene.generator.uniform(0.0, 0.3))
            if scene.kill(due[0][1], label):
                due.pop(0)
        time.sleep(0.05)
    assert not due, f"not killed: {due}"
    return label


def released_early(scene: Scene) -> list[dict[str, Any]]:
    """Leases that were lost though their holder kept them alive and nothing of theirs was killed."""
    found = []
    for worker in scene.workers:
        taken = {event["instance"]: event["mono"] for event in worker.events("provisioned")}
        for event in worker.events("lost"):
            begin, end = taken[event["instance"]], event["mono"]
            was_killed = event["instance"] in scene.guards_killed or any(
                begin - 1.0 <= kill <= end for kill in scene.adapter_kills
            )
            if not was_killed or "lapsed" in event["message"]:
                found.append(event)
    return found


def check_ledgers(scene: Scene) -> int:
    """Every second between the two calls is in one phase. Returns how many ledgers there were."""
    events = [event for worker in scene.workers for event in worker.events("released")]
    for event in events:
        spent = sum(event["phases"])
        assert event["state"] == "released"
        assert min(event["phases"]) >= 0, event
        assert event["inner"] - UNACCOUNTED_SECONDS <= spent <= event["outer"], event
        assert 0 < event["occupied"] <= spent, event
    return len(events)


def wait_until_settled(scene: Scene, label: str) -> list[Any]:
    """What is left: processes, and files of the run directory."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (left := [*find_marked(label), *scene.records.iterdir()]) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def test_two_hundred_leases_leave_nothing_and_none_ends_early(tmp_path: Path) -> None:
    began = time.monotonic()
    with scene_of(tmp_path, random.Random(SEED)) as scene:
        label = kill_as_planned(scene)
        left = wait_until_settled(scene, label)
        seen = engines_of(scene.model)
        early = released_early(scene)
        leases = scene.leases_taken()
        ledgers = check_ledgers(scene)
        lost = sum(len(worker.events("lost")) for worker in scene.workers)
        kills = ", ".join(f"{count} {kind}" for kind, count in sorted(scene.kills.items()))
        print(
            f"\nleases: {leases}; kills: {kills}; released as asked: {ledgers}, lost to kills: {lost}; "
            f"left: {len(left)}; released early: {len(early)}; "
            f"seed {SEED}, {time.monotonic() - began:.0f} s"
        )
        assert leases == LEASES
        assert dict(scene.kills) == KILLS
        assert not left, left
        assert not seen, [process.cmdline() for process in seen]
        assert not early, early
        assert ledgers > LEASES // 3, "many leases should end as asked"
        assert scene.adapter is not None
        scene.adapter.terminate()
        assert scene.adapter.wait(30) == 0
    end_orphans(label, is_living=lambda _: False)

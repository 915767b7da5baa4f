"""Leads each Pod of a node through its life, as its status and its events show it."""

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout

from cluster.containers import ConfigurationError, Image, Process, environment_of, free_address
from cluster.schemas import Object
from cluster.store import ApiError, Store, now_text, set_condition

_IMAGE_NAME = re.compile(
    r"[a-z0-9][-a-z0-9._/]*(:[0-9]+/[-a-z0-9._/]+)?(:[-A-Za-z0-9._]+)?(@sha256:[0-9a-f]{64})?"
)
Record = Callable[[Object, str, str, str], None]


@dataclass
class Doom:
    """How a container is made to end."""

    reason: str = ""  # of the container, such as OOMKilled
    pod_reason: str = ""  # of the whole Pod, such as Evicted
    message: str = ""


@dataclass(eq=False)
class PodWorker:
    """One Pod on its node, from being bound to being gone."""

    store: Store
    namespace: str
    name: str
    uid: str
    images: dict[str, Image]
    claims: set[str]
    folder: Path
    record: Record
    seconds: float  # that stand for a second of back-off and of probing
    unreachable: set[str]
    process: Process | None = None
    previous: Path | None = None
    doom: Doom = field(default_factory=Doom)
    is_frozen: bool = False  # its node is lost: nothing that happens here is reported any more
    address: str = ""

    @property
    def pod(self) -> Object:
        return self.store.get("pods", self.namespace, self.name)

    @property
    def container(self) -> Object:
        return dict(self.pod["spec"]["containers"][0])

    async def run(self) -> None:
        """The whole life; returns when the Pod is gone or cancelled."""
        with contextlib.suppress(ApiError):  # the Pod is gone
            life = asyncio.create_task(self._live())
            try:
                await self._until_deleted()
                life.cancel()
                await asyncio.gather(life, return_exceptions=True)
                await self._terminate(self.pod["metadata"]["deletionGracePeriodSeconds"])
                self.store.delete(
                    "pods", self.namespace, self.name, options={"gracePeriodSeconds": 0}, by="kubelet"
                )
            finally:
                life.cancel()
                if self.process is not None:
                    self.process.kill()

    async def _until_deleted(self) -> None:
        while self.is_frozen or "deletionTimestamp" not in self.pod["metadata"]:
            if self.is_frozen and ("pods", self.namespace, self.name) not in self.store.objects:
                return
            await asyncio.sleep(0.01)

    async def _live(self) -> None:
        with contextlib.suppress(ApiError):
            self.record(
                self.pod, "Normal", "Scheduled", f"Successfully assigned {self.namespace}/{self.name}"
            )
            self._wait("ContainerCreating")
            await self._mount()
            await self._pull()
            await self._start()
            await self._watch_process()

    async def _mount(self) -> None:
        wanted = {v["persistentVolumeClaim"]["claimName"] for v in self.pod["spec"].get("volumes", [])
                  if "persistentVolumeClaim" in v}  # fmt: skip
        while missing := sorted(wanted - self.claims):
            said = f'MountVolume.SetUp failed for volume: persistentvolumeclaim "{missing[0]}" not found'
            self.record(self.pod, "Warning", "FailedMount", said)
            await asyncio.sleep(self.seconds)

    async def _pull(self) -> None:
        name = self.container["image"]
        if not _IMAGE_NAME.fullmatch(name):
            said = f'Failed to apply default image tag "{name}": invalid reference format'
            self.record(self.pod, "Warning", "InspectFailed", said)
            self._wait("InvalidImageName", said)
            await asyncio.Event().wait()
        self.record(self.pod, "Normal", "Pulling", f'Pulling image "{name}"')
        while (image := self.images.get(name)) is None or image.error:
            error = image.error if image else f"failed to resolve reference {name}: not found"
            said = f'Failed to pull image "{name}": {error}'
            self.record(self.pod, "Warning", "Failed", said)
            self._wait("ErrImagePull", said)
            await asyncio.sleep(self.seconds)
            self._wait("ImagePullBackOff", f'Back-off pulling image "{name}"')
            await asyncio.sleep(self.seconds)
        await asyncio.sleep(image.pull_seconds)
        self.record(self.pod, "Normal", "Pulled", f'Successfully pulled image "{name}"')

    async def _start(self) -> None:
        self.address = free_address()
        image = self.images[self.container["image"]]
        while True:
            try:
                variables = environment_of(self.store, self.pod, self.container, self.address)
                break
            except ConfigurationError as error:
                self.record(self.pod, "Warning", "Failed", f"Error: {error}")
                self._wait("CreateContainerConfigError", str(error))
                await asyncio.sleep(self.seconds)
        log = self.folder / f"{self.uid}.log"
        try:
            self.process = Process.start(image, self.container, variables, address=self.address, log=log)
        except FileNotFoundError as error:
            said = f"failed to create containerd task: runc create failed: {error}"
            self._end_container(128, "StartError", said, started=now_text())
            return
        self.record(self.pod, "Normal", "Started", "Started container")
        self._report(self._set_running)

    async def _watch_process(self) -> None:
        if self.process is None:
            return
        probing = asyncio.create_task(self._probe())
        started, deadline = now_text(), self.pod["spec"].get("activeDeadlineSeconds")
        try:
            async with asyncio.timeout(deadline):
                code = await self.process.wait()
        except TimeoutError:
            self.doom.pod_reason = "DeadlineExceeded"
            self.doom.message = "Pod was active on the node longer than the specified deadline"
            await self._terminate(self.pod["spec"].get("terminationGracePeriodSeconds", 30))
            code = self.process.exit_code or 0
        finally:
            probing.cancel()
        code = 128 - code if code < 0 else code
        said = ""
        if code and self.container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            said = self.process.log.read_bytes()[-2048:].decode(errors="replace")
        self._end_container(
            code, self.doom.reason or ("Error" if code else "Completed"), said, started=started
        )

    async def _probe(self) -> None:
        """Startup, then readiness: what the kubelet calls ready."""
        startup = self.container.get("startupProbe")
        ready = self.container.get("readinessProbe")
        async with ClientSession(timeout=ClientTimeout(2)) as session:
            failures = 0
            while startup and not await self._is_healthy(session, startup):
                failures += 1
                if failures >= startup["failureThreshold"]:
                    self.record(self.pod, "Warning", "Unhealthy", "Startup probe failed: connection refused")
                    said = "Container server failed startup probe"
                    self.record(self.pod, "Normal", "Killing", said)
                    await self._terminate(self.pod["spec"].get("terminationGracePeriodSeconds", 30))
                    return
                await asyncio.sleep(startup["periodSeconds"] * self.seconds)
            while True:
                is_ready = ready is None or await self._is_healthy(session, ready)
                self._report(lambda pod, is_ready=is_ready: _set_ready(pod, is_ready))  # type: ignore[misc]
                await asyncio.sleep((ready or {}).get("periodSeconds", 10) * self.seconds)

    async def _is_healthy(self, session: ClientSession, probe: Object) -> bool:
        port = self.container["ports"][0]["containerPort"]
        try:
            async with session.get(f"http://{self.address}:{port}{probe['httpGet']['path']}") as answer:
                return 200 <= answer.status < 400
        except (ClientError, TimeoutError, OSError):
            return False

    async def _terminate(self, grace: float) -> None:
        if self.process is None:
            return
        self.process.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self.process.exit_code is None and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self.process.kill()

    def kill_container(self, doom: Doom) -> None:
        """End the container at once, for the reason that `doom` gives."""
        self.doom = doom
        if self.process is not None:
            self.process.signal(signal.SIGKILL)

    def _end_container(self, code: int, reason: str, said: str, *, started: str) -> None:
        ended = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": now_text()}
        if said:
            ended["message"] = said

        def edit(pod: Object) -> None:
            status = pod["status"]
            status["phase"] = "Failed" if code or self.doom.pod_reason else "Succeeded"
            if self.doom.pod_reason:
                status |= {"reason": self.doom.pod_reason, "message": self.doom.message}
            each = status["containerStatuses"][0]
            each |= {"state": {"terminated": ended}, "ready": False, "started": False}
            each.setdefault("containerID", f"containerd://{self.uid}")
            _set_ready(pod, False)

        self._report(edit)

    def _set_running(self, pod: Object) -> None:
        # Nobody listens at the other address: the same as a policy that refuses the connection.
        address = free_address() if self.container["image"] in self.unreachable else self.address
        pod["status"] |= {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        pod["status"]["containerStatuses"] = [
            {
                "name": self.container["name"],
                "image": self.container["image"],
                "imageID": f"{self.container['image'].partition(':')[0]}@sha256:{'ab' * 32}",
                "containerID": f"containerd://{self.uid}",
                "ready": False,
                "started": False,
                "restartCount": 0,
                "state": {"running": {"startedAt": now_text()}},
                "lastState": {},
            }
        ]

    def _wait(self, reason: str, message: str = "") -> None:
        waiting = {"reason": reason} | ({"message": message} if message else {})

        def edit(pod: Object) -> None:
            pod["status"]["containerStatuses"] = [
                {
                    "name": self.container["name"],
                    "image": self.container["image"],
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": {"waiting": waiting},
                }
            ]

        self._report(edit)

    def _report(self, edit: Callable[[Object], None]) -> None:
        if not self.is_frozen:
            with contextlib.suppress(ApiError):  # the Pod is gone
                self.store.change("pods", self.namespace, self.name, edit)


def _set_ready(pod: Object, is_ready: bool) -> None:
    for status in pod["status"].get("containerStatuses", []):
        status["ready"] = is_ready
        status["started"] = is_ready or status.get("started", False)
    old = next((each for each in pod["status"].get("conditions", []) if each["type"] == "Ready"), None)
    if old is None or old["status"] != str(is_ready):
        set_condition(pod, "Ready", str(is_ready))


def read_log(workers: Iterator[PodWorker], uid: str) -> bytes:
    for worker in workers:
        if worker.uid == uid and worker.process is not None:
            return worker.process.log.read_bytes()
    return b""

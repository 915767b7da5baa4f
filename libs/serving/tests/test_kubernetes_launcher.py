"""The kubernetes launcher against an API server, a scheduler and kubelets that run real processes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.api_server import Fault
from cluster.launching import CONVENTIONS, GPU_CAPACITY, IMAGE, Steps, launcher_for, plan, small_image
from cluster.machine import NAMESPACE, Cluster
from cluster.scheduler import Node

from assay_serving.errors import Fenced, NoCapacity, ServingError, StartFailed
from assay_serving.launchers.kubernetes.launcher import KubernetesLauncher
from assay_serving.launchers.kubernetes.manifests import LEASE_ANNOTATION, lease_end, lease_text
from assay_serving.launchers.kubernetes.pod_server import PodServer
from assay_serving.launchers.server import RunningServer
from assay_serving.types import InstanceState
from assay_serving.upstream import exchange

ROLE = Path(__file__).parents[3] / "deploy" / "kubernetes" / "role.yaml"
Launch = Callable[..., Awaitable[PodServer]]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """One node with GPUs; the API server allows what deploy/kubernetes/role.yaml allows, and no more."""
    found = Cluster(tmp_path, role=yaml.safe_load(ROLE.read_text()))
    found.nodes = [Node("node-1", GPU_CAPACITY)]
    found.images[IMAGE] = small_image()
    async with found.running():
        yield found


@pytest.fixture
async def launch(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Launch]:
    """Launch a plan; whatever is started is stopped, and the cluster must then be empty."""
    servers: list[PodServer] = []
    launchers: list[KubernetesLauncher] = []

    async def start(
        progress: Steps | None = None, launcher: KubernetesLauncher | None = None, **changes: Any
    ) -> PodServer:
        launcher = launcher or launcher_for(cluster, tmp_path)
        launchers.append(launcher)
        server = await launcher.launch(plan(**changes), progress=progress or Steps())
        assert isinstance(server, PodServer)
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop()
    for launcher in launchers:
        await launcher.close()
    await until(lambda: not cluster.left())


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def refusal(cluster: Cluster, folder: Path, **settings: Any) -> ServingError:
    """The error of a launch that has to fail, and to leave nothing."""
    launcher = launcher_for(cluster, folder, **settings)
    with pytest.raises(ServingError) as caught:
        async with asyncio.timeout(20):
            await launcher.launch(plan(), progress=Steps())
    await launcher.close()
    assert cluster.left() == []
    return caught.value


# What works.


async def test_a_server_answers_at_its_pods_address_and_leaves_nothing(
    cluster: Cluster, launch: Launch
) -> None:
    steps = Steps()
    server = await launch(steps)
    assert steps.states == [InstanceState.PULLING, InstanceState.STARTING]
    assert "node-1" in steps.said[0]
    place = server.place
    assert place["pod"] == f"assay-gpu-{'a' * 32}"
    assert place["node"] == place["host"] == "node-1"
    assert place["image"] == IMAGE
    assert "@sha256:" in place["image_id"]
    assert place["pod_ip"] == server.address.host
    reply = await exchange(server.address, "GET", "/args", headers=server.headers)
    assert reply.status == 200
    assert reply.body.decode() == f"serve some/model --host {server.address.host} --port 8000"
    assert (await exchange(server.address, "GET", "/args")).status == 401
    assert len(cluster.left()) == 3
    assert (await server.read_log(1000)).text == "loading weights\n"
    await server.stop()
    assert cluster.left() == []
    assert (await server.read_log(1000)).text == "loading weights\n"
    assert (await server.read_log(8)).is_cut
    await server.stop()
    assert "was stopped by this adapter" in await server.wait_dead()


@pytest.mark.slow
async def test_a_key_on_the_command_line_is_put_in_by_the_kubelet(
    cluster: Cluster, launch: Launch, tmp_path: Path
) -> None:
    conventions = replace(CONVENTIONS, key_variable="", key_arguments=lambda key: (f"--api-key={key}",))
    server = await launch(launcher=launcher_for(cluster, tmp_path, conventions=conventions))
    key = server.headers["Authorization"].removeprefix("Bearer ")
    reply = await exchange(server.address, "GET", "/args", headers=server.headers)
    assert (reply.status, reply.body.decode().endswith(f"--api-key={key}")) == (200, True)
    assert key not in json.dumps(cluster.pods())


@pytest.mark.slow
async def test_nothing_is_scheduled_before_all_of_it_exists(cluster: Cluster, tmp_path: Path) -> None:
    cluster.api.faults.planned = [Fault("POST", "services", 1000)]
    launcher = launcher_for(cluster, tmp_path, api_patience_s=30)
    launching = asyncio.create_task(launcher.launch(plan(), progress=Steps()))
    await until(lambda: "secrets/assay-gpu-" + "a" * 32 in cluster.left())
    await asyncio.sleep(0.1)
    [pod] = cluster.pods()
    assert "nodeName" not in pod["spec"]
    launching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launching
    assert cluster.left() == []
    await launcher.close()


async def test_cancelled_while_loading_it_leaves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    cluster.images[IMAGE] = small_image(SMALL_LOAD_S="60")
    launcher, steps = launcher_for(cluster, tmp_path), Steps()
    launching = asyncio.create_task(launcher.launch(plan(), progress=steps))
    await until(lambda: InstanceState.STARTING in steps.states)
    launching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launching
    assert cluster.left() == []
    await launcher.close()


@pytest.mark.slow
async def test_a_starting_pod_keeps_its_lease(cluster: Cluster, launch: Launch) -> None:
    cluster.images[IMAGE] = small_image(SMALL_LOAD_S="1")
    server = await launch(lease=0.3)
    assert _lease(cluster, server) > datetime.now(UTC)


async def test_renewing_writes_now_and_then_and_never_too_little(cluster: Cluster, launch: Launch) -> None:
    server = await launch(lease=30.0)
    cluster.api.requests.clear()
    for _ in range(50):
        await server.renew(30.0)
    await asyncio.sleep(0.1)
    assert cluster.api.requests.count("patch pods") == 0
    await server.renew(90.0)
    await until(lambda: _lease(cluster, server) > datetime.now(UTC) + timedelta(seconds=90))
    assert cluster.api.requests.count("patch pods") == 1


def _lease(cluster: Cluster, server: RunningServer) -> datetime:
    pod = cluster.store.get("pods", NAMESPACE, server.place["pod"])
    end = lease_end(pod["metadata"]["annotations"])
    assert end is not None
    return end


# An API server on a bad day.


@pytest.mark.parametrize(
    ("code", "after"),
    [
        (500, True),
        pytest.param(0, True, marks=pytest.mark.slow),
        pytest.param(500, False, marks=pytest.mark.slow),
        pytest.param(429, False, marks=pytest.mark.slow),
    ],
)
async def test_failed_requests_are_made_again(
    cluster: Cluster, launch: Launch, code: int, after: bool
) -> None:
    cluster.api.faults.planned = [
        Fault(method, kind, 1, code=code, after=after)
        for method, kinds in (
            ("POST", ("pods", "secrets", "services")),
            ("PATCH", ("pods",)),
            ("DELETE", ("pods", "secrets", "services")),
        )
        for kind in kinds
    ]
    server = await launch()
    await server.renew(120.0)
    await until(lambda: _lease(cluster, server) > datetime.now(UTC) + timedelta(seconds=120))
    await server.stop()
    assert cluster.left() == []
    assert all(fault.times == 0 for fault in cluster.api.faults.planned)


@pytest.mark.slow
async def test_a_used_up_quota_after_a_lost_answer_is_our_own(cluster: Cluster, launch: Launch) -> None:
    cluster.store.quota["pods"] = 1
    cluster.api.faults.planned = [Fault("POST", "pods", 1, code=0, after=True)]
    await launch()
    assert len(cluster.pods()) == 1


@pytest.mark.slow
async def test_an_api_server_that_stays_away(cluster: Cluster, tmp_path: Path) -> None:
    cluster.api.faults.planned = [Fault("POST", "pods", 1000, code=503)]
    error = await refusal(cluster, tmp_path, api_patience_s=0.3)
    assert isinstance(error, StartFailed)
    assert error.retryable
    assert "API server is unavailable: try again later" in error.message


async def test_watches_that_break_or_expire_or_are_refused(cluster: Cluster, launch: Launch) -> None:
    cluster.images[IMAGE] = small_image(SMALL_LOAD_S="0.5")
    starting = asyncio.ensure_future(launch())
    await until(lambda: cluster.api.requests.count("watch pods") == 1)
    assert cluster.api.drop_watches() == 1
    server = await starting
    cluster.store.compact()  # whoever asks for a watch from before is told that it is gone
    cluster.api.end_watches()
    await until(lambda: cluster.api.requests.count("watch pods") >= 3)
    ending = asyncio.create_task(server.wait_dead())
    cluster.crash(cluster.pods()[0])
    assert "SIGKILL" in await asyncio.wait_for(ending, 10)


@pytest.mark.slow
async def test_a_pod_deleted_while_nobody_watched(cluster: Cluster, launch: Launch) -> None:
    server = await launch()
    cluster.api.faults.planned = [Fault("GET", "pods", 3, code=503)]
    cluster.delete(cluster.pods()[0], grace=0)
    cluster.api.drop_watches()
    cluster.store.compact()
    assert "was deleted by somebody else" in await asyncio.wait_for(server.wait_dead(), 10)


async def test_a_name_that_is_taken_is_left_alone(cluster: Cluster, tmp_path: Path, launch: Launch) -> None:
    await launch()
    before = cluster.left()
    launcher = launcher_for(cluster, tmp_path)
    with pytest.raises(StartFailed, match="already exists"):
        await launcher.launch(plan(), progress=Steps())
    assert cluster.left() == before
    assert not cluster.store.deletions
    await launcher.close()


# Pods that do not start.


async def test_image_not_found(cluster: Cluster, tmp_path: Path) -> None:
    error = await refusal(cluster, tmp_path, image="registry.example/nothing:2")
    assert isinstance(error, StartFailed)
    assert "failed to resolve reference registry.example/nothing:2: not found" in error.message
    assert not error.retryable


@pytest.mark.slow
async def test_registry_that_is_busy(cluster: Cluster, tmp_path: Path) -> None:
    cluster.images[IMAGE] = small_image(error="toomanyrequests: retry later")
    error = await refusal(cluster, tmp_path)
    assert "toomanyrequests: retry later" in error.message
    assert error.retryable


@pytest.mark.slow
async def test_image_name_that_is_none(cluster: Cluster, tmp_path: Path) -> None:
    error = await refusal(cluster, tmp_path, image="Not An Image")
    assert "InvalidImageName" in error.message
    assert "kubernetes.image" in error.message


async def test_no_room(cluster: Cluster, tmp_path: Path) -> None:
    full = GPU_CAPACITY | {"nvidia.com/gpu": "0"}
    cluster.nodes = [Node("node-1", full), Node("node-2", taints=["furiosa.ai/npu"])]
    error = await refusal(cluster, tmp_path)
    assert isinstance(error, NoCapacity)
    assert error.retryable
    assert (
        "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) had untolerated" in error.message
    )


@pytest.mark.slow
async def test_no_node_that_matches(cluster: Cluster, tmp_path: Path) -> None:
    error = await refusal(cluster, tmp_path, node_selector={"gpu": "h100"})
    assert isinstance(error, StartFailed)
    assert not error.retryable
    assert "1 node(s) didn't match Pod's node affinity/selector" in error.message


@pytest.mark.slow
async def test_room_that_comes_in_time(cluster: Cluster, tmp_path: Path, launch: Launch) -> None:
    cluster.nodes = []
    launcher, steps = launcher_for(cluster, tmp_path, schedule_patience_s=30), Steps()
    starting = asyncio.ensure_future(launch(steps, launcher))
    await until(
        lambda: any(event["reason"] == "FailedScheduling" for event in cluster.store.of_kind("events"))
    )
    assert steps.states == []
    cluster.nodes.append(Node("node-9", GPU_CAPACITY))
    assert (await starting).place["node"] == "node-9"


@pytest.mark.slow
async def test_quota(cluster: Cluster, tmp_path: Path) -> None:
    cluster.store.quota["requests.nvidia.com/gpu"] = 0
    error = await refusal(cluster, tmp_path)
    assert isinstance(error, NoCapacity)
    assert "exceeded quota" in error.message


@pytest.mark.slow
async def test_out_of_memory_while_loading(cluster: Cluster, tmp_path: Path) -> None:
    cluster.images[IMAGE] = small_image(SMALL_LOAD_S="60", SMALL_SAY="loading shard 3 of 8")
    launcher = launcher_for(cluster, tmp_path)
    starting = asyncio.create_task(launcher.launch(plan(), progress=Steps()))
    await until(lambda: any(cluster.worker(pod).process for pod in _placed(cluster)))
    await until(lambda: cluster.worker(cluster.pods()[0]).process.log.stat().st_size)  # type: ignore[union-attr]
    cluster.oom_kill(cluster.pods()[0])
    with pytest.raises(StartFailed, match=r"OOMKilled.*limit of 1\.0 GiB") as caught:
        await starting
    assert "loading shard 3 of 8" in caught.value.engine_detail
    assert cluster.left() == []
    await launcher.close()


def _placed(cluster: Cluster) -> list[Any]:
    return [pod for pod in cluster.pods() if pod["metadata"]["uid"] in cluster.workers]


async def test_crash_brings_the_last_lines(cluster: Cluster, tmp_path: Path) -> None:
    cluster.images[IMAGE] = small_image(SMALL_EXIT="3")
    error = await refusal(cluster, tmp_path)
    assert isinstance(error, StartFailed)
    assert "exit status 3" in error.message
    assert "no kernel image is available" in error.engine_detail


@pytest.mark.slow
async def test_missing_secret(cluster: Cluster, tmp_path: Path) -> None:
    error = await refusal(cluster, tmp_path, hub_token={"name": "hub", "key": "token"})
    assert 'secret "hub" not found' in error.message


@pytest.mark.slow
async def test_program_that_the_image_lacks(cluster: Cluster, tmp_path: Path) -> None:
    error = await refusal(cluster, tmp_path, command=("other-server",))
    assert 'exec: "other-server": executable file not found' in error.message


@pytest.mark.slow
async def test_volume_that_never_comes(cluster: Cluster, tmp_path: Path) -> None:
    error = await refusal(cluster, tmp_path, model_volume={"claim": "models", "mount_path": "/models"})
    assert 'persistentvolumeclaim "models" not found' in error.message


@pytest.mark.slow
async def test_never_healthy(cluster: Cluster, tmp_path: Path) -> None:
    cluster.images[IMAGE] = small_image(SMALL_LOAD_S="60")
    error = await refusal(cluster, tmp_path, start_timeout_s=5)
    assert "Startup probe failed" in error.message


@pytest.mark.slow
async def test_a_pod_that_only_its_kubelet_reaches(cluster: Cluster, tmp_path: Path) -> None:
    cluster.unreachable.add(IMAGE)
    error = await refusal(cluster, tmp_path)
    assert "NetworkPolicy" in error.message


@pytest.mark.slow
async def test_deadline_of_the_pod(cluster: Cluster, launch: Launch, tmp_path: Path) -> None:
    server = await launch(launcher=launcher_for(cluster, tmp_path, active_deadline_s=1))
    assert "active_deadline_s" in await asyncio.wait_for(server.wait_dead(), 10)


# The end of one that serves.


async def test_out_of_memory_while_serving(cluster: Cluster, launch: Launch) -> None:
    server = await launch()
    cluster.oom_kill(cluster.pods()[0])
    assert "OOMKilled" in await asyncio.wait_for(server.wait_dead(), 10)
    assert (await server.read_log(100)).text == "loading weights\n"


@pytest.mark.slow
async def test_eviction(cluster: Cluster, launch: Launch) -> None:
    server = await launch()
    cluster.evict(cluster.pods()[0], "The node was low on resource: ephemeral-storage.")
    end = await asyncio.wait_for(server.wait_dead(), 10)
    assert "was evicted: The node was low on resource: ephemeral-storage." in end


@pytest.mark.slow
async def test_preemption(cluster: Cluster, launch: Launch) -> None:
    server = await launch()
    cluster.disrupt(
        cluster.pods()[0], "PreemptionByScheduler", "preempting to accommodate a higher priority pod"
    )
    assert "PreemptionByScheduler: preempting" in await asyncio.wait_for(server.wait_dead(), 10)


@pytest.mark.slow
async def test_lost_node(cluster: Cluster, tmp_path: Path) -> None:
    launcher = launcher_for(cluster, tmp_path, stop_patience_s=0.2)
    server = await launcher.launch(plan(), progress=Steps())
    cluster.lose_node("node-1")
    assert "node lost" in await asyncio.wait_for(server.wait_dead(), 10)
    await server.stop()  # the API server keeps what a silent node may still run
    assert cluster.left() == [f"pods/assay-gpu-{'a' * 32}"]
    cluster.forget_node("node-1")
    await until(lambda: not cluster.left())
    assert await launcher.reap([]) == []
    await launcher.close()


@pytest.mark.slow
async def test_finaliser_of_somebody_else_is_waited_for(cluster: Cluster, launch: Launch) -> None:
    server = await launch()
    name = server.place["pod"]
    cluster.store.change(
        "pods", NAMESPACE, name, lambda pod: pod["metadata"].update(finalizers=["x.example/a"])
    )
    stopping = asyncio.create_task(server.stop())
    await until(lambda: cluster.left() == [f"pods/{name}"])
    await asyncio.sleep(0.1)
    assert not stopping.done()
    cluster.store.change("pods", NAMESPACE, name, lambda pod: pod["metadata"].pop("finalizers"))
    await stopping
    assert cluster.left() == []


# What another process has left.


async def test_a_replicas_living_pod_is_left_alone_and_its_forsaken_one_is_not(
    cluster: Cluster, tmp_path: Path
) -> None:
    dead, other = launcher_for(cluster, tmp_path), launcher_for(cluster, tmp_path)
    server = await dead.launch(plan(lease=30.0), progress=Steps())
    assert isinstance(server, PodServer)
    assert await other.reap([]) == []
    await server.heartbeat.stop()  # as if its process had died
    expired = {LEASE_ANNOTATION: lease_text(datetime.now(UTC) - timedelta(seconds=1))}
    cluster.store.patch("pods", NAMESPACE, server.place["pod"], {"metadata": {"annotations": expired}})
    assert await dead.reap([]) == []  # it still holds it itself
    assert await other.reap(["a" * 32]) == []
    assert await other.reap([]) == ["a" * 32]
    await until(lambda: not cluster.left())  # Service and Secret by the cluster's garbage collector
    assert await other.reap([]) == []
    await server.stop()
    await dead.close()
    await other.close()


async def test_a_lease_renewed_at_the_last_moment_saves_the_pod(cluster: Cluster, tmp_path: Path) -> None:
    owner, other = launcher_for(cluster, tmp_path), launcher_for(cluster, tmp_path)
    server = await owner.launch(plan(), progress=Steps())
    expired = {LEASE_ANNOTATION: lease_text(datetime.now(UTC) - timedelta(seconds=1))}
    name = server.place["pod"]
    cluster.store.patch("pods", NAMESPACE, name, {"metadata": {"annotations": expired}})
    fresh = {LEASE_ANNOTATION: lease_text(datetime.now(UTC) + timedelta(seconds=60))}

    def renew() -> None:
        cluster.store.patch("pods", NAMESPACE, name, {"metadata": {"annotations": fresh}})

    cluster.api.before_delete = renew
    assert await other.reap([]) == []
    assert not cluster.store.deletions
    await server.stop()
    await owner.close()
    await other.close()


@pytest.mark.slow
async def test_a_lapsed_lease_is_watched_before_its_pod_is_removed(cluster: Cluster, tmp_path: Path) -> None:
    """After a failure of the API server every lease looks lapsed until its holder gets through."""
    owner, other = launcher_for(cluster, tmp_path), launcher_for(cluster, tmp_path, reap_margin_s=0.5)
    server = await owner.launch(plan(lease=0.2), progress=Steps())
    await until(lambda: _lease(cluster, server) < datetime.now(UTC))
    assert await other.reap([]) == []
    await server.renew(0.2)
    await asyncio.sleep(0.6)
    assert await other.reap([]) == []  # another lapsed lease than the one of before
    await asyncio.sleep(0.6)
    assert await other.reap([]) == ["a" * 32]
    await server.stop()
    await owner.close()
    await other.close()


@pytest.mark.slow
async def test_pods_of_an_earlier_life_of_the_same_pod_go_at_once(cluster: Cluster, tmp_path: Path) -> None:
    owner = {"owner_pod_name": "adapter-0", "owner_pod_uid": "1234", "owner_namespace": NAMESPACE}
    cluster.add_pod("adapter-0", uid="1234")
    earlier, later = (launcher_for(cluster, tmp_path, **owner) for _ in range(2))
    server = await earlier.launch(plan(), progress=Steps())
    assert await later.reap([]) == ["a" * 32]
    await until(lambda: cluster.left() == ["pods/adapter-0"])
    await server.stop()
    await earlier.close()
    await later.close()


@pytest.mark.slow
async def test_instances_end_with_the_adapters_pod(cluster: Cluster, tmp_path: Path) -> None:
    owner = {"owner_pod_name": "adapter-0", "owner_pod_uid": "1234", "owner_namespace": NAMESPACE}
    cluster.add_pod("adapter-0", uid="1234")
    launcher = launcher_for(cluster, tmp_path, **owner)
    server = await launcher.launch(plan(), progress=Steps())
    cluster.store.delete("pods", NAMESPACE, "adapter-0")
    assert "was deleted" in await asyncio.wait_for(server.wait_dead(), 10)
    await until(lambda: not cluster.left())
    await server.stop()
    await launcher.close()


@pytest.mark.slow
async def test_a_newer_lease_of_an_owner_ends_the_older_ones_pod_on_any_replica(
    cluster: Cluster, tmp_path: Path, launch: Launch
) -> None:
    one, two = launcher_for(cluster, tmp_path), launcher_for(cluster, tmp_path)
    old = await one.launch(plan("b" * 32, owner="run/7", fencing_token=4), progress=Steps())
    new = await launch(launcher=two, owner="run/7", fencing_token=5)
    await asyncio.wait_for(old.wait_dead(), 10)
    await until(lambda: len(cluster.pods()) == 1)
    with pytest.raises(Fenced, match="token 5"):
        await one.launch(plan("c" * 32, owner="run/7", fencing_token=4), progress=Steps())
    assert len(cluster.pods()) == 1
    await old.stop()
    await one.close()
    assert new.place["pod"].endswith("a" * 32)


@pytest.mark.slow
async def test_stopping_while_the_api_server_is_away_is_made_up_for_by_the_reaper(
    cluster: Cluster, tmp_path: Path
) -> None:
    launcher = launcher_for(cluster, tmp_path, stop_patience_s=0.2)
    server = await launcher.launch(plan(), progress=Steps())
    cluster.api.faults.planned = [Fault("DELETE", kind, 1000) for kind in ("pods", "services", "secrets")]
    started = time.monotonic()
    await server.stop()
    assert time.monotonic() - started < 10
    assert len(cluster.left()) == 3
    cluster.api.faults.planned = []
    await launcher.reap([])
    await until(lambda: not cluster.left())
    await launcher.close()


async def test_settings_that_are_missing(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"kubernetes\.image"):
        launcher_for(cluster, tmp_path, image="")
    launcher = launcher_for(cluster, tmp_path, kubeconfig=tmp_path / "nowhere")
    with pytest.raises(StartFailed, match="no way to reach a cluster"):
        await launcher.launch(plan(), progress=Steps())

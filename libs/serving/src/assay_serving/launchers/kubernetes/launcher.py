"""Starts model servers as Pods."""

import asyncio
import contextlib
import logging
import re
import secrets
import time
from collections.abc import Collection, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

from lightkube.models.core_v1 import Pod
from lightkube.models.meta_v1 import ObjectMeta

from assay_serving.errors import Fenced, NoCapacity, ServingError, StartFailed
from assay_serving.launchers.kubernetes import manifests
from assay_serving.launchers.kubernetes.api import (
    AlreadyExists,
    ClusterApi,
    ClusterError,
    ClusterUnavailable,
    Conflicted,
    Kind,
    NotFound,
    QuotaExceeded,
    retried,
)
from assay_serving.launchers.kubernetes.manifests import Launch, Object
from assay_serving.launchers.kubernetes.pod_server import PodServer
from assay_serving.launchers.kubernetes.readiness import wait_until_healthy
from assay_serving.launchers.kubernetes.removal import remove
from assay_serving.launchers.kubernetes.settings import KubernetesSettings
from assay_serving.launchers.server import (
    Progress,
    RunningServer,
    ServerConventions,
    ServerLauncher,
    ServerPlan,
)

_logger = logging.getLogger(__name__)
_ADAPTER = re.compile(r"[a-z0-9]([-a-z0-9]{0,14}[a-z0-9])?")
_DELETE_TRIES = 3
_Result = TypeVar("_Result")


class KubernetesLauncher(ServerLauncher):
    """One Pod, Service and Secret per instance, in one namespace.

    `adapter` names this adapter and all its replicas: they share a label, and each removes what another has
    left behind once its lease has lapsed.

    Raises:
        ValueError: a setting is missing.
    """

    name = "kubernetes"

    def __init__(self, *, conventions: ServerConventions, settings: KubernetesSettings, adapter: str) -> None:
        if not settings.image:
            raise ValueError("kubernetes.image: must name the model server's image")
        if not _ADAPTER.fullmatch(adapter):
            raise ValueError(
                f"adapter: {adapter!r} must be at most 16 lower-case letters, digits and hyphens"
            )
        self._conventions = conventions
        self._settings = settings
        self._adapter = adapter
        self._api = ClusterApi(settings)
        # Instances that this process starts, runs or stops; never reaped by it, whoever asks.
        self._own: set[str] = set()
        self._left_over: set[str] = set()
        # By the Pod's uid: a lease that has lapsed, and since when (monotonic) it is seen like that.
        self._lapsed: dict[str, tuple[datetime | None, float]] = {}
        self._cleaning: set[asyncio.Task[None]] = set()

    async def launch(self, plan: ServerPlan, *, progress: Progress) -> RunningServer:
        """See `ServerLauncher.launch`; also Fenced where a newer lease of the plan's owner has a Pod."""
        launch = Launch(
            plan=plan,
            conventions=self._conventions,
            settings=self._settings,
            adapter=self._adapter,
            nonce=secrets.token_hex(8),
            key=secrets.token_urlsafe(32),
            lease_ends=manifests.next_lease_end(plan.lease),
        )
        label = manifests.label_value(plan.instance_id)
        self._own.add(label)
        try:
            await self._end_older(plan)
            pod = await self._create_pod(launch)
        except BaseException as error:
            self._own.discard(label)
            if isinstance(error, ClusterError):
                raise _serving_error(error) from error
            raise
        server = PodServer(self._api, launch, pod, ended=self._forget)
        try:
            await self._complete(launch, server)
            await wait_until_healthy(self._api, server, progress=progress)
        except BaseException as error:
            await server.stop()
            if isinstance(error, ClusterError):
                raise _serving_error(error) from error
            raise
        return server

    async def reap(self, living: Collection[str]) -> list[str]:
        """Remove Pods of this adapter whose lease has lapsed; a replica's living ones are left alone.

        Pods that this adapter's own Pod has made in an earlier life go at once.
        """
        for name in tuple(self._left_over):
            if await remove(self._api, name, grace=self._settings.termination_grace_s, patience=0):
                self._left_over.discard(name)
        try:
            pods = await self._api.list_pods(manifests.adapter_selector(self._adapter))
        except ClusterError as error:
            _logger.warning("no reaping: %s", error.message)
            return []
        # As of now, after the list: who has started since is in neither.
        known = {manifests.label_value(instance_id) for instance_id in living} | self._own
        present = {pod.metadata.uid for pod in pods if pod.metadata is not None}
        self._lapsed = {uid: seen for uid, seen in self._lapsed.items() if uid in present}
        found = []
        for pod in pods:
            instance = _label(pod, manifests.INSTANCE_LABEL)
            if instance not in known and self._is_forsaken(pod) and await self._delete_forsaken(pod):
                _logger.warning("Pod %s of instance %s was forsaken and is removed", _name(pod), instance)
                found.append(instance)
        return found

    async def close(self) -> None:
        """Close the connections to the API server."""
        await self._api.close()

    def _forget(self, server: PodServer, is_gone: bool) -> None:
        self._own.discard(manifests.label_value(server.launch.plan.instance_id))
        if not is_gone:
            self._left_over.add(server.launch.name)

    async def _create_pod(self, launch: Launch) -> Pod:
        """Create the Pod, or find the one that an unanswered request of this launch has created.

        Cancelled or failed, it leaves nothing.
        """
        manifest = manifests.pod_manifest(launch)
        try:
            return await self._retried_create(launch, manifest)
        except (ClusterUnavailable, asyncio.CancelledError):
            # Whether it was created is unknown; what comes up later is gated and its lease lapses.
            cleaning = asyncio.get_running_loop().create_task(self._remove_unseen(launch))
            self._cleaning.add(cleaning)
            cleaning.add_done_callback(self._cleaning.discard)
            await asyncio.shield(cleaning)
            raise

    async def _retried_create(self, launch: Launch, manifest: Object) -> Pod:
        is_unanswered = False

        async def attempt() -> Pod:
            nonlocal is_unanswered
            try:
                return await _uninterrupted(self._api.create_pod(manifest))
            except ClusterUnavailable:
                is_unanswered = True
                raise
            except ClusterError as error:
                # An unanswered request may have been heard: then the name is taken, or the quota is.
                if is_unanswered and (pod := await self._find_own(launch)) is not None:
                    return pod
                raise error

        return await retried(attempt, seconds=self._settings.api_patience_s)

    async def _find_own(self, launch: Launch) -> Pod | None:
        try:
            pod = await self._api.read_pod(launch.name)
        except NotFound:
            return None
        annotations = (pod.metadata.annotations if pod.metadata else None) or {}
        return pod if annotations.get(manifests.LAUNCH_ANNOTATION) == launch.nonce else None

    async def _remove_unseen(self, launch: Launch) -> None:
        name, grace = launch.name, self._settings.termination_grace_s
        if not await remove(self._api, name, grace=grace, patience=self._settings.stop_patience_s):
            self._left_over.add(name)

    async def _complete(self, launch: Launch, server: PodServer) -> None:
        """Create what the Pod owns, then let the scheduler have it."""
        metadata = server.watch.pod.metadata
        uid = (metadata.uid if metadata else None) or ""
        patience = self._settings.api_patience_s
        await self._create_owned(Kind.SECRET, manifests.secret_manifest(launch, pod_uid=uid))
        await self._create_owned(Kind.SERVICE, manifests.service_manifest(launch, pod_uid=uid))
        opened = {**manifests.open_gate(), "metadata": {"uid": uid}}
        server.watch.take(await retried(lambda: self._api.patch_pod(launch.name, opened), seconds=patience))

    async def _create_owned(self, kind: Kind, manifest: Object) -> None:
        is_unanswered = False

        async def attempt() -> None:
            nonlocal is_unanswered
            try:
                await _uninterrupted(self._api.create(kind, manifest))
            except ClusterUnavailable:
                is_unanswered = True
                raise
            except AlreadyExists:
                if not is_unanswered:  # else it is ours, of the request that had no answer
                    raise

        await retried(attempt, seconds=self._settings.api_patience_s)

    async def _end_older(self, plan: ServerPlan) -> None:
        """End what earlier leases of the plan's owner have running, on whatever replica of the adapter."""
        if not plan.owner or plan.fencing_token <= 0:
            return
        owner = manifests.label_value(plan.owner)
        selector = f"{manifests.adapter_selector(self._adapter)},{manifests.OWNER_LABEL}={owner}"
        pods = await retried(lambda: self._api.list_pods(selector), seconds=self._settings.api_patience_s)
        for pod in pods:
            token = _token(pod)
            if token > plan.fencing_token:
                raise Fenced(
                    f"owner {plan.owner!r} has Pod {_name(pod)} under token {token}, which is newer than "
                    f"{plan.fencing_token}"
                )
            if token < plan.fencing_token and _label(pod, manifests.INSTANCE_LABEL) not in self._own:
                with contextlib.suppress(Conflicted):
                    await self._delete(pod, only_unchanged=False)

    def _is_forsaken(self, pod: Pod) -> bool:
        if pod.metadata is None or pod.metadata.deletionTimestamp is not None:
            return False  # it goes already
        owners = {reference.uid for reference in pod.metadata.ownerReferences or []}
        if self._settings.owner_pod_uid and self._settings.owner_pod_uid in owners:
            return True
        return self._has_lapsed(pod.metadata)

    def _has_lapsed(self, metadata: ObjectMeta) -> bool:
        """Whether the lease is over, and was not renewed while this adapter watched it for the margin.

        Its holder may live and only have been cut off from the API server, as this adapter was; and its clock
        may be another one.
        """
        end, now = manifests.lease_end(metadata.annotations), time.monotonic()
        if end is not None and end >= datetime.now(UTC):
            self._lapsed.pop(metadata.uid or "", None)
            return False
        known, since = self._lapsed.get(metadata.uid or "", (end, now))
        if known != end:
            since = now
        self._lapsed[metadata.uid or ""] = (end, since)
        return now - since >= self._settings.reap_margin_s

    async def _delete_forsaken(self, pod: Pod) -> bool:
        """Delete `pod` unless its lease is renewed meanwhile, whatever else of it changes."""
        lease = manifests.lease_end(pod.metadata.annotations if pod.metadata else None)
        for _ in range(_DELETE_TRIES):
            try:
                return await self._delete(pod, only_unchanged=True)
            except Conflicted:
                with contextlib.suppress(ClusterError):
                    pod = await self._api.read_pod(_name(pod))
                if manifests.lease_end(pod.metadata.annotations if pod.metadata else None) != lease:
                    return False
        return False

    async def _delete(self, pod: Pod, *, only_unchanged: bool) -> bool:
        """Delete `pod`; the cluster removes what it owns. Raises Conflicted where it has changed."""
        metadata = pod.metadata
        try:
            await self._api.delete(
                Kind.POD,
                _name(pod),
                grace=self._settings.termination_grace_s,
                uid=(metadata.uid if metadata else None) or "",
                version=(metadata.resourceVersion if metadata and only_unchanged else None) or "",
            )
        except Conflicted:
            raise
        except NotFound:
            return False
        except ClusterError as error:
            _logger.warning("deleting Pod %s: %s; later again", _name(pod), error.message)
            return False
        return True


async def _uninterrupted(call: Coroutine[Any, Any, _Result]) -> _Result:
    """`call`, to its end even when this is cancelled, so that nothing is created after the cleaning."""
    task = asyncio.get_running_loop().create_task(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


def _serving_error(error: ClusterError) -> ServingError:
    if isinstance(error, QuotaExceeded):
        return NoCapacity(f"the namespace's quota is used up: {error.message}")
    if isinstance(error, ClusterUnavailable):
        return StartFailed(f"the cluster's API server is unavailable: {error.message}", retryable=True)
    return StartFailed(f"the cluster refused: {error.message}")


def _label(pod: Pod, name: str) -> str:
    labels = (pod.metadata.labels if pod.metadata else None) or {}
    return str(labels.get(name, ""))


def _token(pod: Pod) -> int:
    text = _label(pod, manifests.TOKEN_LABEL)
    return int(text) if text.isdigit() else 0


def _name(pod: Pod) -> str:
    return (pod.metadata.name if pod.metadata else None) or ""

"""The few calls to a cluster's API server that the launcher makes, with errors that say what to do next."""

import asyncio
import contextlib
import json
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import httpx2
import msgspec
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError
from lightkube.models.core_v1 import Event, EventList, Pod, PodList
from lightkube.models.meta_v1 import Status

from assay_serving.launchers.kubernetes.settings import KubernetesSettings

_logger = logging.getLogger(__name__)
_WATCH_SECONDS = 60
_WATCH_SLACK_SECONDS = 10.0
_BYTES_PER_LINE = 80  # of a server's log, at the least
_FIRST_DELAY_SECONDS = 0.1
_LONGEST_DELAY_SECONDS = 5.0
_PAGE = 200

Manifest = Mapping[str, Any]
_Result = TypeVar("_Result")


class Kind(StrEnum):
    """What the launcher creates; the value is the path of its collection."""

    POD = "pods"
    SERVICE = "services"
    SECRET = "secrets"


class ClusterError(Exception):
    """The API server refused: trying the same again would end the same. `message` is the server's."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ClusterUnavailable(ClusterError):
    """No answer, a broken one, a server error or too many requests: try again later."""


class QuotaExceeded(ClusterError):
    """The namespace's quota has no room for it."""


class AlreadyExists(ClusterError):
    """An object of that name exists."""


class Conflicted(ClusterError):
    """The object is not, or not any more, the one that the call was meant for."""


class NotFound(ClusterError):
    """There is no such object."""


class VersionGone(ClusterError):
    """The server no longer knows the version to watch from: read the object and watch from there."""


@dataclass(frozen=True, slots=True)
class PodChange:
    """One event of a watch. `pod` is None for a bookmark, which only moves `version` on."""

    pod: Pod | None
    is_deleted: bool
    version: str


class Backoff:
    """Growing pauses with jitter, so that many clients of a server that comes back do not come at once."""

    def __init__(self) -> None:
        self._delay = _FIRST_DELAY_SECONDS

    def reset(self) -> None:
        """The next pause is short again."""
        self._delay = _FIRST_DELAY_SECONDS

    async def pause(self) -> None:
        """Sleep; the next pause is twice as long, up to some seconds."""
        await asyncio.sleep(self._delay * random.uniform(0.5, 1.0))
        self._delay = min(2 * self._delay, _LONGEST_DELAY_SECONDS)


class ClusterApi:
    """Pods, Services and Secrets of one namespace. Used from one event loop; connects at the first call."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._http: httpx2.AsyncClient | None = None

    async def create(self, kind: Kind, manifest: Manifest) -> bytes:
        """Create an object; returns it as the server has stored it, as JSON.

        Raises:
            AlreadyExists, QuotaExceeded, ClusterError, ClusterUnavailable: see there.
        """
        return await self._call("POST", kind, body=manifest)

    async def create_pod(self, manifest: Manifest) -> Pod:
        """`create` of a Pod."""
        return _decode(await self.create(Kind.POD, manifest), Pod)

    async def read_pod(self, name: str) -> Pod:
        """The Pod as it is now; raises NotFound."""
        return _decode(await self._call("GET", Kind.POD, name), Pod)

    async def list_pods(self, selector: str) -> list[Pod]:
        """All Pods with the labels of `selector`."""
        pods: list[Pod] = []
        parameters = {"labelSelector": selector, "limit": str(_PAGE)}
        while True:
            page = _decode(await self._call("GET", Kind.POD, parameters=parameters), PodList)
            pods += page.items
            if page.metadata is None or not page.metadata.continue_:
                return pods
            parameters["continue"] = page.metadata.continue_

    async def patch_pod(self, name: str, patch: Manifest) -> Pod:
        """Merge `patch` into the Pod.

        A ``metadata.uid`` or ``metadata.resourceVersion`` in it must be the Pod's, else Conflicted is raised.
        """
        headers = {"Content-Type": "application/merge-patch+json"}
        return _decode(await self._call("PATCH", Kind.POD, name, body=patch, headers=headers), Pod)

    async def delete(
        self, kind: Kind, name: str, *, grace: int | None = None, uid: str = "", version: str = ""
    ) -> None:
        """Begin to delete an object; it is gone once this raises NotFound.

        With `uid` or `version` only the object that has them, else Conflicted is raised.
        """
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        options["propagationPolicy"] = "Background"
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        conditions = {key: text for key, text in (("uid", uid), ("resourceVersion", version)) if text}
        if conditions:
            options["preconditions"] = conditions
        await self._call("DELETE", kind, name, body=options)

    async def watch_pod(self, name: str, version: str) -> AsyncGenerator[PodChange, None]:
        """Changes of one Pod after `version`, until the server ends the watch, which it does now and then.

        Raises:
            VersionGone, ClusterUnavailable, ClusterError: see there.
        """
        parameters = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        # The server ends a watch by itself. One that outlives its time has lost its connection unnoticed.
        timeout = httpx2.Timeout(self._settings.api_timeout_s, read=_WATCH_SECONDS + _WATCH_SLACK_SECONDS)
        url = self._url(Kind.POD)
        with _translated():
            async with self._client().stream("GET", url, params=parameters, timeout=timeout) as response:
                if response.is_error:
                    await response.aread()
                    raise _error_of(response)
                async for line in response.aiter_lines():
                    if line.strip():
                        yield _change_of(line)

    async def events_of(self, uid: str) -> list[Event]:
        """What the cluster's components said about an object, oldest first."""
        parameters = {"fieldSelector": f"involvedObject.uid={uid}", "limit": str(_PAGE)}
        found = _decode(await self._call("GET", "events", parameters=parameters), EventList)
        return sorted(found.items, key=lambda event: str(event.lastTimestamp or event.eventTime or ""))

    async def read_log(self, name: str, *, container: str, max_bytes: int, previous: bool = False) -> bytes:
        """The last `max_bytes` of a container's output; of the one before a restart with `previous`.

        The API can only be asked for lines; what is too much of them is dropped as it comes.
        """
        parameters = {"container": container, "tailLines": str(max(1, max_bytes // _BYTES_PER_LINE))}
        if previous:
            parameters["previous"] = "true"
        kept = bytearray()
        with _translated():
            url = self._url(Kind.POD, f"{name}/log")
            async with self._client().stream("GET", url, params=parameters) as response:
                if response.is_error:
                    await response.aread()
                    raise _error_of(response)
                async for chunk in response.aiter_bytes():
                    kept += chunk
                    del kept[:-max_bytes]
        return bytes(kept)

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _call(
        self,
        method: str,
        kind: str,
        name: str = "",
        *,
        body: Manifest | None = None,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        content = None if body is None else json.dumps(body).encode()
        with _translated():
            response = await self._client().request(
                method,
                self._url(kind, name),
                content=content,
                params=dict(parameters or {}),
                headers={"Content-Type": "application/json", "Accept": "application/json", **(headers or {})},
            )
            if response.is_error:
                raise _error_of(response)
            return response.content

    def _url(self, kind: str, name: str = "") -> str:
        path = f"/api/v1/namespaces/{self._settings.namespace}/{kind}"
        return f"{path}/{name}" if name else path

    def _client(self) -> httpx2.AsyncClient:
        if self._http is None:
            timeout = httpx2.Timeout(self._settings.api_timeout_s)
            self._http = AsyncClient(_configuration(self._settings), ConnectionParams(timeout=timeout))
        return self._http


async def retried(call: Callable[[], Awaitable[_Result]], *, seconds: float) -> _Result:
    """What `call` returns, called again for as long as the API server is unavailable.

    Raises:
        ClusterUnavailable: it still is after `seconds`.
        ClusterError: whatever else `call` raises.
    """
    deadline = time.monotonic() + seconds
    backoff = Backoff()
    while True:
        try:
            return await call()
        except ClusterUnavailable as error:
            if time.monotonic() >= deadline:
                raise
            _logger.warning("the cluster's API server: %s; trying again", error.message)
        await backoff.pause()


def _configuration(settings: KubernetesSettings) -> SingleConfig:
    """How to reach the cluster; raises ClusterError where nothing tells."""
    try:
        if settings.kubeconfig is None:
            found = KubeConfig.from_service_account().get()
        else:
            found = KubeConfig.from_file(settings.kubeconfig).get(settings.context or None)
    except (ConfigError, OSError, KeyError, msgspec.MsgspecError) as error:
        where = settings.kubeconfig or "the service account of this Pod (set kubernetes.kubeconfig outside)"
        raise ClusterError(f"no way to reach a cluster by {where}: {error}") from error
    if found is None:  # pragma: no cover - only with a default
        raise ClusterError(f"{settings.kubeconfig} names no current context; set kubernetes.context")
    # A context without a user is one without authentication, which the connection layer wants to be told.
    return found if found.user is not None else found._replace(user=User())


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Failures of the connection as ClusterUnavailable."""
    try:
        yield
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        raise ClusterUnavailable(f"{type(error).__name__}: {error}".rstrip(": ")) from error
    except ConfigError as error:  # a token file that is just being rotated
        raise ClusterUnavailable(str(error)) from error


def _decode(body: bytes, kind: type[_Result]) -> _Result:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise ClusterUnavailable(f"the answer makes no sense: {error}") from error


def _change_of(line: str) -> PodChange:
    try:
        event = msgspec.json.decode(line)
        kind, content = event["type"], event["object"]
        if kind == "ERROR":
            raise _failure(
                int(content.get("code", 500)), content.get("reason", ""), content.get("message", "")
            )
        version = content["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return PodChange(None, False, version)
        return PodChange(msgspec.convert(content, Pod), kind == "DELETED", version)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise ClusterUnavailable(f"a watch was cut off: {error}") from error


def _error_of(response: httpx2.Response) -> ClusterError:
    try:
        status = msgspec.json.decode(response.content, type=Status)
    except msgspec.MsgspecError:  # not the API server but something before it
        return _failure(response.status_code, "", response.text[:500])
    return _failure(response.status_code, status.reason or "", status.message or "")


def _failure(code: int, reason: str, message: str) -> ClusterError:
    text = message or f"HTTP status {code} {reason}".strip()
    match code:
        case 404:
            return NotFound(text)
        case 410:
            return VersionGone(text)
        case 409 if reason == "AlreadyExists":
            return AlreadyExists(text)
        case 409 if "resourcequotas" in text:  # two requests met in the quota's bookkeeping
            return ClusterUnavailable(text)
        case 409:
            return Conflicted(text)
        case 403 if "exceeded quota" in text:
            return QuotaExceeded(text)
        case 408 | 429:
            return ClusterUnavailable(text)
        case _ if code >= 500:
            return ClusterUnavailable(text)
        case _:
            return ClusterError(text)

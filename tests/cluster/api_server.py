"""The cluster's HTTP API, as far as a launcher needs it, and ways to make it fail."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import yaml
from aiohttp import web

from cluster.schemas import Object
from cluster.store import KINDS, ApiError, Store

TOKEN = "a-service-account-token"
LogReader = Callable[[str, str, bool], bytes]


@dataclass
class Fault:
    """Fail the next `times` requests of `method` to `kind`: before they do anything, or after they did it."""

    method: str
    kind: str
    times: int
    code: int = 500  # 0: the connection is cut
    after: bool = False


@dataclass
class Faults:
    """What goes wrong."""

    planned: list[Fault] = field(default_factory=list)
    share: float = 0.0  # of all requests, at random
    outage_until: float = 0.0  # time.monotonic(): until then nothing is answered
    random: Random = field(default_factory=lambda: Random(0))

    def next(self, method: str, kind: str) -> Fault | None:
        if time.monotonic() < self.outage_until:
            return Fault(method, kind, 1, code=0)
        for fault in self.planned:
            if fault.times > 0 and fault.method == method and fault.kind == kind:
                fault.times -= 1
                return fault
        if self.random.random() < self.share:
            code = self.random.choice([500, 503, 429, 0])
            return Fault(method, kind, 1, code=code, after=self.random.random() < 0.5)
        return None


class ApiServer:
    """Serves a `Store` on a free port of 127.0.0.1.

    With `role` (the manifest of a Role) it allows what the role allows and nothing else.
    """

    def __init__(self, store: Store, *, read_log: LogReader, role: Object | None = None) -> None:
        self.store = store
        self.faults = Faults()
        self.requests: list[str] = []
        self.url = ""
        self.before_delete: Callable[[], None] | None = None
        self._read_log = read_log
        self._role = role
        self._watches: dict[int, web.Request] = {}

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        application = web.Application()
        base = "/api/v1/namespaces/{namespace}/{kind}"
        for path in (base, base + "/{name}", base + "/{name}/{part}"):
            application.router.add_route("*", path, self._handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield
        finally:
            self.drop_watches()
            await runner.cleanup()

    def write_kubeconfig(self, path: Path) -> Path:
        named = {"name": "test"}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [named | {"cluster": {"server": self.url}}],
            "users": [named | {"user": {"token": TOKEN}}],
            "contexts": [named | {"context": {"cluster": "test", "user": "test"}}],
        }
        path.write_text(yaml.safe_dump(content))
        return path

    def drop_watches(self) -> int:
        """Cut every watch in the middle; returns how many."""
        watches, self._watches = self._watches, {}
        for request in watches.values():
            if request.transport is not None:
                request.transport.abort()
        return len(watches)

    def end_watches(self) -> None:
        """End every watch in the proper way, as an API server does after some minutes."""
        self._watches.clear()
        self.store.changed.set()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        kind, part = request.match_info["kind"], request.match_info.get("part", "")
        is_watch = request.query.get("watch") == "true"
        verb = _verb(request, is_watch)
        self.requests.append(f"{verb} {kind}{'/' + part if part else ''}")
        fault = self.faults.next(request.method, kind)
        try:
            if fault is not None and not fault.after:
                return _fail(request, fault)
            self._authorise(request, verb, f"{kind}/{part}" if part else kind)
            if is_watch:
                return await self._watch(request, kind)
            answer = await self._answer(request, kind, part)
            return answer if fault is None else _fail(request, fault)
        except ApiError as error:
            return web.json_response(_status(error), status=error.code)

    def _authorise(self, request: web.Request, verb: str, resource: str) -> None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise ApiError(401, "Unauthorized", "Unauthorized")
        rules: list[Any] = [] if self._role is None else self._role["rules"]
        allowed = any(resource in each["resources"] and verb in each["verbs"] for each in rules)
        if self._role is not None and not allowed:
            raise ApiError(403, "Forbidden", f'{resource} is forbidden: User "test" cannot {verb} resource')

    async def _answer(self, request: web.Request, kind: str, part: str) -> web.Response:
        namespace, name = request.match_info["namespace"], request.match_info.get("name", "")
        if kind not in KINDS:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        body: Object = json.loads(await request.text() or "{}")
        match request.method, bool(name), part:
            case "POST", False, "":
                return web.json_response(self.store.create(kind, namespace, body), status=201)
            case "GET", False, "":
                return self._list(request, kind, namespace)
            case "GET", True, "":
                return web.json_response(self.store.get(kind, namespace, name))
            case "GET", True, "log":
                return self._log(request, namespace, name)
            case "PATCH", True, "":
                if request.content_type != "application/merge-patch+json":
                    raise ApiError(415, "UnsupportedMediaType", request.content_type)
                return web.json_response(self.store.patch(kind, namespace, name, body))
            case "DELETE", True, "":
                if self.before_delete is not None:
                    self.before_delete()
                    self.before_delete = None
                return web.json_response(self.store.delete(kind, namespace, name, options=body))
            case _:
                raise ApiError(405, "MethodNotAllowed", "the server does not allow this method")

    def _list(self, request: web.Request, kind: str, namespace: str) -> web.Response:
        matching = [each for each in self.store.of_kind(kind, namespace) if _matches(request, each)]
        start, limit = int(request.query.get("continue", 0)), int(request.query.get("limit", 0))
        metadata: Object = {"resourceVersion": str(self.store.version)}
        end = start + limit if limit else len(matching)
        if end < len(matching):
            metadata["continue"] = str(end)
        return web.json_response(
            {
                "kind": f"{KINDS[kind]}List",
                "apiVersion": "v1",
                "metadata": metadata,
                "items": matching[start:end],
            }
        )

    def _log(self, request: web.Request, namespace: str, name: str) -> web.Response:
        pod = self.store.get("pods", namespace, name)
        if not any(each.get("containerID") for each in pod["status"].get("containerStatuses", [])):
            raise ApiError(400, "BadRequest", f'container in pod "{name}" is waiting to start')
        text = self._read_log(
            pod["metadata"]["uid"], request.query.get("container", ""), "previous" in request.query
        )
        lines = text.splitlines(keepends=True)[-int(request.query.get("tailLines", 1 << 30)) :]
        return web.Response(body=b"".join(lines), content_type="text/plain")

    async def _watch(self, request: web.Request, kind: str) -> web.StreamResponse:
        version = int(request.query.get("resourceVersion") or self.store.version)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        self._watches[id(request)] = request
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(float(request.query.get("timeoutSeconds", 300))):
                try:
                    while id(request) in self._watches:
                        changed = self.store.changed
                        for change in self.store.history_after(version):
                            version = change.version
                            if change.kind == kind and _matches(request, change.content):
                                await response.write(_line(change.type, change.content))
                        await changed.wait()
                except ApiError as error:
                    await response.write(_line("ERROR", _status(error)))
        self._watches.pop(id(request), None)
        return response


def _verb(request: web.Request, is_watch: bool) -> str:
    if request.method == "GET":
        return "watch" if is_watch else "get" if request.match_info.get("name") else "list"
    return {"POST": "create", "PATCH": "patch", "DELETE": "delete", "PUT": "update"}.get(request.method, "?")


def _fail(request: web.Request, fault: Fault) -> web.Response:
    if fault.code == 0:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)
    if fault.code == 409:
        said = 'Operation cannot be fulfilled on resourcequotas "team": the object has been modified'
        return web.json_response(_status(ApiError(409, "Conflict", said)), status=409)
    message = "etcdserver: request timed out" if fault.code == 500 else "try again later"
    return web.json_response(_status(ApiError(fault.code, "InternalError", message)), status=fault.code)


def _status(error: ApiError) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": error.message,
        "reason": error.reason,
        "code": error.code,
    }


def _line(event: str, content: Object) -> bytes:
    return json.dumps({"type": event, "object": content}).encode() + b"\n"


def _matches(request: web.Request, content: Object) -> bool:
    labels = content["metadata"].get("labels", {})
    for part in filter(None, request.query.get("labelSelector", "").split(",")):
        name, _, value = part.partition("=")
        if labels.get(name) != value.lstrip("="):
            return False
    for part in filter(None, request.query.get("fieldSelector", "").split(",")):
        path, _, value = part.partition("=")
        found: Any = content
        for step in path.split("."):
            found = found.get(step, {})
        if found != value:
            return False
    return True

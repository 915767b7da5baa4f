"""The gateway in front of a real upstream server: routes, keys, identity, limits, streaming."""

import json
import socket
import stat
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from starlette.types import ASGIApp

import access_svc.settings
import access_svc.wiring
from assay_allinone.gateway import GatewayConfiguration, Upstream, Upstreams, gateway_command
from assay_chassis.identity import Identity, IdentityReader, Role
from assay_chassis.local import LocalServer
from assay_chassis.processes import LOOPBACK, PortReservation
from assay_chassis.testing import INTERNAL_KEY

API_KEY = 'key-with-"quotes"-and-%percent'
MEBIBYTE = 1024 * 1024
PATIENCE = 20.0

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(slots=True)
class EchoService:
    """An ASGI application that answers with what it was sent, in its own name."""

    name: str
    first_part_received: threading.Event = field(default_factory=threading.Event)
    first_event_seen: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if "text/event-stream" in headers.get("accept", ""):
            await self._send_events(send)
            return
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            if size:
                self.first_part_received.set()
        body = json.dumps(
            {"service": self.name, "path": scope["path"], "headers": headers, "size": size}
        ).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-upstream", b"yes")]})
        await send({"type": "http.response.body", "body": body})

    async def _send_events(self, send: Send) -> None:
        start = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": start})
        await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
        # Blocking the server's thread on purpose: nothing more is sent before the client saw the first.
        seen = self.first_event_seen.wait(PATIENCE)
        await send(
            {"type": "http.response.body", "body": b"data: second\n\n" if seen else b"data: blind\n\n"}
        )


@dataclass(frozen=True, slots=True)
class RunningGateway:
    url: str
    port: int
    services: dict[str, EchoService]
    configuration: Path
    access_log: Path

    def client(self, *, key: str | None = API_KEY) -> httpx.Client:
        headers = {} if key is None else {"x-api-key": key}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE, trust_env=False)


def serve(
    application: ASGIApp, *, lifespan: Literal["on", "off"] = "off"
) -> tuple[uvicorn.Server, threading.Thread, int]:
    listener = socket.create_server((LOOPBACK, 0))
    server = uvicorn.Server(uvicorn.Config(application, lifespan=lifespan, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the application did not start"
        time.sleep(0.01)
    return server, thread, listener.getsockname()[1]


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, nats_url: str, mongo_uri: str
) -> Iterator[RunningGateway]:
    home = tmp_path_factory.mktemp("gateway")
    services = {name: EchoService(name) for name in ("dataset", "method", "eval", "metrics", "console")}
    running = {name: serve(service) for name, service in services.items()}
    access = access_svc.wiring.create_app(
        access_svc.settings.Settings(
            home=home,
            nats_url=nats_url,
            mongo_uri=mongo_uri,
            database_prefix=f"test_{uuid.uuid4().hex}_",
            internal_key=SecretStr(INTERNAL_KEY),
            api_key=SecretStr(API_KEY),
        )
    )
    running["access"] = serve(access, lifespan="on")
    reservation = PortReservation()
    configuration = GatewayConfiguration(
        listen=Upstream(LOOPBACK, reservation.port),
        upstreams=Upstreams(**{name: Upstream(LOOPBACK, port) for name, (_, _, port) in running.items()}),
        access_log=home / "access.log",
    )
    spec = gateway_command(configuration, path=home / "envoy.yaml")
    url = f"http://{LOOPBACK}:{reservation.port}"
    server = LocalServer(spec, url=url, log=home / "envoy.log", reservations=(reservation,))
    try:
        server.start()
        yield RunningGateway(url, reservation.port, services, home / "envoy.yaml", home / "access.log")
    finally:
        server.close()
        for uvicorn_server, thread, _ in running.values():
            uvicorn_server.should_exit = True
            thread.join()


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    # A malformed request is refused before it gets an id.
    assert problem["request_id"] == response.headers.get("x-request-id")
    return problem


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/v1/datasets", "dataset"),
        ("/v1/datasets/one/rows?limit=3", "dataset"),
        ("/v1/snapshots/one", "dataset"),
        ("/v1/templates", "method"),
        ("/v1/tasks", "method"),
        ("/v1/methods/one", "method"),
        ("/v1/artifacts", "eval"),
        ("/v1/backends", "eval"),
        ("/v1/evaluations/one/samples", "eval"),
        ("/v1/metrics", "metrics"),
        ("/v1/comparisons/one", "metrics"),
        ("/v1/scorings/one", "metrics"),
        ("/v1/policies/default/versions/1", "metrics"),
        ("/v1/decisions/one/bundle", "metrics"),
        ("/v1/plan/power", "metrics"),
        ("/v1/trends", "metrics"),
    ],
)
def test_each_resource_reaches_its_service_under_the_same_path(
    gateway: RunningGateway, path: str, service: str
) -> None:
    with gateway.client() as client:
        answer = client.get(path).json()
    assert (answer["service"], answer["path"]) == (service, path.partition("?")[0])


@pytest.mark.parametrize("name", ["dataset", "method", "eval", "metrics"])
@pytest.mark.parametrize("pattern", ["/docs/{}", "/openapi/{}.json"])
def test_descriptions_need_no_key_and_carry_no_identity(
    gateway: RunningGateway, name: str, pattern: str
) -> None:
    with gateway.client(key=None) as client:
        answer = client.get(pattern.format(name), headers={"x-assay-identity": "anyone"}).json()
    assert answer["service"] == name
    assert not [header for header in answer["headers"] if header.startswith("x-assay-")]


@pytest.mark.parametrize("key", [None, "", "wrong", API_KEY[:-1], INTERNAL_KEY])
@pytest.mark.parametrize(
    "path", ["/v1/datasets", "/v1/evaluations/x", "/docs/../v1/datasets", "//v1//methods"]
)
def test_without_the_key_nothing_behind_it_is_reached(
    gateway: RunningGateway, key: str | None, path: str
) -> None:
    # httpx would resolve /docs/.. itself: written to the socket as it is.
    header = "" if key is None else f"X-API-Key: {key}\r\n"
    answer = raw_request(
        gateway.port, f"GET {path} HTTP/1.1\r\nHost: x\r\n{header}Connection: close\r\n\r\n".encode()
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 ")
    assert b"content-type: application/problem+json" in head
    assert b"www-authenticate: Bearer" in head
    assert b"x-upstream" not in head
    assert json.loads(body)["type"] == "urn:assay:problem:unauthorized"


def caller(headers: dict[str, str]) -> Identity:
    return IdentityReader(internal_key=INTERNAL_KEY).read(headers["x-assay-identity"])


def raw_request(port: int, request: bytes) -> bytes:
    with socket.create_connection((LOOPBACK, port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        response = HTTPResponse(connection)
        response.begin()
        lines = [
            f"HTTP/1.1 {response.status} ",
            *(f"{name}: {value}" for name, value in response.getheaders()),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + response.read()


def test_the_key_is_accepted_as_a_bearer_token_too(gateway: RunningGateway) -> None:
    with gateway.client(key=None) as client:
        answer = client.get("/v1/datasets", headers={"authorization": f"Bearer {API_KEY}"}).json()
    assert caller(answer["headers"]).client == "owner"


def test_the_service_sees_who_called_and_never_the_key(gateway: RunningGateway) -> None:
    with gateway.client() as client:
        headers = client.get("/v1/datasets").json()["headers"]
    assert caller(headers) == Identity(client="owner", role=Role.ADMIN)
    assert [name for name in headers if name.startswith("x-assay-")] == ["x-assay-identity"]
    assert not {"x-api-key", "authorization"} & set(headers)
    assert not [value for value in headers.values() if API_KEY in value or INTERNAL_KEY in value]


@pytest.mark.parametrize("name", ["x-assay-client", "X-Assay-Identity", "X-ASSAY-ROLE"])
def test_a_client_cannot_forge_identity_headers(gateway: RunningGateway, name: str) -> None:
    forged = [(name, "root"), (name, "admin"), ("x-api-key", API_KEY)]
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=PATIENCE) as client:
        headers = client.get("/v1/datasets", headers=forged).json()["headers"]
    assert caller(headers).client == "owner"
    assert "x-assay-role" not in headers
    assert not [value for value in headers.values() if "root" in value or "admin" in value]


def test_an_underscored_look_alike_of_an_identity_header_is_refused(gateway: RunningGateway) -> None:
    with gateway.client() as client:
        assert_problem(client.get("/v1/datasets", headers={"x_assay_client": "root"}), 400)


@pytest.mark.parametrize("declared", [True, False], ids=["content-length", "chunked"])
@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/v1/methods", MEBIBYTE, 200),
        ("/v1/methods", MEBIBYTE + 1, 413),
        ("/v1/datasets", MEBIBYTE + 1, 413),
        ("/v1/datasets/one/data", 5 * MEBIBYTE, 200),
        ("/console/methods", MEBIBYTE + 1, 413),
        ("/console/datasets/one/data", 5 * MEBIBYTE, 200),
    ],
)
def test_body_limits(gateway: RunningGateway, path: str, size: int, status: int, declared: bool) -> None:
    body = b"x" * size
    with gateway.client() as client:
        response = client.post(path, content=body if declared else iter([body]))
    if status == 200:
        assert response.json()["size"] == size
    else:
        assert assert_problem(response, status)["type"] == "urn:assay:problem:content-too-large"


def test_an_upload_of_more_than_512_mib_is_refused_before_it_is_sent(gateway: RunningGateway) -> None:
    answer = raw_request(
        gateway.port,
        f"POST /v1/datasets/one/data HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nConnection: close\r\n"
        f"Content-Length: {512 * MEBIBYTE + 1}\r\n\r\n".encode(),
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in answer


def test_an_upload_reaches_the_service_while_it_is_being_sent(gateway: RunningGateway) -> None:
    received = gateway.services["dataset"].first_part_received
    received.clear()

    def parts() -> Iterator[bytes]:
        yield b"a" * 1000
        # A gateway that waited for the whole body would never let this go on.
        assert received.wait(PATIENCE)
        yield b"b" * 1000

    with gateway.client() as client:
        assert client.post("/v1/datasets/one/data", content=parts()).json()["size"] == 2000


def test_events_reach_the_client_while_the_answer_goes_on(gateway: RunningGateway) -> None:
    seen = gateway.services["eval"].first_event_seen
    seen.clear()
    events = []
    with (
        gateway.client() as client,
        client.stream("GET", "/v1/evaluations/one", headers={"accept": "text/event-stream"}) as response,
    ):
        for line in response.iter_lines():
            if line:
                events.append(line)
                seen.set()
    assert events == ["data: first", "data: second"]


def test_health_and_the_front_page_are_answered_by_the_gateway(gateway: RunningGateway) -> None:
    with gateway.client(key=None) as client:
        assert client.get("/healthz").json() == {"status": "alive"}
        front = client.get("/")
        assert front.headers["content-type"] == "application/json"
        for page in front.json()["documentation"].values():
            assert client.get(page).status_code == 200


def test_a_browser_finds_the_console_without_a_key(gateway: RunningGateway) -> None:
    with gateway.client(key=None) as client:
        for path in ("/", "/console"):
            found = client.get(path, headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
            assert (found.status_code, found.headers["location"]) == (302, f"{gateway.url}/console/")
        page = client.get("/console/datasets?name=x", headers={"cookie": "assay_key=mine"}).json()
    assert (page["service"], page["path"]) == ("console", "/console/datasets")
    assert page["headers"]["cookie"] == "assay_key=mine"
    assert not [header for header in page["headers"] if header.startswith("x-assay-")]


@pytest.mark.parametrize("path", ["/console/../v1/datasets", "/console/%2e%2e/v1/datasets"])
def test_the_console_is_no_way_around_the_key(gateway: RunningGateway, path: str) -> None:
    answer = raw_request(
        gateway.port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "path", ["/v1/unknown", "/v1/datasetsx", "/readyz", "/docs/other", "/docs/dataset/x"]
)
def test_an_unknown_path_is_a_problem_document(gateway: RunningGateway, path: str) -> None:
    with gateway.client() as client:
        assert_problem(client.get(path), 404)


def test_an_escaped_slash_is_refused(gateway: RunningGateway) -> None:
    with gateway.client() as client:
        assert_problem(client.get("/v1/datasets%2F..%2Fmethods"), 400)


def test_request_ids_are_made_and_logged_with_the_client_and_without_the_key(gateway: RunningGateway) -> None:
    with gateway.client() as client:
        response = client.get("/v1/comparisons/logged")
    request_id = response.headers["x-request-id"]
    assert response.json()["headers"]["x-request-id"] == request_id
    lines: list[dict[str, Any]] = []
    # The log is flushed every second or so.
    for _ in range(100):
        text = gateway.access_log.read_text()
        lines = [json.loads(line) for line in text.splitlines() if request_id in line]
        if lines:
            break
        threading.Event().wait(0.1)
    assert len(lines) == 1
    assert lines[0]["client"] == "owner"
    assert (lines[0]["method"], lines[0]["path"], lines[0]["status"]) == (
        "GET",
        "/v1/comparisons/logged",
        200,
    )
    assert lines[0]["service"] == "metrics"
    assert API_KEY not in text
    assert INTERNAL_KEY not in text


def test_the_configuration_is_readable_by_its_owner_alone(gateway: RunningGateway) -> None:
    assert stat.S_IMODE(gateway.configuration.stat().st_mode) == 0o600


# The first meets access-svc, which is down, and must not get past it; the second needs no key.
@pytest.mark.parametrize("path", ["/v1/datasets", "/docs/dataset"])
def test_a_service_that_is_down_is_a_503_problem(tmp_path: Path, path: str) -> None:
    down, listening = PortReservation(), PortReservation()
    nobody = Upstream(LOOPBACK, down.port)
    configuration = GatewayConfiguration(
        listen=Upstream(LOOPBACK, listening.port),
        upstreams=Upstreams(**dict.fromkeys(Upstreams.__dataclass_fields__, nobody)),
        access_log=tmp_path / "access.log",
    )
    server = LocalServer(
        gateway_command(configuration, path=tmp_path / "envoy.yaml"),
        url=f"http://{LOOPBACK}:{listening.port}",
        log=tmp_path / "log",
        reservations=(down, listening),
    )
    server.start()
    try:
        response = httpx.get(f"{server.url}{path}", headers={"x-api-key": API_KEY}, trust_env=False)
        assert_problem(response, 503)
        assert response.headers["retry-after"] == "2"
    finally:
        server.close()


@pytest.mark.parametrize("address", ["dataset-svc", "dataset-svc:", ":80", "host:http"])
def test_a_malformed_upstream_address_is_named(address: str) -> None:
    with pytest.raises(ValueError, match=f"'{address}' is no address: write host:port"):
        Upstream.of(address)

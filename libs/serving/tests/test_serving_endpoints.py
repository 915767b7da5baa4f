"""Endpoints that somebody else runs: over TLS with real certificates, with and without a key."""

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from assay_serving.errors import InvalidRequest, ServingError, StartFailed
from assay_serving.launchers import endpoint as endpoints
from assay_serving.launchers.endpoint import connect_endpoint
from assay_serving.tls import TlsSettings
from assay_serving.types import StampSource
from assay_serving.upstream import ServerEvent, Upstream, UpstreamAddress, UpstreamError, exchange

KEY = "sk-not-to-be-seen"
HOSTS = {"localhost", "127.0.0.1"}
HEALTHY = {"/health": 200, "/v1/models": 200}


@dataclass(slots=True)
class Certificates:
    """A throw-away authority and what it has signed, as PEM files."""

    directory: Path
    ca_file: Path = field(init=False)

    def __post_init__(self) -> None:
        self.ca_file = self.directory / "ca.pem"
        self._make("ca", "-subj", "/CN=throw-away authority")

    def context(self, name: str) -> ssl.SSLContext:
        """A server's context with a certificate for host `name`."""
        signed = ("-CA", str(self.ca_file), "-CAkey", str(self.directory / "ca.key"))
        self._make(name, "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", *signed)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        return context

    def _make(self, name: str, *arguments: str) -> None:
        files = ("-keyout", str(self.directory / f"{name}.key"), "-out", str(self.directory / f"{name}.pem"))
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2")
        subprocess.run(
            ["openssl", "req", "-x509", *kind, *files, *arguments],
            check=True,
            capture_output=True,
        )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@dataclass(slots=True)
class ModelServer:
    """A server on loopback that answers by path and remembers what it was asked."""

    statuses: Mapping[str, int]
    wanted_key: str = ""
    port: int = 0
    heads: list[str] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
                await reader.readexactly(length)
                await self._reply(head, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _reply(self, head: str, writer: asyncio.StreamWriter) -> None:
        path = head.split(" ")[1]
        status = self.statuses.get(path, 404)
        if path.startswith("/v1") and self.wanted_key and f"Bearer {self.wanted_key}\r\n" not in head:
            status = 401
        if status == 200 and path == "/v1/completions":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
            writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
            for number in range(3):
                content = (
                    f"data: {json.dumps({'number': number, 'padding': 'x' * 40_000 * (number == 1)})}\n\n"
                )
                writer.write(f"{len(content):x}\r\n{content}\r\n".encode())
                await writer.drain()
                await asyncio.sleep(0.02)
            writer.write(b"0\r\n\r\n")
            return
        body = json.dumps({"data": [{"id": "served"}]}).encode()
        location = b"Location: http://127.0.0.1:1/elsewhere\r\n" if 300 <= status < 400 else b""
        writer.write(b"HTTP/1.1 %d X\r\n%bContent-Length: %d\r\n\r\n" % (status, location, len(body)) + body)


@asynccontextmanager
async def running(server: ModelServer, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[ModelServer]:
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server


async def connected(url: str, *, key: str = "", ca_file: str = "") -> endpoints.EndpointServer:
    return await connect_endpoint(url, key=key, allowed_hosts=HOSTS, health_path="/health", ca_file=ca_file)


async def test_tokens_over_tls_keep_the_kernels_stamps(certificates: Certificates) -> None:
    server = ModelServer({**HEALTHY, "/v1/completions": 200}, wanted_key=KEY)
    async with running(server, tls=certificates.context("localhost")):
        url = f"https://localhost:{server.port}/v1"
        found = await connected(url, key=KEY, ca_file=str(certificates.ca_file))
        upstream = Upstream(found.address, keep_alive=True)
        for _ in range(2):  # the second over the connection of the first
            events: list[ServerEvent] = []
            reply = await upstream.exchange(
                "POST", "/v1/completions", body=b"{}" * 50_000, headers=found.headers, on_event=events.append
            )
            assert [json.loads(event.data)["number"] for event in events] == [0, 1, 2]
            arrived = [event.arrived_mono_ns(reply.stamp_source) for event in events]
            assert reply.sent_mono_ns < arrived[0] < arrived[1] < arrived[2] <= reply.done_mono_ns
            if sys.platform == "linux":
                assert reply.stamp_source is StampSource.KERNEL
                assert all(event.kernel_mono_ns <= event.read_mono_ns for event in events)
        upstream.close()
    assert server.heads[-1].startswith("POST /v1/completions HTTP/1.1\r\nHost: localhost:")
    assert found.place == {
        "url": url,
        "host": "localhost",
        "ip_address": found.address.host,
    }


async def test_a_certificate_that_is_not_trusted_or_for_another_name(certificates: Certificates) -> None:
    server = ModelServer(HEALTHY)
    async with running(server, tls=certificates.context("localhost")):
        with pytest.raises(
            StartFailed, match=r"certificate of localhost is not accepted: unable to get local issuer"
        ):
            await connected(f"https://localhost:{server.port}")
        with pytest.raises(StartFailed, match=r"certificate of 127.0.0.1 is not accepted: IP address mis"):
            await connected(f"https://127.0.0.1:{server.port}", ca_file=str(certificates.ca_file))
    assert server.heads == []


async def test_a_file_without_authorities(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="certificate authorities"):
        await connected("https://localhost:9", ca_file=str(tmp_path / "missing.pem"))


async def test_a_server_that_speaks_no_tls() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        address = UpstreamAddress(port=port, tls=TlsSettings.verified(server_name="localhost"))
        with pytest.raises(UpstreamError, match="no TLS connection to localhost: wrong version number"):
            await exchange(address, "GET", "/health")


async def test_a_plain_endpoint_below_a_path() -> None:
    server = ModelServer({"/team/health": 200, "/team/v1/models": 200})
    async with running(server):
        found = await connected(f"http://localhost:{server.port}/team/v1/", key=KEY)
        assert (await exchange(found.address, "GET", "/v1/models")).status == 200
    assert KEY not in repr(found.address)
    assert KEY not in json.dumps(dict(found.place))


@pytest.mark.parametrize(
    ("statuses", "key", "because"),
    [
        ({"/health": 200, "/v1/models": 403}, "", "asks for a key"),
        ({"/health": 401}, KEY, "refuses the artifact's endpoint key"),
        ({"/health": 404}, KEY, "no OpenAI-compatible server"),
        ({"/health": 307, "/v1/models": 200}, KEY, "redirects are not followed"),
        ({"/health": 503}, KEY, "not ready"),
        ({"/health": 418}, KEY, "not what an OpenAI-compatible server says"),
    ],
)
async def test_an_endpoint_that_cannot_be_used_says_why(
    statuses: Mapping[str, int], key: str, because: str
) -> None:
    server = ModelServer(statuses)
    async with running(server):
        with pytest.raises(StartFailed, match=because) as refusal:
            await connected(f"http://localhost:{server.port}", key=key)
    assert KEY not in refusal.value.message
    assert not any("elsewhere" in head for head in server.heads)


async def test_a_server_without_a_health_check_lists_its_models() -> None:
    server = ModelServer({"/v1/models": 200}, wanted_key=KEY)
    async with running(server):
        await connected(f"http://localhost:{server.port}", key=KEY)
        url = f"http://localhost:{server.port}/v1"
        with pytest.raises(StartFailed, match=f"GET {url}/models answers 401: .* refuses"):
            await connected(url, key="another")


async def test_nobody_listens_and_a_key_that_no_header_takes() -> None:
    server = ModelServer(HEALTHY)
    async with running(server):
        pass
    with pytest.raises(ServingError, match="cannot be reached"):
        await connected(f"http://localhost:{server.port}")
    with pytest.raises(InvalidRequest, match="printable") as refusal:
        await connected(f"http://localhost:{server.port}", key=f"{KEY}\r\nX-Other: 1")
    assert KEY not in refusal.value.message


async def test_an_endpoint_that_has_gone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "_WATCH_SECONDS", 0.01)
    server = ModelServer(HEALTHY)
    async with running(server):
        found = await connected(f"http://localhost:{server.port}")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await found.wait_dead()
    async with asyncio.timeout(10):
        assert "cannot be reached" in await found.wait_dead()
    await found.stop()

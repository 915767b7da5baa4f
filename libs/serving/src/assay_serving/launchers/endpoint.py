"""An engine that somebody else runs, reached by its URL. Nothing is started or stopped."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from assay_serving.errors import InvalidRequest, StartFailed
from assay_serving.launchers.server import RunningServer
from assay_serving.tls import TlsSettings
from assay_serving.types import InstanceLog
from assay_serving.upstream import UpstreamAddress, UpstreamError, UpstreamReply, exchange

_CHECK_SECONDS = 20.0
_WATCH_SECONDS = 5.0
_CHECKS_UNTIL_DEAD = 3
_MODELS_PATH = "/v1/models"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A checked endpoint: connect to `ip_address`, which the check has seen, and send `host` as the name."""

    scheme: str
    host: str
    ip_address: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Name and port as they stand in the URL; the port only where it is not the scheme's own."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _PORTS[self.scheme] else f"{name}:{self.port}"


async def resolve_endpoint(url: str, *, allowed_hosts: Collection[str]) -> Endpoint:
    """Check the URL of an engine that somebody else runs.

    The host must be in `allowed_hosts`, and no address that it resolves to may be link-local (where clouds
    keep their metadata services), multicast or unspecified. The address comes back with it so that a second,
    different resolution cannot slip in.

    Raises:
        InvalidRequest: the URL is not allowed; the message says which rule it breaks.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise InvalidRequest(f"endpoint: {error}") from None
    host = (parts.hostname or "").lower()
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidRequest(
            "endpoint: the URL may have no credentials, query or fragment; pass a key instead"
        )
    if not port or not host:
        raise InvalidRequest(f"endpoint {url!r}: must be http://host[:port] or https://host[:port]")
    if host not in allowed_hosts:
        raise InvalidRequest(f"endpoint host {host!r} is not on this adapter's allow-list; ask its operator")
    return Endpoint(
        scheme=parts.scheme,
        host=host,
        ip_address=await _safe_address(host, port),
        port=port,
        path=parts.path.rstrip("/"),
    )


async def _safe_address(host: str, port: int) -> str:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidRequest(f"endpoint host {host!r} does not resolve: {error}") from None
    addresses = [str(entry[4][0]) for entry in found]
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
            raise InvalidRequest(f"endpoint host {host!r} resolves to {text}, which is never a model server")
    return addresses[0]


class EndpointServer(RunningServer):
    """A server that somebody else runs; see `connect_endpoint`."""

    def __init__(self, endpoint: Endpoint, address: UpstreamAddress, *, key: str, health_path: str) -> None:
        self._endpoint = endpoint
        self._address = address
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._health_path = health_path

    @property
    def address(self) -> UpstreamAddress:
        """See RunningServer."""
        return self._address

    @property
    def headers(self) -> Mapping[str, str]:
        """See RunningServer: the key, as ``Authorization``."""
        return self._headers

    @property
    def process_id(self) -> int:
        """See RunningServer: always 0."""
        return 0

    @property
    def place(self) -> Mapping[str, str]:
        """See RunningServer: ``url`` (without a key) and the ``ip_address`` that it led to."""
        endpoint = self._endpoint
        url = f"{endpoint.scheme}://{endpoint.authority}{endpoint.path}"
        return {"url": url, "host": endpoint.host, "ip_address": endpoint.ip_address}

    async def check(self) -> None:
        """Ask for the server's health and, with the key, for its models.

        A server without a health check passes if it lists its models.

        Raises:
            StartFailed: it does not answer, or not as a model server that takes the key would.
        """
        health = await self._get(self._health_path)
        if health.status != 404:
            self._check_status(health, self._health_path)
        self._check_status(await self._get(_MODELS_PATH), _MODELS_PATH)

    async def renew(self, lease: float) -> None:
        """See RunningServer: nothing of theirs depends on our lease."""

    async def wait_dead(self) -> str:
        """See RunningServer: three health checks in a row, five seconds apart, that find nobody."""
        missed = 0
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                reply = await self._get(self._health_path)
            except StartFailed as error:
                reason = error.message
            else:
                if reply.status < 500:
                    missed = 0
                    continue
                reason = f"endpoint {self._endpoint.authority} answers {reply.status} on {self._health_path}"
            missed += 1
            if missed == _CHECKS_UNTIL_DEAD:
                return reason

    async def read_log(self, max_bytes: int) -> InstanceLog:
        """See RunningServer: its log is its operator's."""
        return InstanceLog(text="")

    async def stop(self) -> None:
        """See RunningServer: it runs on."""

    async def _get(self, path: str) -> UpstreamReply:
        name = self._endpoint.authority
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                return await exchange(self._address, "GET", path, headers=self._headers)
        except UpstreamError as error:
            raise StartFailed(f"endpoint {name} cannot be reached: {error}", retryable=True) from error
        except TimeoutError:
            message = f"endpoint {name} gave no answer to GET {path} within {_CHECK_SECONDS:g} s"
            raise StartFailed(message, retryable=True) from None

    def _check_status(self, reply: UpstreamReply, path: str) -> None:
        if reply.status == 200:
            return
        url = f"{self._endpoint.scheme}://{self._endpoint.authority}{self._address.path_prefix}{path}"
        raise StartFailed(f"GET {url} answers {reply.status}: {self._meaning_of(reply.status)}")

    def _meaning_of(self, status: int) -> str:
        match status:
            case 401 | 403 if self._headers:
                return "the endpoint refuses the artifact's endpoint key; replace the key"
            case 401 | 403:
                return "the endpoint asks for a key; set the artifact's endpoint key"
            case 404:
                return "no OpenAI-compatible server there; give the URL that its /v1 is below"
            case status if 300 <= status < 400:
                return "redirects are not followed; register the URL that it leads to"
            case status if status >= 500:
                return "the endpoint is not ready, or its model server has failed; ask its operator"
            case _:
                return "not what an OpenAI-compatible server says"


async def connect_endpoint(
    url: str, *, key: str, allowed_hosts: Collection[str], health_path: str, ca_file: str = ""
) -> EndpointServer:
    """Find a model server that somebody else runs, and check that it can be used.

    Args:
        url: ``http://`` or ``https://``, host, port and path; a last ``/v1`` may be there or not.
        key: sent as a bearer token, to this server only; empty for a server that wants none.
        allowed_hosts: host names that this adapter may talk to.
        health_path: answers 200 where the server can work.
        ca_file: authorities (PEM) that its certificate may come from; the system's where empty.

    Returns:
        The server. Its requests go to the one address that the host's name led to now.

    Raises:
        InvalidRequest: the URL or key is not allowed; see `resolve_endpoint`.
        StartFailed: the server cannot be used; the message says why and what to do.
    """
    endpoint = await resolve_endpoint(url, allowed_hosts=allowed_hosts)
    if not key.isascii() or not key.isprintable():
        raise InvalidRequest("endpoint_key: only printable ASCII characters can be sent in a header")
    address = UpstreamAddress(
        host=endpoint.ip_address,
        port=endpoint.port,
        authority=endpoint.authority,
        path_prefix=endpoint.path.removesuffix("/v1"),
        tls=_tls_settings(endpoint, ca_file=ca_file),
    )
    server = EndpointServer(endpoint, address, key=key, health_path=health_path)
    await server.check()
    return server


def _tls_settings(endpoint: Endpoint, *, ca_file: str) -> TlsSettings | None:
    if endpoint.scheme != "https":
        return None
    try:
        return TlsSettings.verified(server_name=endpoint.host, ca_file=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise StartFailed(f"the adapter's file of certificate authorities {ca_file!r}: {error}") from error

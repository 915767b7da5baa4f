"""An engine that somebody else runs, reached by its URL."""

import asyncio
import ipaddress
import socket
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from assay_serving.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A checked endpoint: connect to `ip_address`, which the check has seen, and send `host` as the name."""

    scheme: str
    host: str
    ip_address: str
    port: int
    path: str


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
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError as error:
        raise InvalidRequest(f"endpoint {url!r}: {error}") from None
    host = (parts.hostname or "").lower()
    if not port or not host:
        raise InvalidRequest(f"endpoint {url!r}: must be http://host[:port] or https://host[:port]")
    if parts.username or parts.password:
        raise InvalidRequest("endpoint: credentials do not belong into the URL; pass a key instead")
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

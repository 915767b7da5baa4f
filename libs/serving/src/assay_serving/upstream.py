"""A small HTTP/1.1 client whose purpose is to know when bytes arrived.

`http_connection` says how the times are taken, `shared_reads` how many streams share one wake-up.
"""

from collections.abc import Mapping

from assay_serving.http_connection import (
    Connection,
    OnEvent,
    ServerEvent,
    UpstreamAddress,
    UpstreamReply,
)
from assay_serving.http_parser import ResponseParser, UpstreamError
from assay_serving.ready_sockets import READ_BYTES
from assay_serving.shared_reads import SharedReads

__all__ = [
    "ResponseParser",
    "ServerEvent",
    "Upstream",
    "UpstreamAddress",
    "UpstreamError",
    "UpstreamReply",
    "exchange",
]


class Upstream:
    """One engine, reached over as many connections as requests are in flight at once.

    With `keep_alive` a connection serves one request after the other, which saves a handshake for each; use
    it where the engine does not drop idle connections at a bad moment. Without it every request has a
    connection of its own. A request that meets a kept connection which the engine has closed meanwhile is
    sent again over a new one. Used from one event loop. `shared_reads` says how sockets are read.
    """

    def __init__(
        self, address: UpstreamAddress, *, keep_alive: bool, shared_reads: SharedReads | None = None
    ) -> None:
        self._address = address
        self._keep_alive = keep_alive
        self._idle: list[Connection] = []
        # One for all connections: it stays in the processor's cache.
        self._buffer = bytearray(READ_BYTES)
        self._shared_reads = shared_reads or SharedReads()
        self._heads: dict[tuple[str, str], bytes] = {}

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        on_event: OnEvent | None = None,
    ) -> UpstreamReply:
        """Send one request and wait for the whole answer.

        `on_event` is called in order for each server-sent event: at once for the first, up to 8 together for
        those after it; it must be quick.
        An exception in it ends the exchange and is raised here. Cancelling closes the connection, by which
        an engine learns that nobody waits any more. The headers of a method and path are those that they
        were first used with.

        Raises:
            UpstreamError: no connection, or a cut-off or malformed answer.
        """
        request = b"%b%d\r\n\r\n%b" % (self._head(method, path, headers), len(body), body)
        while self._idle:
            connection = self._idle.pop()
            try:
                return await self._over(connection, request, on_event)
            except UpstreamError:
                if connection.has_answered:
                    raise
        connection = await Connection.open(self._address, self._buffer, self._shared_reads)
        return await self._over(connection, request, on_event)

    def close(self) -> None:
        """Close the idle connections; those in use close with their requests."""
        self._keep_alive = False
        while self._idle:
            self._idle.pop().close()

    async def _over(self, connection: Connection, request: bytes, on_event: OnEvent | None) -> UpstreamReply:
        try:
            reply = await connection.run(request, on_event)
        except BaseException:
            connection.close()
            raise
        if self._keep_alive and connection.may_be_kept:
            connection.rest(self._idle)
        else:
            connection.close()
        return reply

    def _head(self, method: str, path: str, headers: Mapping[str, str] | None) -> bytes:
        head = self._heads.get((method, path))
        if head is None:
            connection = "keep-alive" if self._keep_alive else "close"
            host = self._address.authority or self._address.host
            target = self._address.path_prefix + path
            lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", f"Connection: {connection}"]
            lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
            head = ("\r\n".join(lines) + "\r\nContent-Length: ").encode("latin-1")
            self._heads[method, path] = head
        return head


async def exchange(
    address: UpstreamAddress,
    method: str,
    path: str,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    on_event: OnEvent | None = None,
) -> UpstreamReply:
    """Send one request over a connection of its own; see `Upstream.exchange`."""
    upstream = Upstream(address, keep_alive=False)
    return await upstream.exchange(method, path, body=body, headers=headers, on_event=on_event)

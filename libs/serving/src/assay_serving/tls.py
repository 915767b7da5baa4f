"""TLS of a connection whose bytes somebody else reads, so that the moment of each read stays known.

The library's own sockets hide when the encrypted bytes came. Here the caller reads them by itself, with the
kernel's stamp, and has them decrypted afterwards.
"""

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import Self

from assay_serving.http_parser import UpstreamError

_READ_BYTES = 65536
_HANDSHAKE_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """How to speak TLS to a server, whose certificate must be for `server_name` and trusted by `context`."""

    server_name: str
    context: ssl.SSLContext

    @classmethod
    def verified(cls, *, server_name: str, ca_file: str = "") -> Self:
        """Settings that trust the authorities in `ca_file` (PEM), or the system's where it is empty.

        Raises:
            OSError: the file cannot be read.
            ssl.SSLError: there is no certificate in it.
        """
        context = ssl.create_default_context(cafile=ca_file or None)
        context.set_alpn_protocols(["http/1.1"])
        return cls(server_name=server_name, context=context)


class TlsChannel:
    """One TLS connection between bytes that come and bytes that go."""

    def __init__(self, settings: TlsSettings) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._server_name = settings.server_name
        self._object = settings.context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=settings.server_name
        )
        self.is_closed = False
        """Whether the server has said that nothing more comes."""

    async def handshake(self, sock: socket.socket) -> None:
        """Agree on keys over a connected, non-blocking socket, and check the server's certificate.

        Raises:
            UpstreamError: the certificate is not trusted or for another name, or the server speaks no TLS.
            OSError: the connection broke.
        """
        try:
            async with asyncio.timeout(_HANDSHAKE_SECONDS):
                await self._handshake(sock)
        except ssl.SSLCertVerificationError as error:
            raise UpstreamError(
                f"the certificate of {self._server_name} is not accepted: {error.verify_message}"
            ) from error
        except ssl.SSLError as error:
            reason = (error.reason or "no TLS spoken there").replace("_", " ").lower()
            raise UpstreamError(f"no TLS connection to {self._server_name}: {reason}") from error
        except TimeoutError:
            raise UpstreamError(
                f"no TLS connection to {self._server_name} within {_HANDSHAKE_SECONDS:g} s"
            ) from None

    async def _handshake(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        is_agreed = False
        while not is_agreed:
            try:
                self._object.do_handshake()
                is_agreed = True
            except ssl.SSLWantReadError:
                pass
            finally:  # where it fails, the server is told why
                if content := self._outgoing.read():
                    await loop.sock_sendall(sock, content)
            if not is_agreed:
                content = await loop.sock_recv(sock, _READ_BYTES)
                if not content:
                    raise UpstreamError(f"{self._server_name} closed the connection instead of speaking TLS")
                self._incoming.write(content)

    def encrypt(self, content: bytes) -> bytes:
        """What to send so that the server reads `content`."""
        self._object.write(content)
        return self._outgoing.read()

    def decrypt(self, received: bytes) -> bytes:
        """What can be read now that `received` has come too; empty where it ends within a record.

        Raises:
            UpstreamError: somebody has changed the bytes on their way.
        """
        self._incoming.write(received)
        parts = []
        try:
            while part := self._object.read(_READ_BYTES):
                parts.append(part)
            self.is_closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.is_closed = True
        except ssl.SSLError as error:
            raise UpstreamError(f"what {self._server_name} sent is no valid TLS: {error.reason}") from error
        return b"".join(parts)

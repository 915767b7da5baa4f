"""A TCP proxy in front of a gateway: it passes on what the gateway says, later, or stands in its way."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

_PIECE = 1 << 16
_HEAD_END = b"\r\n\r\n"
PATIENCE_S = 60.0


@dataclass(slots=True)
class Hold:
    """Requests that wait until they are released; ``waiting`` is set while one does."""

    pattern: re.Pattern[str]
    waiting: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    count: int = 0


class ApiProxy:
    """Passes one request per connection on to ``target``, byte by byte, unless a rule stands in its way.

    Patterns are searched for in ``METHOD /path?query``.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._holds: list[Hold] = []
        self._answers: list[tuple[re.Pattern[str], bytes | None]] = []
        self.target = ("127.0.0.1", 9)

    @property
    def url(self) -> str:
        """Where clients call it."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @contextlib.contextmanager
    def holding(self, pattern: str) -> Iterator[Hold]:
        """Let matching requests wait until they are released, at the latest at the end of the block."""
        hold = Hold(re.compile(pattern))
        self._holds.append(hold)
        try:
            yield hold
        finally:
            self._holds.remove(hold)
            hold.released.set()

    @contextlib.contextmanager
    def answering(self, pattern: str, status: str, body: str = "", *, headers: str = "") -> Iterator[None]:
        """Answer matching requests here, as a gateway does that refuses them; ``headers`` end with CRLF."""
        length = f"Content-Length: {len(body.encode())}\r\nConnection: close\r\n"
        with self._standing(pattern, f"HTTP/1.1 {status}\r\n{headers}{length}\r\n{body}".encode()):
            yield

    @contextlib.contextmanager
    def gone(self, pattern: str = "") -> Iterator[None]:
        """Hang up on matching requests, as a gateway does that has just ended."""
        with self._standing(pattern, None):
            yield

    @contextlib.contextmanager
    def _standing(self, pattern: str, answer: bytes | None) -> Iterator[None]:
        rule = (re.compile(pattern), answer)
        self._answers.append(rule)
        try:
            yield
        finally:
            self._answers.remove(rule)

    def serve(self) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(client,), daemon=True).start()

    def _one(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            received = b""
            while _HEAD_END not in received:
                piece = client.recv(_PIECE)
                if not piece:
                    return
                received += piece
            head, _, rest = received.partition(_HEAD_END)
            request = head.partition(b" HTTP/")[0].decode()
            for hold in [one for one in self._holds if one.pattern.search(request)]:
                hold.count += 1
                hold.waiting.set()
                hold.released.wait(PATIENCE_S)
            for pattern, answer in self._answers:
                if pattern.search(request):
                    if answer is not None:
                        client.sendall(answer)
                    return
            head = re.sub(rb"(?im)^connection:.*\r\n", b"", head + b"\r\n") + b"Connection: close\r\n\r\n"
            with socket.create_connection(self.target) as upstream:
                upstream.sendall(head + rest)
                threading.Thread(target=_pass_on, args=(client, upstream), daemon=True).start()
                _pass_on(upstream, client)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            sink.sendall(piece)


@contextlib.contextmanager
def running_proxy() -> Iterator[ApiProxy]:
    """A proxy on a free port of this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = ApiProxy(listener)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        # Closing alone does not wake up who waits for a connection.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=10)

"""Reads one HTTP/1.1 answer from bytes as they come."""

import re

_MAX_HEAD_BYTES = 65536
_HEAD_END = b"\r\n\r\n"
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_CHUNK_LINE = re.compile(rb"[0-9A-Fa-f]{1,8}\r\n")


class UpstreamError(Exception):
    """The engine could not be reached, or broke off or garbled its answer."""


class ResponseParser:
    """Incremental parser of one answer with length, chunked or until-close framing.

    `feed` returns the `data:` fields of server-sent events that became complete; other bodies collect in
    `body`. A response is `complete` when its framing says so. Informational answers (1xx) are skipped.
    """

    __slots__ = (
        "_is_chunked",
        "_is_last_chunk",
        "_line",
        "_remaining",
        "_rest",
        "body",
        "complete",
        "headers",
        "is_event_stream",
        "status",
    )

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.complete = False
        self.is_event_stream = False
        self._rest = b""  # what has come and cannot be taken yet
        self._line = b""  # the beginning of an event's line
        self._remaining = -1  # bytes left of the body; -1: until close
        self._is_chunked = False
        self._is_last_chunk = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they came; return the completed `data:` fields.

        Raises:
            UpstreamError: what came is no HTTP/1.1 answer.
        """
        if self._rest:
            data, self._rest = self._rest + data, b""
        if not self.status:
            data = self._take_head(data)
            if not self.status:
                return []
        content = self._take_chunks(data) if self._is_chunked else self._take_plain(data)
        if not content:
            return []
        if self.is_event_stream:
            return self._complete_events(content)
        self.body += content
        return []

    @property
    def is_between_events(self) -> bool:
        """Whether a chunk of an event stream comes next, which `lone_event` may take instead of `feed`."""
        is_within = self._rest or self._line or self._is_last_chunk
        return self.is_event_stream and self._is_chunked and not is_within

    def close(self) -> None:
        """The other side has closed: right only where the framing allows it.

        Raises:
            UpstreamError: the answer is cut off.
        """
        until_close = self.status and not self._is_chunked and self._remaining < 0
        if until_close or self._is_last_chunk:
            self.complete = True
        if not self.complete:
            raise UpstreamError("the engine closed the connection before its answer was complete")

    @property
    def may_be_kept(self) -> bool:
        """Whether the connection can carry another request after this answer."""
        has_end = self._is_chunked or self._remaining >= 0
        asked_to_close = "close" in self.headers.get("connection", "").lower()
        return self.complete and has_end and not asked_to_close and not self._rest

    def _take_head(self, data: bytes) -> bytes:
        """Parse the head; return what follows it. Without a whole head `status` stays 0."""
        end = data.find(_HEAD_END)
        if end < 0:
            if len(data) > _MAX_HEAD_BYTES:
                raise UpstreamError("the engine's answer has no end of its head")
            self._rest = data
            return b""
        first, *lines = data[:end].decode("latin-1").split("\r\n")
        parts = first.split(" ", 2)
        if not parts[0].startswith("HTTP/1.") or len(parts) < 2 or not parts[1].isdecimal():
            raise UpstreamError(f"not an HTTP/1.1 answer: {first[:80]!r}")
        rest = data[end + len(_HEAD_END) :]
        if parts[1].startswith("1"):
            return self._take_head(rest)
        self.status = int(parts[1])
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self.is_event_stream = self.headers.get("content-type", "").startswith("text/event-stream")
        self._is_chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        if not self._is_chunked and "content-length" in self.headers:
            self._remaining = int(self.headers["content-length"])
            self.complete = self._remaining == 0
        return rest

    def _take_plain(self, data: bytes) -> bytes:
        if self._remaining < 0:
            return data
        taken, self._rest = data[: self._remaining], data[self._remaining :]
        self._remaining -= len(taken)
        self.complete = self._remaining == 0
        return taken

    def _take_chunks(self, data: bytes) -> bytes:
        """Return the content of the chunks that are whole; the rest waits."""
        pieces: list[bytes] = []
        position = 0
        while not self._is_last_chunk:
            end = data.find(b"\r\n", position)
            if end < 0:
                break
            begin = end + 2
            size = _chunk_size(data[position:end])
            if size == 0:
                self._is_last_chunk, position = True, end  # the end of the line may end the (empty) trailer
            elif len(data) < begin + size + 2:
                break
            else:
                pieces.append(data[begin : begin + size])
                position = begin + size + 2
        self._rest = data[position:]
        if self._is_last_chunk:
            self._take_trailer()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _take_trailer(self) -> None:
        end = self._rest.find(_HEAD_END)
        if end >= 0:
            self._rest = self._rest[end + len(_HEAD_END) :]
            self.complete = True

    def _complete_events(self, content: bytes) -> list[bytes]:
        if self._line:
            content = self._line + content
        *lines, self._line = content.split(b"\n")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


def lone_event(data: bytes) -> bytes | None:
    """The `data:` field of one whole chunk that holds one event of one line, as nearly all tokens come.

    None for anything else, which then belongs to `ResponseParser.feed`. A processor that just woke up for a
    token spends most of its time on finding code and data again: no state to change is what counts.
    """
    begin = data.find(b"\n") + 1
    if not data.startswith(b"data:", begin) or not data.endswith(b"\n\n\r\n"):
        return None
    if data.find(b"\n", begin) != len(data) - 4 or not _CHUNK_LINE.fullmatch(data, 0, begin):
        return None
    return data[begin + 5 : -4].strip() if int(data[: begin - 2], 16) == len(data) - begin - 2 else None


def _chunk_size(line: bytes) -> int:
    """Digits only: Python's own reading of numbers also takes signs, prefixes and underscores."""
    digits = line.split(b";")[0].rstrip(b" \t")
    if not _CHUNK_SIZE.fullmatch(digits):
        raise UpstreamError(f"not a chunk size: {line[:40]!r}")
    return int(digits, 16)

"""A zip file of which every byte follows from its members: nothing in it can be altered unseen.

Members are stored uncompressed in the order of their names, with one fixed date and no extra fields, so that
the same members give the same file everywhere. Reading accepts exactly what writing makes: whatever else a
zip may hold (compression, comments, other paths, bytes before, between or behind) is refused unread.
"""

import hashlib
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

CHUNK_BYTES: Final = 1 << 20
MOST_BYTES: Final = 0xFFFFFFFF - 1
"""Of the whole file: larger ones would need the 64-bit form of zip."""

_LOCAL = struct.Struct("<IHHHHHIIIHH")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")
_LOCAL_SIGNATURE: Final = 0x04034B50
_CENTRAL_SIGNATURE: Final = 0x02014B50
_END_SIGNATURE: Final = 0x06054B50
_VERSION: Final = 20
_MADE_ON_UNIX: Final = 3 << 8 | _VERSION
_REGULAR_FILE: Final = 0o100644 << 16
_MIDNIGHT: Final = 0
_FIRST_OF_JANUARY_1980: Final = 1 << 5 | 1


class BundleError(ValueError):
    """Something that cannot be a bundle, or is none. ``code`` is stable for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Checksums(NamedTuple):
    """Of the content of a member."""

    size: int
    crc32: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Member:
    """A file to be put into the archive; ``content`` is its bytes, or a file that holds them."""

    name: str
    content: bytes | Path

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        with self.content.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk

    def checksums(self) -> Checksums:
        """Size and digests; reads the whole file."""
        return _checksums(self.chunks())


class Entry(NamedTuple):
    """Where a member's content lies in an archive."""

    offset: int
    checksums: Checksums


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that ``read_archive`` found to be as written, except that its content may be another."""

    path: Path
    entries: Mapping[str, Entry]

    def content(self, name: str, *, most: int) -> bytes:
        """The bytes of a member.

        Raises:
            BundleError: it is not there, or larger than ``most``.
        """
        entry = self._entry(name)
        if entry.checksums.size > most:
            raise BundleError(
                "member-too-large", f"{name} has {entry.checksums.size} bytes, at most {most} fit"
            )
        return b"".join(self._chunks(entry))

    def extract(self, name: str, target: Path) -> None:
        """Copy a member's bytes to ``target``.

        Raises:
            BundleError: it is not there.
        """
        entry = self._entry(name)
        with target.open("wb") as stream:
            for chunk in self._chunks(entry):
                stream.write(chunk)

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            raise BundleError("member-missing", f"the bundle has no {name}")
        return self.entries[name]

    def _chunks(self, entry: Entry) -> Iterator[bytes]:
        with self.path.open("rb") as stream:
            stream.seek(entry.offset)
            yield from _limited(stream, entry.checksums.size)


def archive_chunks(members: Sequence[tuple[Member, Checksums]]) -> Iterator[bytes]:
    """The archive of ``members``, whose checksums are known, in pieces.

    Raises:
        BundleError: it would be too large, or a file has changed since its checksums were taken.
    """
    ordered = sorted(members, key=lambda member: member[0].name)
    if sum(checksums.size + 512 for _, checksums in ordered) > MOST_BYTES:
        raise BundleError("too-large", "the bundle would be larger than 4 GiB")
    offsets = []
    position = 0
    for member, checksums in ordered:
        header = _local_header(member.name, checksums)
        offsets.append((member.name, checksums, position))
        yield header
        seen = 0
        for chunk in member.chunks():
            seen = zlib.crc32(chunk, seen)
            yield chunk
        if seen != checksums.crc32:
            raise BundleError("member-changed", f"{member.name} changed while it was written")
        position += len(header) + checksums.size
    yield _directory(offsets, position)


def read_archive(path: Path, *, names: Collection[str]) -> Archive:
    """Read and check the structure of an archive and the checksum of every member.

    Args:
        names: which members may be there.

    Raises:
        BundleError: any byte of the file is not what ``archive_chunks`` makes of the members' content, or the
            file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return Archive(path, _entries(stream, path.stat().st_size, names=names))
    except OSError as error:
        raise BundleError("unreadable", f"{path} cannot be read: {error.strerror or error}") from error


def _entries(stream: BinaryIO, total: int, *, names: Collection[str]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    offsets: list[tuple[str, Checksums, int]] = []
    position, last = 0, ""
    while True:
        start = stream.read(_LOCAL.size)
        if len(start) < 4 or start[:4] != struct.pack("<I", _LOCAL_SIGNATURE):
            break
        name, declared = _read_local(stream, start, names=names)
        if name <= last:
            raise BundleError("not-a-bundle", f"member {name} is there twice, or out of order")
        offset = stream.tell()
        if declared.size > total - offset:
            raise BundleError(
                "truncated", f"{name} says that it has {declared.size} bytes, {total - offset} are left"
            )
        found = _checksums(_limited(stream, declared.size))
        if (found.size, found.crc32) != (declared.size, declared.crc32):
            raise BundleError("member-altered", f"{name} does not have its checksum: the file was altered")
        entries[name] = Entry(offset, found)
        offsets.append((name, found, position))
        position, last = offset + found.size, name
    stream.seek(position)
    directory = _directory(offsets, position)
    if not entries or stream.read(len(directory) + 1) != directory:
        raise BundleError(
            "not-a-bundle",
            "the file is not an evidence bundle as Assay writes it, or its directory was altered",
        )
    return entries


def _read_local(stream: BinaryIO, start: bytes, *, names: Collection[str]) -> tuple[str, Checksums]:
    if len(start) < _LOCAL.size:
        raise BundleError("truncated", "the file ends in the middle of a member's header")
    *_, crc32, size, _, name_length, _ = _LOCAL.unpack(start)
    raw = stream.read(min(name_length, max(map(len, names)) + 1))
    name = raw.decode("ascii", errors="backslashreplace")
    if name not in names:
        raise BundleError(
            "unknown-member", f"the bundle has a member {name[:80]!r}, which does not belong there"
        )
    declared = Checksums(size=size, crc32=crc32, sha256="")
    if start + raw != _local_header(name, declared):
        raise BundleError("header-altered", f"the header of {name} is not as Assay writes it")
    return name, declared


def _local_header(name: str, checksums: Checksums) -> bytes:
    raw = name.encode("ascii")
    return (
        _LOCAL.pack(
            _LOCAL_SIGNATURE,
            _VERSION,
            0,
            0,
            _MIDNIGHT,
            _FIRST_OF_JANUARY_1980,
            checksums.crc32,
            checksums.size,
            checksums.size,
            len(raw),
            0,
        )
        + raw
    )


def _directory(offsets: Sequence[tuple[str, Checksums, int]], position: int) -> bytes:
    """Central directory and end record, for members whose headers start at their offsets."""
    records = []
    for name, checksums, offset in offsets:
        raw = name.encode("ascii")
        records.append(
            _CENTRAL.pack(
                _CENTRAL_SIGNATURE,
                _MADE_ON_UNIX,
                _VERSION,
                0,
                0,
                _MIDNIGHT,
                _FIRST_OF_JANUARY_1980,
                checksums.crc32,
                checksums.size,
                checksums.size,
                len(raw),
                0,
                0,
                0,
                0,
                _REGULAR_FILE,
                offset,
            )
            + raw
        )
    central = b"".join(records)
    count = len(offsets)
    return central + _END.pack(_END_SIGNATURE, 0, 0, count, count, len(central), position, 0)


def _checksums(chunks: Iterator[bytes]) -> Checksums:
    size, crc32, digest = 0, 0, hashlib.sha256()
    for chunk in chunks:
        size += len(chunk)
        crc32 = zlib.crc32(chunk, crc32)
        digest.update(chunk)
    return Checksums(size, crc32, digest.hexdigest())


def _limited(stream: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := stream.read(min(size, CHUNK_BYTES))):
        size -= len(chunk)
        yield chunk

"""Evidence bundles, kept so that every download has the same bytes, in this release and in later ones.

A bundle is a zip whose members are stored as they are. Its tables lie in the file store already, so only the
rest is kept for a decision: the frame, with the places at which the tables belong.
"""

import asyncio
import struct
import tempfile
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from assay_evidence.bundle import BundleContents, BundleError, write_bundle
from metrics_svc.errors import EvidenceTooLarge
from metrics_svc.store.files import EvidenceFiles

_LOCAL_HEADER_BYTES = 30
_NAME_AND_EXTRA = struct.Struct("<HH")
"""Their lengths, the last fields of a zip's local header."""


class Part(NamedTuple):
    """Bytes of a bundle: ``size`` of them from ``start`` on, of the file ``digest``."""

    digest: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class KeptBundle:
    """A bundle in the file store.

    Attributes:
        digest: of the bundle, as ``bundle.digest_of`` defines it.
        size: bytes in all.
        parts: in order.
    """

    digest: str
    size: int
    parts: list[Part]

    def as_document(self) -> dict[str, Any]:
        """As it is stored."""
        return {"digest": self.digest, "size": self.size, "parts": [list(part) for part in self.parts]}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "KeptBundle":
        """Reverse ``as_document``."""
        return cls(
            digest=document["digest"],
            size=document["size"],
            parts=[Part(*part) for part in document["parts"]],
        )


async def keep_bundle(
    files: EvidenceFiles, contents: BundleContents, *, tables: Mapping[str, str]
) -> KeptBundle:
    """Keep a bundle.

    Args:
        files: where its tables lie.
        contents: the bundle.
        tables: sha256 of the tables, by the names that they have in the bundle.

    Raises:
        EvidenceTooLarge: the bundle would not fit into one file.
    """
    with tempfile.TemporaryDirectory(prefix="assay-bundle-", ignore_cleanup_errors=True) as directory:
        bundle, frame = Path(directory, "bundle.zip"), Path(directory, "frame")
        digest = await asyncio.to_thread(_write, bundle, contents)
        spans = await asyncio.to_thread(_spans, bundle, tables)
        await asyncio.to_thread(_write_frame, bundle, frame, spans)
        kept = await files.put(frame)
        parts: list[Part] = []
        in_frame = 0
        for span in spans:
            parts.append(
                Part(kept, in_frame, span.size) if span.table is None else Part(span.table, 0, span.size)
            )
            in_frame += span.size if span.table is None else 0
        return KeptBundle(digest=digest, size=bundle.stat().st_size, parts=parts)


async def bundle_chunks(files: EvidenceFiles, parts: Sequence[Part]) -> AsyncIterator[bytes]:
    """The bytes of a bundle, in pieces."""
    for part in parts:
        position, end = 0, part.start + part.size
        async for chunk in files.chunks(part.digest):
            if wanted := chunk[max(0, part.start - position) : max(0, end - position)]:
                yield wanted
            position += len(chunk)
            if position >= end:
                break


class _Span(NamedTuple):
    """Bytes of a bundle that are a table's, or of the frame."""

    start: int
    size: int
    table: str | None


def _write(path: Path, contents: BundleContents) -> str:
    try:
        with path.open("wb") as stream:
            return write_bundle(stream, contents)
    except BundleError as error:
        raise EvidenceTooLarge(f"the evidence cannot be bundled, so nothing is decided: {error}") from error


def _spans(bundle: Path, tables: Mapping[str, str]) -> list[_Span]:
    """The whole bundle, in order."""
    spans: list[_Span] = []
    position = 0
    with zipfile.ZipFile(bundle) as archive, bundle.open("rb") as stream:
        members = sorted(archive.infolist(), key=lambda member: member.header_offset)
        for member in members:
            if member.filename not in tables:
                continue
            assert member.compress_type == zipfile.ZIP_STORED, "a table in a bundle is as it is in the store"
            stream.seek(member.header_offset)
            name_length, extra_length = _NAME_AND_EXTRA.unpack(stream.read(_LOCAL_HEADER_BYTES)[26:])
            start = member.header_offset + _LOCAL_HEADER_BYTES + name_length + extra_length
            spans.append(_Span(position, start - position, None))
            spans.append(_Span(start, member.file_size, tables[member.filename]))
            position = start + member.file_size
    spans.append(_Span(position, bundle.stat().st_size - position, None))
    return spans


def _write_frame(bundle: Path, frame: Path, spans: Sequence[_Span]) -> None:
    with bundle.open("rb") as source, frame.open("wb") as target:
        for span in spans:
            if span.table is None:
                source.seek(span.start)
                target.write(source.read(span.size))

"""Uploads that were compressed: which they are, and reading them within bounds."""

from enum import StrEnum
from typing import BinaryIO, cast

import pyarrow as pa

from assay_chassis.errors import Fault, InvalidRequest
from dataset_svc.blocks import Readable
from dataset_svc.errors import BrokenArchive, ImplausibleArchive, UploadTooLarge

_HIGHEST_RATIO = 500
_PLAUSIBLE_BYTES = 64 << 20


class Compression(StrEnum):
    """How a file was sent."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


_BY_ENCODING = {
    "": Compression.NONE,
    "identity": Compression.NONE,
    "gzip": Compression.GZIP,
    "x-gzip": Compression.GZIP,
    "zstd": Compression.ZSTD,
}
_BY_SUFFIX = {".gz": Compression.GZIP, ".gzip": Compression.GZIP, ".zst": Compression.ZSTD}


def compression_of(*, content_encoding: str, filename: str) -> Compression:
    """How an upload is compressed: by its ``Content-Encoding``, else by the end of its file name.

    Raises:
        InvalidRequest: the encoding is none that is known, or the name tells of another one.
    """
    by_encoding = _BY_ENCODING.get(content_encoding.strip().lower())
    if by_encoding is None:
        message = f"the content encoding {content_encoding!r} is not known; send gzip, zstd or no compression"
        raise InvalidRequest(message, faults=[Fault(message=message, field="content-encoding")])
    endings = (kind for suffix, kind in _BY_SUFFIX.items() if filename.lower().endswith(suffix))
    by_name = next(endings, Compression.NONE)
    if Compression.NONE not in (by_encoding, by_name) and by_encoding != by_name:
        message = f"the content encoding says {by_encoding}, the file name {by_name}; compress the file once"
        raise InvalidRequest(message, faults=[Fault(message=message, field="content-encoding")])
    return by_name if by_encoding is Compression.NONE else by_encoding


class Content:
    """The decompressed bytes of an upload, read in pieces and never more than the limit.

    Memory is bounded by the pieces, and by the window that a zstd file asks for, 128 MiB at the most.

    Args:
        file: as it was sent, at its start.
        compression: how it was sent.
        sent_bytes: its size.
        limit: most bytes of content.
    """

    def __init__(self, file: BinaryIO, compression: Compression, *, sent_bytes: int, limit: int) -> None:
        self._compression = compression
        self._sent_bytes = sent_bytes
        self._limit = limit
        self._size = 0
        self._stream: Readable = (
            cast(Readable, file)
            if compression is Compression.NONE
            else pa.CompressedInputStream(pa.PythonFile(file, mode="r"), compression.value)
        )

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer from its start; the number of bytes, 0 at the end.

        Raises:
            BrokenArchive: the file is not what it should be, damaged, or ends early.
            UploadTooLarge: there is more than the limit.
            ImplausibleArchive: there is far more than text can be compressed to.
            OSError: the file cannot be read.
        """
        try:
            count = self._stream.readinto(buffer)
        except OSError as error:
            if error.errno is not None:
                raise
            raise BrokenArchive(self._compression, reason=str(error)) from None
        self._size += count
        if self._size > self._limit:
            raise UploadTooLarge(limit=self._limit)
        if self._size > max(_PLAUSIBLE_BYTES, _HIGHEST_RATIO * self._sent_bytes):
            raise ImplausibleArchive(sent=self._sent_bytes, content=self._size, ratio=_HIGHEST_RATIO)
        return count

"""From an uploaded JSON Lines file to the canonical Parquet file, in one pass and constant memory."""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from assay_chassis.errors import Fault
from dataset_svc.blocks import Block, Readable, read_blocks
from dataset_svc.columnar import parse_columns
from dataset_svc.columns import ColumnSummaries
from dataset_svc.domain.snapshots import SnapshotContent, Source
from dataset_svc.errors import InvalidUpload
from dataset_svc.growing import GrowingFile
from dataset_svc.jsonl import FaultyLine, Limits, Row, read_lines
from dataset_svc.schema import SchemaInference, TooManyColumns

_BLOCK_BYTES = 4 << 20
_PIECE_BYTES = 256 << 10


def ingest(
    upload: Readable,
    target: BinaryIO,
    *,
    limits: Limits,
    split: str,
    source: Source,
    scratch: Path | None = None,
    exact_only: bool = False,
) -> SnapshotContent:
    """Check the upload and write its rows. Call it in a thread: 1 GB takes seconds.

    A block of some MiB is parsed in C++ (``columnar``). Where there is doubt, its pieces are, and a piece
    with doubt goes through the exact parser (``jsonl``), which is the only judge of errors. The result does
    not depend on which way a row went.

    Args:
        upload: the JSON Lines file, at its start; decompressed.
        target: empty file, open for reading and writing.
        limits: bounds of the upload.
        split: the split that the rows are.
        source: where the upload came from.
        scratch: directory for files in between; the system's if not given.
        exact_only: leave the fast way out. For comparisons.

    Raises:
        InvalidUpload: with up to ``limits.faults`` faults, in the order of the lines.
        OSError: a file cannot be read or written.
    """
    with GrowingFile(target, scratch=scratch or Path(tempfile.gettempdir())) as file:
        reading = _Reading(file, limits, exact_only=exact_only)
        for block in read_blocks(upload, limits, size=_BLOCK_BYTES):
            reading.take(block)
        schema = reading.schema()
        facts = file.finish(schema)
    return SnapshotContent(
        digest=facts.digest,
        rows=reading.rows,
        bytes=facts.bytes,
        columns=reading.summaries.columns(schema, rows=reading.rows),
        split=split,
        source=source,
    )


class _Reading:
    """Takes blocks in order. After the first fault nothing is written any more, faults are still found."""

    def __init__(self, file: GrowingFile, limits: Limits, *, exact_only: bool) -> None:
        self._file = file
        self._limits = limits
        self._exact_only = exact_only
        self._inference = SchemaInference(limits)
        self._faults: list[Fault] = []
        self._writes = True
        self.summaries = ColumnSummaries()

    @property
    def rows(self) -> int:
        """Rows so far."""
        return self._inference.rows

    def take(self, block: Block) -> None:
        """Take a block; raises InvalidUpload when there is no use in reading on."""
        if self._take_columns(block):
            return
        for piece in block.pieces(_PIECE_BYTES):
            if not self._take_columns(piece):
                self._take_lines(piece)

    def _take_columns(self, block: Block) -> bool:
        if self._exact_only:
            return False
        batches = parse_columns(block.data, self._inference.types_seen(), self._limits)
        if batches is None or not self._inference.observe_batches(batches):
            return False
        for batch in batches:
            self._write(batch)
        return True

    def _take_lines(self, block: Block) -> None:
        rows = list(self._rows(block))
        self._writes = self._writes and not self._faults and self._inference.is_possible()
        if not self._writes or not rows:
            return
        schema = self._inference.types_seen()
        if schema.names:
            self._write(pa.RecordBatch.from_pylist(rows, schema=schema))
        else:
            self._file.add_blank(len(rows))

    def _rows(self, block: Block) -> Iterator[Row]:
        for line in read_lines(io.BytesIO(bytes(block.data)), self._limits, first_line=block.first_line):
            try:
                if isinstance(line.content, FaultyLine):
                    raise line.content
                self._inference.observe(line.content, line=line.number)
            except FaultyLine as fault:
                self._faults.append(fault.at(line.number))
                if len(self._faults) == self._limits.faults or isinstance(fault, TooManyColumns):
                    raise InvalidUpload(self._faults, complete=False) from None
            else:
                yield line.content

    def _write(self, batch: pa.RecordBatch) -> None:
        if self._writes:
            self.summaries.observe(batch)
            self._file.add(batch, self._inference.schema())

    def schema(self) -> pa.Schema:
        """The schema of all rows.

        Raises:
            InvalidUpload: there were faults, or nothing that a dataset can be made of.
        """
        faults = sorted([*self._faults, *self._inference.faults()], key=lambda fault: fault.line or 0)
        if faults:
            complete = len(faults) <= self._limits.faults
            raise InvalidUpload(faults[: self._limits.faults], complete=complete)
        if self.rows == 0:
            message = "the file has no rows; write one complete JSON object on each line"
            raise InvalidUpload([Fault(message=message, line=1)])
        schema = self._inference.schema()
        if not schema.names:
            message = "no row has a column; the objects are all empty"
            raise InvalidUpload([Fault(message=message, line=1)])
        return schema

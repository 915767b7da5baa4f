"""Writing rows whose types are known for certain only at the end."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import pyarrow as pa

from dataset_svc.parquet import CanonicalWriter, FileFacts, read_batches

_DECIDE_BYTES = 8 << 20
_BLANK_ROWS = 65_536


class GrowingFile:
    """Writes a canonical file on the guess that the types of its first rows are those of all.

    Usually they are. Where they grow later, the rows from there on go to a second file in the types of the
    moment, and at the end all are written anew. Use it as a context manager; memory is bounded.

    Args:
        target: empty, open for reading and writing.
        scratch: directory for files in between; they have no name.
    """

    def __init__(self, target: BinaryIO, *, scratch: Path) -> None:
        self._target = target
        self._scratch = scratch
        self._blank_rows = 0
        self._first: list[pa.RecordBatch] = []
        self._guess: CanonicalWriter | None = None
        self._guessed = ExitStack()
        self._files = ExitStack()
        self._spool: BinaryIO | None = None
        self._spooled: list[int] = []

    def __enter__(self) -> "GrowingFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._files:
            self._guessed.__exit__(kind, error, traceback)

    def add_blank(self, rows: int) -> None:
        """Add rows without any column; only before the first batch."""
        self._blank_rows += rows

    def add(self, batch: pa.RecordBatch, schema: pa.Schema) -> None:
        """Add rows.

        Args:
            batch: rows with the columns seen so far; ``null`` is the type of those without a value.
            schema: the schema if no rows followed.

        Raises:
            OSError: a file cannot be written.
        """
        if self._spool is not None:
            self._to_spool(batch)
        elif self._guess is None:
            self._first.append(batch)
            if sum(each.nbytes for each in self._first) >= _DECIDE_BYTES:
                self._begin(schema)
        elif self._guess.schema == schema:
            self._guess.write(batch)
        else:
            self._guessed.close()
            self._to_spool(batch)

    def finish(self, schema: pa.Schema) -> FileFacts:
        """Make the target the canonical file; ``schema`` is that of all rows.

        Raises:
            OSError: a file cannot be written.
        """
        if self._guess is None and self._spool is None:
            self._begin(schema)
        if self._guess is not None and self._spool is None and self._guess.schema == schema:
            self._guessed.close()
            return self._guess.written()
        self._guessed.close()
        with tempfile.TemporaryFile(dir=self._scratch) as whole:
            with CanonicalWriter(whole, schema) as writer:
                for batch in self._all():
                    writer.write(batch)
            self._target.seek(0)
            self._target.truncate()
            whole.seek(0)
            shutil.copyfileobj(whole, self._target, 1 << 20)
            self._target.flush()
        return writer.written()

    def _begin(self, schema: pa.Schema) -> None:
        first, self._first = self._first, []
        if not all(_can_be_written(field.type) for field in schema):
            for batch in self._blank(schema, first):
                self._to_spool(batch)
            return
        self._guess = self._guessed.enter_context(CanonicalWriter(self._target, schema))
        for batch in self._blank(schema, first):
            self._guess.write(batch)

    def _blank(self, schema: pa.Schema, first: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for start in range(0, self._blank_rows, _BLANK_ROWS):
            rows = min(_BLANK_ROWS, self._blank_rows - start)
            yield pa.RecordBatch.from_arrays([pa.nulls(rows)], names=schema.names[:1])
        yield from first

    def _to_spool(self, batch: pa.RecordBatch) -> None:
        if self._spool is None:
            spool = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115 - closed with the stack
            self._spool = self._files.enter_context(spool)
        with pa.ipc.new_stream(pa.PythonFile(self._spool, mode="w"), batch.schema) as stream:
            stream.write_batch(batch)
        self._spooled.append(self._spool.tell())

    def _all(self) -> Iterator[pa.RecordBatch]:
        if self._guess is not None:
            self._target.seek(0)
            yield from read_batches(self._target, rows=8192)
        if self._spool is not None:
            self._spool.seek(0)
            start = 0
            for end in self._spooled:
                with pa.ipc.open_stream(pa.py_buffer(self._spool.read(end - start))) as stream:
                    yield from stream
                start = end


def _can_be_written(kind: pa.DataType) -> bool:
    """Whether Parquet has the type: an object without fields is none yet."""
    if pa.types.is_list(kind):
        return _can_be_written(kind.value_type)
    if pa.types.is_struct(kind):
        return kind.num_fields > 0 and all(_can_be_written(field.type) for field in kind)
    return True

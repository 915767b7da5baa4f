"""From an uploaded JSON Lines file to the canonical Parquet file: two passes, constant memory."""

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

from assay_chassis.errors import Fault
from dataset_svc.domain.snapshots import SnapshotContent, Source
from dataset_svc.errors import InvalidUpload
from dataset_svc.jsonl import FaultyLine, Limits, Row, read_lines
from dataset_svc.parquet import write_rows
from dataset_svc.schema import SchemaInference, TooManyColumns

_READ_BYTES = 1 << 20


def ingest(
    upload: BinaryIO, target: BinaryIO, *, limits: Limits, split: str, source: Source
) -> SnapshotContent:
    """Check the upload and write its rows. Takes some 10 s per 100 MB; call it in a thread.

    Args:
        upload: the JSON Lines file, open for reading.
        target: empty file, open for reading and writing.
        limits: bounds of the upload.
        split: the split that the rows are.
        source: where the upload came from.

    Raises:
        InvalidUpload: with up to ``limits.faults`` faults, in the order of the lines.
    """
    inference = _infer(upload, limits)
    write_rows(_rows(upload, limits), inference.schema(), target)
    size = target.tell()
    target.seek(0)
    digest = hashlib.sha256()
    while chunk := target.read(_READ_BYTES):
        digest.update(chunk)
    return SnapshotContent(
        digest=digest.hexdigest(),
        rows=inference.rows,
        bytes=size,
        columns=inference.columns(),
        split=split,
        source=source,
    )


def _infer(upload: BinaryIO, limits: Limits) -> SchemaInference:
    inference = SchemaInference(limits)
    faults: list[Fault] = []
    for line in read_lines(upload, limits):
        try:
            if isinstance(line.content, FaultyLine):
                raise line.content
            inference.observe(line.content, line=line.number)
        except FaultyLine as fault:
            faults.append(fault.at(line.number))
            if len(faults) == limits.faults or isinstance(fault, TooManyColumns):
                raise InvalidUpload(faults, complete=False) from None
    faults = sorted([*faults, *inference.faults()], key=lambda fault: fault.line or 0)
    if faults:
        raise InvalidUpload(faults[: limits.faults], complete=len(faults) <= limits.faults)
    if inference.rows == 0:
        raise InvalidUpload(
            [Fault(message="the file has no rows; write one complete JSON object on each line", line=1)]
        )
    if not inference.schema().names:
        raise InvalidUpload([Fault(message="no row has a column; the objects are all empty", line=1)])
    return inference


def _rows(upload: BinaryIO, limits: Limits) -> Iterator[Row]:
    for line in read_lines(upload, limits):
        assert not isinstance(line.content, FaultyLine)
        yield line.content

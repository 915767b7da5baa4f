"""What dataset-svc refuses."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from assay_chassis.errors import Conflict, Fault, InvalidRequest, NotFound, ServiceError, TooLarge

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DatasetNotFound(NotFound):
    """There is no dataset of that id."""

    def __init__(self, dataset_id: str) -> None:
        super().__init__(f"there is no dataset {dataset_id!r}; GET /v1/datasets lists those that there are")


class SnapshotNotFound(NotFound):
    """There is no snapshot of that id."""

    def __init__(self, snapshot_id: str) -> None:
        super().__init__(
            f"there is no snapshot {snapshot_id!r}; GET /v1/datasets/{{id}}/snapshots lists a dataset's"
        )


class NameTaken(Conflict):
    """A dataset of that name and version exists."""

    slug = "name-taken"
    title = "The name is taken"

    def __init__(self, *, name: str, version: str, dataset_id: str) -> None:
        message = f"dataset {name!r} has a version {version!r} already: {dataset_id}"
        super().__init__(
            f"{message}; add data to that one or choose another name or version",
            faults=[Fault(message=message, field="name")],
        )


class BeingDeleted(Conflict):
    """Somebody is deleting it at this moment."""

    slug = "being-deleted"
    title = "It is being deleted"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is being deleted; ask again in a moment, it may stay if a run refers to it")


class CurrentSnapshot(Conflict):
    """The snapshot is its dataset's data, or is about to be."""

    slug = "current-snapshot"
    title = "The snapshot is current"

    def __init__(self, snapshot_id: str, *, dataset_id: str) -> None:
        super().__init__(
            f"snapshot {snapshot_id!r} is the data of dataset {dataset_id!r}, or about to be; replace "
            "the data first, or delete the dataset"
        )


class CompanionSnapshot(Conflict):
    """Another snapshot takes its few-shot examples from this one."""

    slug = "companion-snapshot"
    title = "Another snapshot needs it"

    def __init__(self, snapshot_id: str, *, needed_by: str) -> None:
        super().__init__(
            f"snapshot {snapshot_id!r} holds the few-shot examples of {needed_by!r}; delete that one first"
        )


class IngestNotFound(NotFound):
    """There is no ingest job of that id."""

    def __init__(self, ingest_id: str) -> None:
        super().__init__(
            f"there is no import {ingest_id!r}; GET /v1/datasets/{{id}}/ingests lists a dataset's"
        )


class IngestUnderWay(Conflict):
    """The dataset has a job that is not over."""

    slug = "ingest-under-way"
    title = "An import is under way"

    def __init__(self, ingest_id: str, *, dataset_id: str) -> None:
        super().__init__(
            f"import {ingest_id!r} of dataset {dataset_id!r} is under way; wait for its end or cancel it"
        )


class IngestOver(Conflict):
    """The job has ended."""

    slug = "ingest-over"
    title = "The import is over"

    def __init__(self, ingest_id: str, *, state: str) -> None:
        super().__init__(f"import {ingest_id!r} is over: {state}")


class UsedByRuns(Conflict):
    """Runs refer to what should be deleted; their results could not be understood without it."""

    slug = "used-by-runs"
    title = "Runs refer to it"

    def __init__(self, what: str, *, runs: Sequence[tuple[str, str]]) -> None:
        names = ", ".join(f"{run_id} ({name})" if name else run_id for run_id, name in runs)
        super().__init__(
            f"{what} stays: runs refer to it: {names}",
            faults=[Fault(message=f"run {run_id} refers to it", field="run") for run_id, _ in runs],
        )


class InvalidUpload(InvalidRequest):
    """The uploaded file is not JSON Lines that a dataset can be made of. Nothing was changed."""

    slug = "invalid-upload"
    title = "The uploaded data is not valid"

    def __init__(self, faults: Sequence[Fault], *, complete: bool = True) -> None:
        first = faults[0]
        place = f"line {first.line}: " if first.line is not None else ""
        count = (
            f"{len(faults)}{'' if complete else ' or more'} faults; the first: " if len(faults) > 1 else ""
        )
        super().__init__(f"{count}{place}{first.message}. Nothing was changed.", faults=faults)


class BrokenArchive(InvalidRequest):
    """The upload is not the compressed file that it is said to be, or not all of it. Nothing was changed."""

    slug = "broken-archive"
    title = "The compressed file cannot be read"

    def __init__(self, compression: str, *, reason: str) -> None:
        message = f"the file cannot be decompressed as {compression}: {reason}"
        super().__init__(
            f"{message}; check it, or send it uncompressed. Nothing was changed.",
            faults=[Fault(message=message, field="body")],
        )


class ImplausibleArchive(InvalidRequest):
    """A few bytes decompress to very many. Nothing was changed."""

    slug = "implausible-archive"
    title = "The compressed file is implausible"

    def __init__(self, *, sent: int, content: int, ratio: int) -> None:
        message = (
            f"{sent} bytes decompress to more than {content}, over {ratio} times as many; send the file "
            "uncompressed if that is right"
        )
        super().__init__(f"{message}. Nothing was changed.", faults=[Fault(message=message, field="body")])


class StorageFull(ServiceError):
    """There is no space left for the data. Nothing was changed."""

    status = 507
    slug = "storage-full"
    title = "The storage is full"

    def __init__(self, *, reason: str) -> None:
        super().__init__(
            f"there is no space left for the data ({reason}); free disk space of dataset-svc or send less. "
            "Nothing was changed."
        )


@contextmanager
def space_needed() -> Iterator[None]:
    """Tell a full disk from other failures: raises StorageFull from inside the block."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(reason=os.strerror(error.errno or 0)) from error
        raise


class UploadTooLarge(TooLarge):
    """The upload, or what it decompresses to, has more bytes than the limit. Nothing was changed."""

    def __init__(self, *, limit: int) -> None:
        super().__init__(
            f"the upload is larger than {limit} bytes ({limit / 2**20:g} MiB); split the file or drop "
            "columns. Nothing was changed."
        )


class UploadInterrupted(ServiceError):
    """The client went away in the middle of the upload. Nothing was changed."""

    status = 400
    slug = "upload-interrupted"
    title = "The upload ended early"

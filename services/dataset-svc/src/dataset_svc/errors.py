"""What dataset-svc refuses."""

from collections.abc import Sequence

from assay_chassis.errors import Conflict, Fault, InvalidRequest, NotFound, ServiceError, TooLarge


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


class UploadTooLarge(TooLarge):
    """The upload has more bytes than the limit. Nothing was changed."""

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

"""Why a data set cannot be had, in terms of the one who asked for it."""

import errno
import re
from collections.abc import Iterator, Sequence

import httpx2
import pyarrow as pa
from datasets.data_files import EmptyDatasetError
from datasets.exceptions import DataFilesNotFoundError
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from dataset_svc.hub.protocol import HubFailure, HubTask

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LONGEST_REASON = 400


class Refused(Exception):
    """The task cannot be carried out; carries the failure to report."""

    def __init__(self, code: str, message: str, *, hints: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.failure = HubFailure(code=code, message=message, hints=list(hints))


def failure_of(error: BaseException, task: HubTask) -> HubFailure:
    """What to tell of whatever the libraries raised; the token is in none of it."""
    failure = _judge(error, task)
    if not task.token:
        return failure
    return failure.model_copy(update={"message": failure.message.replace(task.token, "***")})


def _judge(error: BaseException, task: HubTask) -> HubFailure:
    if isinstance(error, StopIteration):  # from the library's reader of a file without a byte
        return _failure("no-rows", f"the files of {task.repo_id} have no rows; choose another split")
    for each in _chain(error):
        if isinstance(each, Refused):
            return each.failure
        failure = _of_the_machine(each) or _of_the_repository(each, task) or _of_the_network(each, task)
        if failure is not None:
            return failure
    if any(isinstance(each, pa.ArrowException | UnicodeDecodeError | ValueError) for each in _chain(error)):
        return _failure("unreadable-data", f"a file of {task.repo_id} cannot be read: {_reason(error)}")
    return _failure("internal-error", f"{type(error).__name__}: {_reason(error)}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _of_the_machine(error: BaseException) -> HubFailure | None:
    if isinstance(error, OSError) and error.errno in _FULL:
        return _failure(
            "disk-full", "the disk of dataset-svc is full; free space under its home and try again"
        )
    if isinstance(error, MemoryError | pa.ArrowMemoryError):
        return _failure("memory-exceeded", "the data need more memory than an ingest may have")
    return None


def _of_the_repository(error: BaseException, task: HubTask) -> HubFailure | None:
    match error:
        case GatedRepoError():
            advice = (
                "the hub's token of this installation may not read it; ask for access on its page"
                if task.token
                else "set ASSAY_HF_TOKEN of dataset-svc to a token with access"
            )
            return _failure("gated-repository", f"{task.repo_id} is gated: {advice}")
        case RevisionNotFoundError():
            return _failure(
                "unknown-revision",
                f"{task.repo_id} has no revision {task.revision!r}; name a branch, a tag or a commit",
            )
        case DisabledRepoError():
            return _failure("unknown-repository", f"the hub has disabled {task.repo_id}")
        case RepositoryNotFoundError() | HFValidationError():
            return _unknown_repository(task)
        case DataFilesNotFoundError() | EmptyDatasetError():
            return _failure(
                "no-data-files",
                f"{task.repo_id} has no files at {task.revision!r} that rows can be read from; choose a "
                "repository with Parquet, JSON, CSV or text files",
            )
    return None


def _unknown_repository(task: HubTask) -> HubFailure:
    advice = "" if task.token else "; if it is private, set ASSAY_HF_TOKEN of dataset-svc"
    return _failure("unknown-repository", f"the hub has no data set {task.repo_id!r}; check the name{advice}")


def _of_the_network(error: BaseException, task: HubTask) -> HubFailure | None:
    match error:
        case OfflineModeIsEnabled():
            return _offline(task)
        case HfHubHTTPError():
            return _refusal(error, task)
        case httpx2.TransportError():
            return _failure(
                "hub-unreachable",
                "the hub does not answer; check the network, the proxy and HF_ENDPOINT of dataset-svc, or "
                "set HF_HUB_OFFLINE=1 to use what is cached",
            )
    return None


def _offline(task: HubTask) -> HubFailure:
    return _failure(
        "not-cached",
        f"HF_HUB_OFFLINE is set and {task.repo_id} (subset {task.subset or 'default'}, revision "
        f"{task.revision}) is not in the cache; ingest it once with the hub in reach",
    )


def _refusal(error: HfHubHTTPError, task: HubTask) -> HubFailure:
    status = error.response.status_code
    if status == 429:
        seconds = error.response.headers.get("Retry-After")
        when = f"in {seconds} seconds" if seconds else "later"
        return _failure(
            "rate-limited", f"the hub limits how often it is asked; try again {when}, or set a token"
        )
    if status == 401 and task.token:
        return _failure(
            "invalid-token", "the hub does not know the token; check ASSAY_HF_TOKEN of dataset-svc"
        )
    if status == 401:
        # What does not exist and what is private look the same to one who does not say who he is.
        return _unknown_repository(task)
    if status >= 500:
        return _failure("hub-unreachable", f"the hub answers {status}; try again later")
    return _failure("hub-refused", f"the hub answers {status}: {error.server_message or 'no reason given'}")


def asked_to_wait_s(error: BaseException) -> float | None:
    """Seconds after which the hub wants to be asked again; ``None`` when that is not what it said."""
    for each in _chain(error):
        if isinstance(each, HfHubHTTPError) and each.response.status_code == 429:
            seconds = each.response.headers.get("Retry-After", "")
            return float(seconds) if seconds.isdigit() else 1.0
    return None


def _failure(code: str, message: str) -> HubFailure:
    return HubFailure(code=code, message=message)


def _reason(error: BaseException) -> str:
    """The first words of an error, without what would tell of this machine's directories."""
    text = re.sub(r"/\S*/", "", " ".join(str(error).split()))
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"

"""Finds, downloads and digests the files of a model.

A program of its own (``model_files JOB.json RESULT.json``): downloads and digests take processor time by the
minute, and the adapter's process takes the times of tokens. Ending the program cancels them.

The tree digest names a model by its files. It is the SHA-256 of the sorted lines ``<path>\\0<id>\\n``, where
the id is what git keeps of a file: the SHA-256 of its content where it is in large file storage, the hash of
its git blob otherwise. The hub tells both without a download, so that a repository and a copy of it in a
directory have the same digest.
"""

import errno
import fnmatch
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from assay_serving.types import ErrorCode

_CHUNK_BYTES = 1 << 20
# From this size on the public hub takes a file into large file storage only.
_LARGE_FILE_BYTES = 10 << 20
_SHA256_LENGTH = 64
_OTHER_WEIGHTS = frozenset(
    (".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".mlmodel", ".onnx", ".ot", ".pb", ".pt", ".pth", ".tflite")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelJob:
    """What to do: a `repository` of the hub at a `revision`, or else a `directory`.

    `download` is false where only the hub's description is wanted. `digests` is a file that remembers what
    was digested before. `files` are digested too, each by itself.
    """

    repository: str = ""
    revision: str = ""
    directory: str = ""
    download: bool = True
    endpoint: str = ""
    token: str = ""
    offline: bool = False
    cache: str = ""
    digests: str = ""
    files: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResult:
    """What came of it: the model's `directory` where it is here, or the `error` and what to do."""

    directory: str = ""
    revision: str = ""
    sha256: str = ""
    file_sha256: Mapping[str, str] | None = None
    error: str = ""
    error_code: str = ""
    retryable: bool = False


class Refused(Exception):
    """The job cannot be done; the message is for the one who asked."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


def served_paths(paths: Iterable[str]) -> list[str]:
    """The files that a server may read, sorted.

    Hidden files are left out, and beside weights as safetensors those in other formats, which repositories
    often keep as well and no server then loads.
    """
    visible = [path for path in paths if not any(part.startswith(".") for part in PurePosixPath(path).parts)]
    if any("/" not in path and path.endswith(".safetensors") for path in visible):
        visible = [path for path in visible if PurePosixPath(path).suffix not in _OTHER_WEIGHTS]
    return sorted(visible)


def tree_digest(ids: Mapping[str, str]) -> str:
    """The digest of a model whose files have these ids, by their paths; see this module."""
    digest = hashlib.sha256()
    for path in sorted(ids):
        digest.update(f"{path}\0{ids[path]}\n".encode())
    return digest.hexdigest()


def directory_ids(directory: Path, *, known: dict[str, list[Any]]) -> dict[str, str]:
    """Ids of a directory's files by their paths.

    `known` remembers ``[size, modification time, inode, id]`` of each, and is brought up to date.
    """
    attributes = directory / ".gitattributes"
    large = _large_patterns(attributes.read_text() if attributes.is_file() else "")
    files = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    ids = {}
    for name in served_paths(files):
        status = files[name].stat()
        version = [status.st_size, status.st_mtime_ns, status.st_ino]
        if known.get(name, [])[:3] != version:
            is_large = status.st_size >= _LARGE_FILE_BYTES or _matches(name, large)
            known[name] = [*version, file_sha256(files[name]) if is_large else _blob_hash(files[name])]
        ids[name] = str(known[name][3])
    return ids


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _blob_hash(path: Path) -> str:
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _large_patterns(attributes: str) -> list[str]:
    """Patterns of a .gitattributes file for what is in large file storage."""
    lines = (line.split() for line in attributes.splitlines() if not line.startswith("#"))
    return [parts[0] for parts in lines if "filter=lfs" in parts[1:]]


def _matches(path: str, patterns: Iterable[str]) -> bool:
    """As git: a pattern without a slash is one of the last part."""
    name = PurePosixPath(path).name
    return any(fnmatch.fnmatch(path if "/" in each else name, each) for each in patterns)


def do(job: ModelJob) -> ModelResult:
    """Carry a job out. Raises Refused, or whatever the hub's library raises."""
    result = _repository(job) if job.repository else _directory(job)
    if not job.files:
        return result
    digests = {name: file_sha256(Path(name)) for name in job.files}
    return ModelResult(**{**asdict(result), "file_sha256": digests})


def _directory(job: ModelJob) -> ModelResult:
    remembered = Path(job.digests)
    try:
        known = json.loads(remembered.read_text())
    except (OSError, ValueError):
        known = {}
    ids = directory_ids(Path(job.directory), known=known)
    remembered.parent.mkdir(parents=True, exist_ok=True)
    partial = remembered.with_suffix(f".{os.getpid()}.partial")  # others may digest the same model now
    partial.write_text(json.dumps(known))
    partial.replace(remembered)
    return ModelResult(directory=job.directory, sha256=tree_digest(ids))


def _repository(job: ModelJob) -> ModelResult:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.hf_api import RepoFile

    endpoint, token = job.endpoint or None, job.token or False
    if job.offline:
        return _cached(job)
    hub = HfApi(endpoint=endpoint, token=token)
    commit = str(hub.model_info(job.repository, revision=job.revision or None).sha)
    # The list of a gated repository's files is public; its files are not.
    hub.auth_check(job.repository)
    tree = hub.list_repo_tree(job.repository, recursive=True, revision=commit)
    entries = {each.path: each for each in tree if isinstance(each, RepoFile)}
    wanted = served_paths(entries)
    if "config.json" not in wanted:
        raise Refused(f"{job.repository} has no config.json at {commit}: not a model that can be served")
    ids = {path: _id_of(entries[path]) for path in wanted}
    result = ModelResult(revision=commit, sha256=tree_digest(ids))
    if not job.download:
        return result
    unwanted = [path for path in entries if path not in ids and not path.startswith(".")]
    found = snapshot_download(
        job.repository,
        revision=commit,
        cache_dir=job.cache,
        ignore_patterns=unwanted,
        endpoint=endpoint,
        token=token,
    )
    return ModelResult(**{**asdict(result), "directory": found})


def _cached(job: ModelJob) -> ModelResult:
    """The repository as an earlier download has left it in the cache; whole, or an error of the library."""
    from huggingface_hub import snapshot_download

    def find(ignored: list[str]) -> Path:
        found = snapshot_download(
            job.repository,
            revision=job.revision or None,
            cache_dir=job.cache,
            local_files_only=True,
            ignore_patterns=ignored,
        )
        return Path(found)

    directory = find([f"*{suffix}" for suffix in _OTHER_WEIGHTS])
    if not any(directory.glob("*.safetensors")):
        directory = find([])
    return ModelResult(
        directory=str(directory), revision=directory.name, sha256=tree_digest(_cached_ids(directory))
    )


def _id_of(entry: Any) -> str:
    return str(entry.lfs.sha256 if entry.lfs is not None else entry.blob_id)


def _cached_ids(snapshot: Path) -> dict[str, str]:
    """Ids of a snapshot in the hub's cache, whose files are links to blobs that are named by them."""
    ids = {}
    files = {path.relative_to(snapshot).as_posix(): path for path in snapshot.rglob("*") if path.is_file()}
    for name in served_paths(files):
        blob = files[name].resolve()
        is_named = len(blob.name) in (_SHA256_LENGTH, 40) and files[name].is_symlink()
        ids[name] = blob.name if is_named else _blob_hash(blob)
    return ids


def refusal_of(error: Exception, job: ModelJob) -> ModelResult:
    """What to tell of whatever the hub's library or the system raised; never the token."""
    from huggingface_hub import errors as hub

    name, retryable = job.repository or job.directory, False
    match error:
        case Refused():
            message, retryable = str(error), error.retryable
        case hub.GatedRepoError():
            message = (
                f"{name} is gated, and this adapter's token of the hub may not read it: ask for access"
                if job.token
                else f"{name} is gated: set HF_TOKEN of this adapter to a token with access"
            )
        case hub.RevisionNotFoundError():
            message = f"{name} has no revision {job.revision!r}; name a branch, a tag or a commit"
        case hub.HfHubHTTPError() if error.response.status_code == 401 and job.token:
            message = f"the hub does not know this adapter's token: check its HF_TOKEN (asked for {name})"
        case hub.HfHubHTTPError() if error.response.status_code in (401, 404):
            # What does not exist and what is private look the same to one who does not say who he is.
            hint = "" if job.token else "; if it is private, set HF_TOKEN of this adapter"
            message = f"the hub has no model {name!r}: check the name{hint}"
        case hub.HFValidationError():
            message = f"{name!r} is no name of a model on a hub: {error}"
        case hub.LocalEntryNotFoundError() | hub.OfflineModeIsEnabled() if job.offline:
            message = (
                f"HF_HUB_OFFLINE is set and {name} (revision {job.revision or 'main'}) is not in the cache"
            )
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"the disk of this adapter is full while it downloads {name}"
        case _:
            # Whatever else comes from the network passes, or does not, without anybody changing the request.
            message, retryable = f"{name} cannot be had: {type(error).__name__}: {error}", True
    if job.token:
        message = message.replace(job.token, "***")
    return ModelResult(
        error=message[:2000], error_code=ErrorCode.ARTIFACT_NOT_FOUND.value, retryable=retryable
    )


def main() -> None:
    """Command line: JOB.json RESULT.json."""
    job = ModelJob(**json.loads(Path(sys.argv[1]).read_text()))
    try:
        result = do(job)
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the one who asked
        result = refusal_of(error, job)
    Path(sys.argv[2]).write_text(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()

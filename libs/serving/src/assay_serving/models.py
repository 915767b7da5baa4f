"""Model artifacts: repositories of a hub and directories, found, checked and brought here."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import psutil

from assay_serving.backend import PreparedArtifact
from assay_serving.errors import ArtifactMismatch, ArtifactNotFound, StartFailed
from assay_serving.launchers.process import EngineProcess, ProcessCommand
from assay_serving.model_files import ModelJob, ModelResult
from assay_serving.types import Artifact

_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_SCRATCH = "artifact-"
_USE = "use hf://<owner>/<name> or file:///<directory>"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAccess:
    """How the hub is reached: `endpoint` empty for the public one, `environment` of the process that asks."""

    cache: Path
    environment: Mapping[str, str]
    endpoint: str = ""
    token: str = field(default="", repr=False)
    offline: bool = False


class ModelUri(NamedTuple):
    """What an artifact's URI names: a repository of the hub, or a directory."""

    repository: str
    directory: Path | None


def parse_model_uri(uri: str) -> ModelUri:
    """Take a URI apart; raises ArtifactNotFound where it names neither."""
    parts = urlsplit(uri)
    match parts.scheme:
        case "hf":
            repository = f"{parts.netloc}{unquote(parts.path).rstrip('/')}"
            if _REPOSITORY.fullmatch(repository):
                return ModelUri(repository, None)
        case "file" if not parts.netloc:
            return ModelUri("", Path(unquote(parts.path)))
    raise ArtifactNotFound(f"artifact.uri {uri!r}: {_USE}")


class ModelStore:
    """Resolves and downloads models, each by a process of its own, which ends if the caller is cancelled."""

    def __init__(self, *, hub: HubAccess, roots: Sequence[Path], run_directory: Path, variables: str) -> None:
        """Make a store.

        Args:
            hub: where repositories come from.
            roots: directories that ``file://`` artifacts may be in.
            run_directory: for files that exist only while a job runs.
            variables: prefix of the adapter's settings, for advice in errors.
        """
        self._hub = hub
        self._roots = tuple(root.resolve() for root in roots)
        self._run_directory = run_directory
        self._in_use: set[Path] = set()
        self._variables = variables

    def directory_of(self, uri: str) -> Path | None:
        """The directory that a ``file://`` URI names; None for a repository.

        Raises:
            ArtifactNotFound: it is not allowed, not there or no model.
        """
        directory = parse_model_uri(uri).directory
        if directory is None:
            return None
        self.check_allowed(directory, field="artifact.uri")
        if not (directory / "config.json").is_file():
            raise ArtifactNotFound(f"artifact.uri {uri!r}: no directory with a model's config.json")
        return directory.resolve()

    def check_allowed(self, path: Path, *, field: str) -> None:
        """Raise ArtifactNotFound for a path outside the allowed roots."""
        if not any(path.resolve().is_relative_to(root) for root in self._roots):
            raise ArtifactNotFound(
                f"{field} {str(path)!r}: not under a directory that this adapter may read; its operator "
                f"names those in {self._variables}ARTIFACT_ROOTS"
            )

    async def prepare(
        self, artifact: Artifact, *, download: bool, files: Sequence[Path] = ()
    ) -> PreparedArtifact:
        """The model's files here or, without `download`, only which ones they are.

        Args:
            artifact: a repository of the hub at a revision, or a directory.
            download: whether the files themselves are wanted.
            files: further ones, whose digests go into `PreparedArtifact.file_sha256`.

        Raises:
            ArtifactNotFound: the hub or this machine has no such model, or it may not be read.
            ArtifactMismatch: its tree digest is not `artifact.sha256`.
        """
        repository = parse_model_uri(artifact.uri).repository
        directory = self.directory_of(artifact.uri)
        job = ModelJob(
            repository=repository,
            revision=artifact.revision,
            directory=str(directory or ""),
            download=download,
            endpoint=self._hub.endpoint,
            token=self._hub.token,
            offline=self._hub.offline,
            cache=str(self._hub.cache),
            digests=str(self._digests_of(directory)) if directory else "",
            files=[str(each) for each in files],
        )
        result = await self._run(job)
        if result.error:
            raise ArtifactNotFound(f"artifact.uri: {result.error}", retryable=result.retryable)
        if artifact.sha256 and artifact.sha256.lower() != result.sha256:
            raise ArtifactMismatch(
                f"artifact.sha256: {artifact.uri} has the tree digest {result.sha256}, not "
                f"{artifact.sha256.lower()}"
            )
        return PreparedArtifact(
            path=Path(result.directory),
            sha256=result.sha256,
            model_name=repository or Path(result.directory).name,
            repository=repository,
            revision=result.revision,
            file_sha256=dict(result.file_sha256 or {}),
        )

    def _digests_of(self, directory: Path) -> Path:
        name = hashlib.sha256(str(directory).encode()).hexdigest()[:32]
        return self._hub.cache.parent / "digests" / f"{name}.json"

    async def _run(self, job: ModelJob) -> ModelResult:
        with self._scratch() as scratch:
            job_file, result_file = scratch / "job.json", scratch / "result.json"
            job_file.touch(mode=0o600)  # it may have the hub's token in it
            job_file.write_text(json.dumps(asdict(job)))
            process = EngineProcess.start(
                ProcessCommand(
                    arguments=[
                        sys.executable,
                        "-m",
                        "assay_serving.model_files",
                        str(job_file),
                        str(result_file),
                    ],
                    environment=self._hub.environment,
                    log_path=scratch / "log",
                )
            )
            try:
                code = await process.wait()
                if code or not result_file.exists():
                    detail = process.log_tail()
                    raise StartFailed(
                        f"fetching the artifact ended with status {code}",
                        engine_detail=detail.replace(job.token, "***") if job.token else detail,
                        retryable=True,
                    )
                return ModelResult(**json.loads(result_file.read_text()))
            finally:
                await process.stop(grace=0.0)

    def remove_leftovers(self) -> None:
        """Remove what adapters that were killed have left in the run directory."""
        for directory in self._run_directory.glob(f"{_SCRATCH}*"):
            process_id = int(directory.name.split("-")[1])
            is_own = process_id == os.getpid()  # or of an earlier life that had the same number
            if directory not in self._in_use and (is_own or not psutil.pid_exists(process_id)):
                shutil.rmtree(directory, ignore_errors=True)

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        scratch = self._run_directory / f"{_SCRATCH}{os.getpid()}-{uuid.uuid4().hex}"
        self._in_use.add(scratch)
        try:
            scratch.mkdir(parents=True, mode=0o700)
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            self._in_use.discard(scratch)


def without_files(artifact: Artifact, *, name: str, repository: str = "") -> PreparedArtifact:
    """An artifact that nobody can look into from here.

    Raises:
        ArtifactMismatch: it names a digest, which then cannot be confirmed.
    """
    if artifact.sha256:
        raise ArtifactMismatch(
            f"artifact.sha256: {artifact.uri} cannot be read from here, so its digest cannot be confirmed; "
            "leave it out"
        )
    return replace(PreparedArtifact(sha256="", model_name=name), repository=repository)

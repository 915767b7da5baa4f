"""From an artifact's URI to a local GGUF file, checked and, where wanted, re-quantised."""

import asyncio
import fcntl
import hashlib
import importlib.util
import os
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from assay_serving.backend import PreparedArtifact
from assay_serving.errors import ArtifactMismatch, ArtifactNotFound, StartFailed
from assay_serving.launchers.process import EngineProcess, ProcessCommand
from assay_serving.settings import engine_environment
from assay_serving.types import Artifact

_GGUF_MAGIC = b"GGUF"
_LOCK_POLL_SECONDS = 0.1
# Part of the cached file's name: raise it whenever `requantize` would write other bytes.
_RECIPE = "v1"


class _FileVersion(NamedTuple):
    path: Path
    size: int
    modified_ns: int
    inode: int


class ArtifactStore:
    """Resolves, checks and converts artifacts. Files it makes live under `cache`, named by their content."""

    def __init__(self, *, cache: Path, logs: Path, roots: Sequence[Path]) -> None:
        self._cache = cache
        self._logs = logs
        self._roots = tuple(root.resolve() for root in roots)
        self._digests: dict[_FileVersion, str] = {}

    def resolve(self, artifact: Artifact) -> Path:
        """The local file behind ``package://<package>/<file>.gguf`` or ``file:///<path>.gguf``.

        A package is found without importing it. Nothing outside an installed package's directory or the
        allowed roots is ever opened.

        Raises:
            ArtifactNotFound: nothing there, or not allowed; the message says which and what to do.
        """
        parts = urlsplit(artifact.uri)
        relative = unquote(parts.path)
        match parts.scheme:
            case "package" if parts.netloc.isidentifier():
                root = _package_directory(parts.netloc)
                path = (root / relative.lstrip("/")).resolve()
                allowed: tuple[Path, ...] = (root.resolve(),)
            case "file" if not parts.netloc:
                path = Path(relative).resolve()
                allowed = self._roots
            case _:
                raise ArtifactNotFound(
                    f"artifact.uri {artifact.uri!r}: use package://<package>/<file>.gguf or file:///<path>.gguf"
                )
        if not any(path.is_relative_to(root) for root in allowed):
            raise ArtifactNotFound(
                f"artifact.uri {artifact.uri!r}: not under a directory that this adapter may read; "
                "its operator names those in ASSAY_CPU_ARTIFACT_ROOTS"
            )
        if path.suffix != ".gguf" or not path.is_file():
            raise ArtifactNotFound(f"artifact.uri {artifact.uri!r}: no such .gguf file")
        return path

    async def prepare(self, artifact: Artifact, *, requantize: str = "") -> PreparedArtifact:
        """The file to load: the artifact's own, or one made from it in the type `requantize`.

        Raises:
            ArtifactNotFound: see `resolve`.
            ArtifactMismatch: the digest is another one, or the file is no GGUF file.
            StartFailed: the conversion failed; `engine_detail` says how.
        """
        path = self.resolve(artifact)
        digest = await self._digest(path)
        if artifact.sha256 and artifact.sha256.lower() != digest:
            raise ArtifactMismatch(
                f"artifact.sha256: {artifact.uri} has sha256 {digest}, not {artifact.sha256.lower()}"
            )
        if await asyncio.to_thread(_first_bytes, path) != _GGUF_MAGIC:
            raise ArtifactMismatch(f"artifact.uri {artifact.uri}: not a GGUF file")
        if not requantize:
            return PreparedArtifact(path=path, sha256=digest, model_name=path.stem)
        target = self._cache / f"{digest}-{requantize}-{_RECIPE}.gguf"
        async with _locked(target.with_suffix(".lock")):
            if not target.exists():
                await self._convert(path, target, requantize)
        return PreparedArtifact(
            path=target,
            sha256=await self._digest(target),
            model_name=f"{path.stem} as {requantize}",
            source_sha256=digest,
            quantization=requantize,
        )

    async def _digest(self, path: Path) -> str:
        status = path.stat()
        version = _FileVersion(path, status.st_size, status.st_mtime_ns, status.st_ino)
        if version not in self._digests:
            self._digests[version] = await asyncio.to_thread(_sha256, path)
        return self._digests[version]

    async def _convert(self, source: Path, target: Path, quantization: str) -> None:
        partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.partial")
        arguments = ["-m", "assay_adapter_cpu.requantize", str(source), str(partial), quantization]
        process = EngineProcess.start(
            ProcessCommand(
                arguments=[sys.executable, *arguments],
                environment=engine_environment(),
                log_path=self._logs / f"requantize-{quantization}.log",
            )
        )
        try:
            if await process.wait() != 0:
                raise StartFailed(
                    f"cannot re-quantise {source.name} to {quantization}", engine_detail=process.log_tail()
                )
            await asyncio.to_thread(_publish, partial, target)
        finally:
            await process.stop()
            partial.unlink(missing_ok=True)


def _package_directory(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ArtifactNotFound(f"artifact.uri: no package {package!r} is installed beside this adapter")
    return Path(next(iter(spec.submodule_search_locations)))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_GGUF_MAGIC))


def _publish(partial: Path, target: Path) -> None:
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(target)


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Hold an advisory lock on `path`, against other adapters of this machine as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_POLL_SECONDS)
        yield

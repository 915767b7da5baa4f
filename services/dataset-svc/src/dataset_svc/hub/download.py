"""The files of splits, from the hub into its cache. What is there already is not downloaded again."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile
from tqdm import tqdm  # type: ignore[import-untyped]

from dataset_svc.hub.failures import Refused
from dataset_svc.hub.protocol import HubTask, Progress
from dataset_svc.hub.resolve import Resolution

_PATHS_AT_ONCE = 500


def download(
    resolution: Resolution, paths: Sequence[str], *, task: HubTask, report: Callable[[Progress], None]
) -> dict[str, Path]:
    """Local copies of the files, by path in the repository, at the resolved commit.

    An earlier attempt's complete files are not downloaded again, and its incomplete ones are removed.

    Raises:
        Refused: they are larger than the limit, or not cached and the hub may not be asked.
        Exception: what the library raises of repositories and the network.
    """
    sizes = _sizes(resolution, paths, token=task.token)
    total = sum(sizes.values())
    if total > task.max_bytes:
        raise Refused(
            "too-large",
            f"the files have {total} bytes, the limit is {task.max_bytes} (ASSAY_MAX_HUB_BYTES); choose a "
            "smaller split or subset",
        )
    _remove_incomplete(resolution.repo_id)
    found: dict[str, Path] = {}
    before = 0
    for path in paths:
        local = hf_hub_download(
            resolution.repo_id,
            path,
            repo_type="dataset",
            revision=resolution.commit,
            token=task.token or False,
            tqdm_class=_meter(report, before=before, total=total),
        )
        found[path] = Path(local)
        before += sizes[path]
        report(Progress(phase="downloading", bytes=before, bytes_total=total))
    return found


def _remove_incomplete(repo_id: str) -> None:
    """Remove what killed processes have left; the library never uses it again.

    A file that somebody is downloading is told by the lock that the library holds meanwhile.
    """
    cache, name = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=repo_id, repo_type="dataset")
    for partial in (cache / name / "blobs").glob("*.incomplete"):
        lock = cache / ".locks" / name / f"{partial.name.split('.')[0]}.lock"
        with suppress(Timeout), FileLock(lock, timeout=0):
            partial.unlink(missing_ok=True)


def _sizes(resolution: Resolution, paths: Sequence[str], *, token: str | None) -> dict[str, int]:
    if constants.is_offline_mode():
        return {path: _cached_size(resolution, path) for path in paths}
    api = HfApi(token=token or False)
    sizes: dict[str, int] = {}
    for start in range(0, len(paths), _PATHS_AT_ONCE):
        asked = list(paths[start : start + _PATHS_AT_ONCE])
        infos = api.get_paths_info(resolution.repo_id, asked, revision=resolution.commit, repo_type="dataset")
        sizes |= {info.path: info.size for info in infos if isinstance(info, RepoFile)}
    return sizes


def _cached_size(resolution: Resolution, path: str) -> int:
    cached = try_to_load_from_cache(resolution.repo_id, path, revision=resolution.commit, repo_type="dataset")
    if not isinstance(cached, str):
        raise Refused(
            "not-cached",
            f"HF_HUB_OFFLINE is set and {path} of {resolution.repo_id} is not in the cache; ingest this "
            "split once with the hub in reach",
        )
    return Path(cached).stat().st_size


def _meter(report: Callable[[Progress], None], *, before: int, total: int) -> type[tqdm]:
    """A progress bar that draws nothing and tells how many bytes have come."""

    class Meter(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})
            self._came = int(kwargs.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            self._came += int(n or 0)
            come = min(before + self._came, total)
            report(Progress(phase="downloading", bytes=come, bytes_total=total))
            return None

    return Meter

"""A task from its first request to its canonical files."""

from collections.abc import Callable

from datasets.utils.logging import disable_progress_bar
from huggingface_hub import constants

from dataset_svc.hub.convert import convert
from dataset_svc.hub.download import download
from dataset_svc.hub.failures import Refused
from dataset_svc.hub.patience import Patience
from dataset_svc.hub.protocol import HubResult, HubTask, Progress
from dataset_svc.hub.resolve import Resolution, resolve

_PIECE_BYTES = 1 << 16


def carry_out(task: HubTask, report: Callable[[Progress], None]) -> HubResult:
    """Read the splits of a task at one commit.

    Raises:
        Refused: it cannot be done as it was asked for.
        Exception: whatever the libraries raise; ``failures.failure_of`` judges it.
    """
    disable_progress_bar()
    # The library tells of progress once for every piece; its own 10 MiB are minutes on a slow line.
    constants.DOWNLOAD_CHUNK_SIZE = _PIECE_BYTES
    patience = Patience(task.patience_s)
    report(Progress(phase="resolving"))
    resolution = patience.call(lambda: resolve(task))

    def report_of_commit(progress: Progress) -> None:
        report(progress.model_copy(update={"commit": resolution.commit}))

    report_of_commit(Progress(phase="downloading"))
    splits = [task.split, *([task.fewshot_split] if task.fewshot_split else [])]
    for split in splits:
        _refuse_unknown(split, resolution, task)
    paths = list(dict.fromkeys(path for split in splits for path in resolution.files[split]))
    local = patience.call(lambda: download(resolution, paths, task=task, report=report_of_commit))
    parts = [
        convert(
            resolution,
            [local[path] for path in resolution.files[split]],
            split=split,
            task=task,
            name=f"{position}.parquet",
            report=report_of_commit,
        )
        for position, split in enumerate(splits)
    ]
    return HubResult(
        repo_id=resolution.repo_id,
        subset=resolution.subset,
        commit=resolution.commit,
        evaluation=parts[0],
        fewshot=parts[1] if task.fewshot_split else None,
    )


def _refuse_unknown(split: str, resolution: Resolution, task: HubTask) -> None:
    known = sorted(resolution.files)
    if split not in known:
        subset = f" in subset {task.subset!r}" if task.subset else ""
        message = f"{resolution.repo_id} has no split {split!r}{subset}; there are: {', '.join(known)}"
        raise Refused("unknown-split", message, hints=known)

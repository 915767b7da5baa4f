"""Progress of uploads and runs: bars on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from assay.models import Run
from assay.rendering.text import size

LINE_EVERY_S = 10.0
"""Without a terminal, a line at most this often while the state stays the same."""


class RunProgress:
    """Shows how far a run is; call it with the run after each look at it."""

    def __init__(self, console: Console, *, label: str) -> None:
        self._console = console
        self._label = label
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._state = ""
        self._said_at = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                TextColumn("{task.fields[state]:<12}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[failed]}", style="red", markup=False),
                console=self._console,
            )
            self._task = self._bar.add_task(self._label, total=None, state="", failed="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, run: Run) -> None:
        """Show the run as it is now."""
        progress = run.progress
        failed = f"{progress.samples_failed} failed" if progress.samples_failed else ""
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                completed=progress.samples_done,
                total=progress.samples_total or None,
                state=run.state,
                failed=failed,
            )
            return
        now = time.monotonic()
        if run.state == self._state and now - self._said_at < LINE_EVERY_S:
            return
        self._state, self._said_at = run.state, now
        text = f"{self._label}: {run.state} {progress.samples_done}/{progress.samples_total} {failed}"
        self._console.print(Text(text.rstrip()), soft_wrap=True)


class UploadProgress:
    """Shows how much of a file was sent; call it with the bytes since the last call."""

    def __init__(self, console: Console, *, label: str, total: int) -> None:
        self._console = console
        self._label = label
        self._total = total
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(self._label, total=self._total)
            self._bar.start()
        else:
            self._console.print(Text(f"{self._label}: sending {size(self._total)}"), soft_wrap=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, sent: int) -> None:
        """Count ``sent`` more bytes."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, sent)

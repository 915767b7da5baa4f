"""Progress of transfers, imports and runs: bars on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from assay.models import Ingest, Run
from assay.rendering.text import clean, size

LINE_EVERY_S = 10.0
"""Without a terminal, a line at most this often while the state stays the same."""


class _Bar:
    """A bar on a terminal; elsewhere lines, one for each new state and one now and then."""

    def __init__(self, console: Console, *, label: str, columns: tuple[ProgressColumn, ...]) -> None:
        self._console = console
        self._label = label
        self._bar: Progress | None = None
        if console.is_terminal:
            first = TextColumn("{task.description}", markup=False)
            self._bar = Progress(first, *columns, console=console)
            self._task = self._bar.add_task(clean(label), total=None, state="", remark="")
        self._state: str | None = None
        self._said_at = 0.0

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _show(self, *, state: str, line: str, **bar: Any) -> None:
        """Move the bar, or print ``line`` if the state is new or the last line is old."""
        if self._bar is not None:
            self._bar.update(self._task, state=state, **bar)
            return
        now = time.monotonic()
        if state == self._state and now - self._said_at < LINE_EVERY_S:
            return
        self._state, self._said_at = state, now
        self._console.print(Text(clean(f"{self._label}: {line}".rstrip())), soft_wrap=True)


class RunProgress(_Bar):
    """Shows how far a run is; call it with the run after each look at it."""

    def __init__(self, console: Console, *, label: str) -> None:
        super().__init__(
            console,
            label=label,
            columns=(
                TextColumn("{task.fields[state]:<12}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[remark]}", style="red", markup=False),
            ),
        )

    def __call__(self, run: Run) -> None:
        """Show the run as it is now."""
        progress = run.progress
        failed = f"{progress.samples_failed} failed" if progress.samples_failed else ""
        self._show(
            state=run.state,
            line=f"{run.state} {progress.samples_done}/{progress.samples_total} {failed}",
            completed=progress.samples_done,
            total=progress.samples_total or None,
            remark=failed,
        )


class IngestBar(_Bar):
    """Shows how far an import is; call it with the job after each look at it."""

    def __init__(self, console: Console, *, label: str) -> None:
        super().__init__(
            console,
            label=label,
            columns=(
                TextColumn("{task.fields[state]:<12}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[remark]}", markup=False),
                TimeElapsedColumn(),
            ),
        )

    def __call__(self, job: Ingest) -> None:
        """Show the job as it is now."""
        progress = job.progress
        rows = f"{progress.rows}" if progress.rows_total is None else f"{progress.rows}/{progress.rows_total}"
        total = "" if progress.bytes_total is None else f" of {size(progress.bytes_total)}"
        amount = f"{rows} rows, {size(progress.bytes)}{total}"
        state = progress.phase if job.state == "Running" and progress.phase else job.state
        # Bytes say more while files come in, rows while they are converted.
        if progress.phase == "downloading":
            completed, known = progress.bytes, progress.bytes_total
        else:
            completed, known = progress.rows, progress.rows_total
        if not (progress.rows or progress.bytes):
            amount = ""
        self._show(
            state=state,
            line=f"{state}, {amount}" if amount else state,
            completed=completed,
            total=known,
            remark=amount,
        )


class TransferProgress(_Bar):
    """Shows how much of a file was sent or read; call it with the bytes since the last call."""

    def __init__(self, console: Console, *, label: str, total: int | None, verb: str) -> None:
        super().__init__(console, label=label, columns=(BarColumn(), DownloadColumn(), TransferSpeedColumn()))
        self._total = total
        self._verb = verb
        self._done = 0

    def __enter__(self) -> Self:
        super().__enter__()
        self(0)
        return self

    def __call__(self, count: int) -> None:
        """Count ``count`` more bytes."""
        self._done += count
        line = f"{self._verb} {size(self._done if self._total is None else self._total)}"
        self._show(
            state=self._verb,
            line=line if self._total is not None or self._done else self._verb,
            completed=self._done,
            total=self._total,
        )

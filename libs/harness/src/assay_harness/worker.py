"""The inside of a harness process: answers calls over a pipe, one at a time, in the main thread."""

import importlib
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from assay_harness.errors import HarnessError, HarnessFailed
from assay_harness.index import Definition
from assay_harness.settings import isolate_environment
from assay_harness.spec import Recipe, Rows, Scoring, TaskOptions

if TYPE_CHECKING:
    from pydantic import JsonValue

    from assay_harness.engine import Engine
    from assay_harness.results import (
        Aggregate,
        Document,
        DocumentScore,
        LoggedDocument,
        RenderReport,
        ScoreInput,
        TaskFacts,
    )


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a call: a value, or the error to raise."""

    value: Any = None
    error: HarnessError | None = None


def serve(connection: Connection, working_directory: str) -> None:
    """Answer calls `(method name, arguments)` until the other end closes."""
    # Ctrl-C reaches the whole terminal group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(working_directory,), daemon=True).start()
    # Does nothing new in a copy of the prepared fork server; needed where that was started without us.
    isolate_environment()
    os.chdir(working_directory)
    # lm-eval prints while it bootstraps; the parent's standard output is not ours.
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    # By itself tqdm makes a semaphore between processes, which a killed process leaves behind.
    importlib.import_module("tqdm").tqdm.set_lock(threading.RLock())
    session = _Session()
    while True:
        try:
            method, arguments = connection.recv()
            reply = _answer(getattr(session, method), arguments)
            connection.send(reply)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _answer(method: Callable[..., Any], arguments: tuple[Any, ...]) -> Reply:
    """Call and turn whatever a task's code may raise, SystemExit included, into an error that can travel."""
    try:
        return Reply(value=method(*arguments))
    except HarnessError as error:
        return Reply(error=error)
    except BaseException as error:  # noqa: BLE001
        problem = f"lm-eval failed: {type(error).__name__}: {error}"
        return Reply(error=HarnessFailed(problem, traceback_text=traceback.format_exc()))


def _end_with_parent(working_directory: str) -> None:
    """Leave at once when the parent is gone, however it went; its temporary directory is all there is."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        shutil.rmtree(working_directory, ignore_errors=True)
        os._exit(1)


class _Session:
    """The methods that may be called, over one engine."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._batches: Iterator[Sequence[Document | LoggedDocument]] | None = None

    def open(
        self,
        recipe: Recipe,
        options: TaskOptions,
        rows: Rows,
        definition: Definition | None,
        scoring: Scoring | None,
    ) -> "TaskFacts":
        """Construct the task."""
        # lm-eval is in memory already where the fork server preloaded it; else it is imported here.
        module = importlib.import_module("assay_harness.engine")
        engine: Engine = module.Engine(
            recipe=recipe, options=options, rows=rows, definition=definition, scoring=scoring
        )
        self._engine = engine
        return engine.facts

    def dry_render(self) -> "RenderReport":
        """Render every row."""
        return self._opened.dry_render()

    def start(self, batch_size: int, skip: frozenset[int]) -> None:
        """Begin again at document 0."""
        self._batches = self._opened.batches(batch_size=batch_size, skip=skip)

    def start_log(self, batch_size: int) -> None:
        """Begin again at document 0, for lm-eval's sample log."""
        self._batches = self._opened.logged_batches(batch_size=batch_size)

    def results(
        self, metrics: dict[str, float | None], sample_counts: dict[str, int]
    ) -> "dict[str, JsonValue]":
        """Lay stored numbers out as lm-eval does."""
        return self._opened.results(metrics, sample_counts)

    def next(self) -> "Sequence[Document | LoggedDocument] | None":
        """Build the next batch; None at the end."""
        return None if self._batches is None else next(self._batches, None)

    def score(self, answers: "list[ScoreInput]") -> "list[DocumentScore]":
        """Score documents."""
        return self._opened.score(answers)

    def aggregate(self, scores: "list[DocumentScore]") -> "Aggregate":
        """Aggregate scores."""
        return self._opened.aggregate(scores)

    @property
    def _opened(self) -> "Engine":
        """The engine; calling anything before `open` is a defect of the client."""
        if self._engine is None:
            raise RuntimeError("the task is not open")
        return self._engine

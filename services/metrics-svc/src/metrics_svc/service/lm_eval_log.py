"""The files that lm-eval would have written of a run, made from its stored scores.

Its samples files go filter by filter, each in the order of the documents; the scored log is in the order in
which samples were finished. So the log is spooled to a file in which the places of all samples are known, the
lines of the first filter are sent while the harness goes through the documents, and those of the others wait
in files until their turn. Memory holds one batch and the places.
"""

import asyncio
import json
import tempfile
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BufferedRandom, RawIOBase
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow.parquet

from assay_chassis.errors import Fault, NotFound, Unavailable
from assay_chassis.service_client import DigestMismatch
from assay_evidence.facts import RunFacts
from assay_harness.errors import HarnessError, HarnessFailed, HarnessProcessDied
from assay_harness.process import HarnessProcess
from assay_harness.results import DocumentScore, LoggedDocument
from assay_harness.sample_log import sample_lines
from assay_harness.spec import Scoring
from metrics_svc.domain.plans import FailurePolicy, RunPlan, check_task, read_plan
from metrics_svc.domain.runs import RunMetrics
from metrics_svc.domain.samples import ScoredSample
from metrics_svc.domain.scoring import is_own
from metrics_svc.domain.values import SampleNumbers
from metrics_svc.errors import InvalidFilter, NotExportable, Unscorable
from metrics_svc.reports.lm_eval import LogNames, filters_of, results_file, task_hash
from metrics_svc.service.downloads import CHUNK_BYTES, Download, one_chunk
from metrics_svc.service.evidence import EvidenceService, FinalRun
from metrics_svc.service.harness import HarnessOpener
from metrics_svc.service.runs import metrics_of
from metrics_svc.store import MetricsStore

JSON = "application/json"
JSON_LINES = "application/jsonl"
ZIP = "application/zip"
EXPORTS_AT_ONCE = 2
"""Each has a harness process of some 200 MB."""


class TaskLine(NamedTuple):
    """Lines of a task's samples file."""

    task: str
    text: str


@dataclass(frozen=True, slots=True)
class _Source:
    """A final view and all that its files are made of."""

    view_id: str
    final: FinalRun
    plan: RunPlan
    metrics: RunMetrics
    scoring: Scoring | None

    @property
    def facts(self) -> RunFacts:
        """What is known of the view."""
        return self.final.facts

    @property
    def tasks(self) -> list[str]:
        """The tasks in the order of the run; of a run that is no group, the one."""
        return [member.task for member in self.metrics.members] or [self.facts.task]

    def sample_counts(self) -> dict[str, int]:
        """How many documents are behind the numbers of each task."""
        with_failed = self.facts.failure_policy == FailurePolicy.SCORE_ZERO.value
        if not self.metrics.members:
            facts = self.facts
            return {facts.task: facts.samples_scored + (facts.samples_failed if with_failed else 0)}
        return {
            member.task: member.samples_scored + (member.samples_failed if with_failed else 0)
            for member in self.metrics.members
        }


class LmEvalLogService:
    """Makes lm-eval's results and samples files of final views."""

    def __init__(self, *, store: MetricsStore, evidence: EvidenceService, harness: HarnessOpener) -> None:
        self._store = store
        self._evidence = evidence
        self._harness = harness
        self._turns = asyncio.Semaphore(EXPORTS_AT_ONCE)

    async def results(self, view_id: str) -> Download:
        """The results file of a run or scored view.

        Raises:
            UnknownRun: there is no such run.
            RunNotFinal: it has no final metrics.
            NotExportable: the task is not here as it was when the run was planned.
            Unavailable: the rows, the harness or the store cannot be had.
        """
        source = await self._source(view_id)
        text = await self._results(source)
        return Download(LogNames.of(source.facts).results, JSON, one_chunk(text.encode()))

    async def samples(self, view_id: str, *, task: str | None) -> Download:
        """The samples file of one task.

        Raises:
            InvalidFilter: the run is of a group and no task of it is named.
            UnknownRun, RunNotFinal, NotExportable, Unavailable: as for ``results``.
        """
        source = await self._source(view_id)
        chosen = _chosen_task(source.tasks, task)

        async def chunks() -> AsyncIterator[bytes]:
            async for line in self._lines(source, wanted=chosen):
                yield line.text.encode()

        name = LogNames.of(source.facts).samples(chosen)
        return await Download.of(name, JSON_LINES, chunks())

    async def archive(self, view_id: str) -> Download:
        """All files as a zip: results, and the samples of every task, in a folder named after the model.

        Raises:
            UnknownRun, RunNotFinal, NotExportable, Unavailable: as for ``results``.
        """
        source = await self._source(view_id)
        results = await self._results(source)
        name = f"lm-eval-{source.view_id}.zip"
        return await Download.of(name, ZIP, self._archive(source, results))

    @asynccontextmanager
    async def _opened(self, source: _Source) -> AsyncIterator[HarnessProcess]:
        """The harness on the run's task and rows, for a moment of its own."""
        try:
            async with (
                self._turns,
                self._harness.open(source.plan.harness, scoring=source.scoring) as harness,
            ):
                check_task(source.plan, harness.facts)
                yield harness
        except (HarnessProcessDied, HarnessFailed, DigestMismatch) as error:
            raise Unavailable(f"the harness cannot write lm-eval's files: {error}") from error
        except (HarnessError, Unscorable, NotFound) as error:
            raise NotExportable(f"lm-eval's files of {source.view_id} cannot be written: {error}") from error

    async def _source(self, view_id: str) -> _Source:
        final = await self._evidence.final(view_id, field="run_id")
        view = await self._store.scorings.get(view_id)
        assert view is not None, "final views are never removed"
        return _Source(
            view_id=view_id,
            final=final,
            plan=read_plan(final.run),
            metrics=metrics_of(view),
            scoring=None if is_own(view) else Scoring.model_validate_json(view["scoring"]),
        )

    async def _results(self, source: _Source) -> str:
        async with self._opened(source) as harness:
            layout = await harness.results(source.facts.quality, source.sample_counts())
        with tempfile.TemporaryDirectory(prefix="assay-export-", ignore_cleanup_errors=True) as name:
            samples = await self._store.files.fetch(source.final.evidence.samples_sha256, Path(name))
            hashes = await asyncio.to_thread(_task_hashes, samples, source)
        document = results_file(
            layout, facts=source.facts, plan=source.plan, run=source.final.run, task_hashes=hashes
        )
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    async def _archive(self, source: _Source, results: str) -> AsyncIterator[bytes]:
        names = LogNames.of(source.facts)
        outlet = _Outlet()
        with zipfile.ZipFile(outlet, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
            archive.writestr(f"{names.folder}/{names.results}", results)
            entry: IO[bytes] | None = None
            current = ""
            async for line in self._lines(source, wanted=None):
                if entry is None or line.task != current:
                    if entry is not None:
                        entry.close()
                    current = line.task
                    entry = archive.open(f"{names.folder}/{names.samples(current)}", "w", force_zip64=True)
                await asyncio.to_thread(entry.write, line.text.encode())
                if written := outlet.taken():
                    yield written
            if entry is not None:
                entry.close()
        yield outlet.taken()

    async def _lines(self, source: _Source, *, wanted: str | None) -> AsyncIterator[TaskLine]:
        """Lines of the samples files, task after task; of one task, if ``wanted``."""
        with tempfile.TemporaryDirectory(prefix="assay-export-", ignore_cleanup_errors=True) as name:
            directory = Path(name)
            with (directory / "samples").open("w+b") as file:
                spool = await self._spool(source, file)
                async for line in self._written(source, spool, directory, wanted=wanted):
                    yield line

    async def _written(
        self, source: _Source, spool: "_Spool", directory: Path, *, wanted: str | None
    ) -> AsyncIterator[TaskLine]:
        later = _LaterLines(directory)
        current: str | None = None
        async with self._opened(source) as harness:
            repeats = {member.task: member.repeats for member in harness.facts.members}
            writer = _LineWriter(source, spool, repeats=repeats, default_repeats=harness.facts.repeats)
            async for batch in harness.logged_documents():
                for task, documents in _by_task(batch):
                    if wanted not in (None, task):
                        continue
                    if current not in (None, task):
                        async for chunk in later.drained():
                            yield TaskLine(str(current), chunk)
                    current = task
                    by_filter = await asyncio.to_thread(writer.lines, documents)
                    if text := await asyncio.to_thread(later.add, by_filter):
                        yield TaskLine(task, text)
            if current is not None:
                async for chunk in later.drained():
                    yield TaskLine(current, chunk)

    async def _spool(self, source: _Source, file: BufferedRandom) -> "_Spool":
        spool = _Spool(file)
        async for block in self._store.scored_log(source.view_id).blocks():
            await asyncio.to_thread(spool.add, block.samples)
        return spool


class _Spool:
    """Samples in a file, by the index of their document."""

    def __init__(self, file: BufferedRandom) -> None:
        self._file = file
        self._places: dict[int, tuple[int, int]] = {}

    def add(self, samples: Sequence[ScoredSample]) -> None:
        """Write samples to the end of the file."""
        for sample in samples:
            text = sample.model_dump_json().encode()
            self._places[sample.record.index] = (self._file.tell(), len(text))
            self._file.write(text)

    def read(self, index: int) -> ScoredSample | None:
        """The sample of a document; ``None`` where the run has none of it."""
        place = self._places.get(index)
        if place is None:
            return None
        self._file.seek(place[0])
        return ScoredSample.model_validate_json(self._file.read(place[1]))


class _LineWriter:
    """Makes the lines of documents from their samples."""

    def __init__(
        self, source: _Source, spool: _Spool, *, repeats: Mapping[str, int], default_repeats: int
    ) -> None:
        self._spool = spool
        self._repeats = repeats
        self._default_repeats = default_repeats
        self._numbers = SampleNumbers(source.metrics)

    def lines(self, documents: Sequence[LoggedDocument]) -> dict[str, list[str]]:
        """Lines by filter; documents that the run did not evaluate, or does not count, have none."""
        found: dict[str, list[str]] = {}
        for document in documents:
            sample = self._spool.read(document.index)
            if sample is None:
                continue
            for name, line in self._of(document, sample).items():
                found.setdefault(name, []).append(line)
        return found

    def _of(self, document: LoggedDocument, sample: ScoredSample) -> dict[str, str]:
        repeats = self._repeats.get(document.task, self._default_repeats)
        if sample.score is not None:
            return sample_lines(document, sample.record.answers(), sample.score, repeats=repeats)
        prefix = f"{document.task}."
        zeros = {
            name.removeprefix(prefix): value
            for name, value in self._numbers.of(sample).items()
            if name.startswith(prefix)
        }
        if not zeros:
            return {}
        score = DocumentScore(
            index=document.index, values=dict(zeros), number_types={}, filtered={}, task=document.task
        )
        error = json.dumps(sample.record.error, ensure_ascii=False)
        return sample_lines(document, None, score, repeats=repeats, error=error)


class _LaterLines:
    """Passes the first filter's lines of a task on, and keeps those of the others in files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._first: str | None = None
        self._files: dict[str, Path] = {}

    def add(self, by_filter: Mapping[str, Sequence[str]]) -> str:
        """Lines that can be sent now."""
        now = ""
        for name, lines in by_filter.items():
            self._first = self._first or name
            if name == self._first:
                now += "".join(lines)
                continue
            path = self._files.setdefault(name, self._directory / f"filter-{len(self._files)}")
            with path.open("a", encoding="utf-8") as file:
                file.writelines(lines)
        return now

    async def drained(self) -> AsyncIterator[str]:
        """The lines of the other filters; then everything is as at the beginning of a task."""
        for path in self._files.values():
            async for line in _text_chunks(path):
                yield line
            path.unlink()
        self._files.clear()
        self._first = None


class _Outlet(RawIOBase):
    """Takes what a zip writes and gives it away in pieces. Not seekable, so the zip is made for a stream."""

    def __init__(self) -> None:
        super().__init__()
        self._written = bytearray()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Keep the bytes until they are taken."""
        self._written += data
        return len(data)

    def taken(self) -> bytes:
        """What was written since the last time."""
        taken = bytes(self._written)
        self._written.clear()
        return taken


async def _text_chunks(path: Path) -> AsyncIterator[str]:
    with path.open(encoding="utf-8") as file:
        while text := await asyncio.to_thread(file.readlines, CHUNK_BYTES):
            yield "".join(text)


def _by_task(documents: Sequence[LoggedDocument]) -> list[tuple[str, list[LoggedDocument]]]:
    """A batch by its tasks, in their order."""
    found: dict[str, list[LoggedDocument]] = {}
    for document in documents:
        found.setdefault(document.task, []).append(document)
    return list(found.items())


def _chosen_task(tasks: Sequence[str], task: str | None) -> str:
    known = ", ".join(tasks)
    if task is None and len(tasks) == 1:
        return tasks[0]
    if task in tasks:
        return str(task)
    message = (
        f"this run is of a group; name one of its tasks: {known}"
        if task is None
        else f"there is no task {task!r} in this run; there are: {known}"
    )
    raise InvalidFilter(message, faults=[Fault(message, field="task")])


def _task_hashes(samples: Path, source: _Source) -> dict[str, str]:
    """lm-eval's hash of every task's samples."""
    names = ["index", "task", "failed", "doc_hash", "prompt_hash", "target_hash"]
    table = pyarrow.parquet.read_table(samples, columns=names, memory_map=False).sort_by("index")
    hashes: dict[str, list[str]] = {task: [] for task in source.tasks}
    with_failed = source.facts.failure_policy == FailurePolicy.SCORE_ZERO.value
    for batch in table.to_batches(max_chunksize=1000):
        for row in batch.to_pylist():
            if with_failed or not row["failed"]:
                text = row["doc_hash"].hex() + row["prompt_hash"].hex() + row["target_hash"].hex()
                hashes[row["task"]].append(text)
    return {
        task: task_hash(found, filters=len(filters_of(task, source.facts))) for task, found in hashes.items()
    }

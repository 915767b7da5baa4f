"""Reports of comparisons and decisions, and tables of items and samples, as files to download."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pyarrow
import pyarrow.parquet

from assay_evidence.comparison import Flip
from assay_evidence.decision import Judgement
from assay_evidence.report import FlipClass, FlipCounts
from metrics_svc.domain.evidence import ViewEvidence
from metrics_svc.domain.samples import ScoredSample
from metrics_svc.reports.latencies import RunLatencies, read_latencies
from metrics_svc.reports.markdown import comparison_markdown, decision_markdown
from metrics_svc.reports.material import (
    CandidateMaterial,
    ComparisonMaterial,
    DecisionMaterial,
    Example,
    ExampleSide,
)
from metrics_svc.reports.page import EXAMPLES_PER_CLASS, comparison_page, decision_page
from metrics_svc.reports.rows import (
    PairedRows,
    Row,
    SampleFile,
    SampleRows,
    pair_rows,
    pair_schema,
    sample_rows,
    sample_schema,
    write_parquet,
)
from metrics_svc.reports.tables import BYTE_ORDER_MARK, csv_lines
from metrics_svc.service.comparisons import ComparisonService, KeptComparison
from metrics_svc.service.decisions import DecisionService
from metrics_svc.service.downloads import Download, file_chunks, in_thread, one_chunk
from metrics_svc.service.evidence import EvidenceService
from metrics_svc.service.items import ItemFilter, ItemSamples, ItemService, candidate_place
from metrics_svc.service.policies import PolicyService
from metrics_svc.store import MetricsStore


class ReportFormat(StrEnum):
    """What a report is written as."""

    HTML = "html"
    MARKDOWN = "md"

    @property
    def media_type(self) -> str:
        """Its media type."""
        return "text/html; charset=utf-8" if self is ReportFormat.HTML else "text/markdown; charset=utf-8"


class TableFormat(StrEnum):
    """What a table is written as."""

    CSV = "csv"
    PARQUET = "parquet"

    @property
    def media_type(self) -> str:
        """Its media type."""
        return "text/csv; charset=utf-8" if self is TableFormat.CSV else "application/vnd.apache.parquet"


@dataclass(frozen=True, slots=True)
class _Table:
    """A table that is made part by part."""

    schema: pyarrow.Schema
    parts: Iterator[list[Row]]


class ExportService:
    """Writes what this service knows in forms for people and for other tools.

    One at a time of those that read whole tables, because they take memory and a processor.
    """

    def __init__(
        self,
        *,
        store: MetricsStore,
        evidence: EvidenceService,
        comparisons: ComparisonService,
        items: ItemService,
        decisions: DecisionService,
        policies: PolicyService,
    ) -> None:
        self._store = store
        self._evidence = evidence
        self._comparisons = comparisons
        self._items = items
        self._decisions = decisions
        self._policies = policies
        self._turn = asyncio.Lock()

    async def comparison_report(self, comparison_id: str, *, form: ReportFormat) -> Download:
        """The report of a comparison.

        Raises:
            UnknownComparison: there is none of this id.
            Unavailable: the store does not answer.
        """
        kept = await self._comparisons.kept(comparison_id)
        text = await self._written(kept, form, page=comparison_page, markdown=comparison_markdown)
        return _text(f"comparison-{comparison_id}.{form.value}", form, text)

    async def decision_report(self, decision_id: str, *, form: ReportFormat) -> Download:
        """The report of a decision, with the comparison that it stands on.

        Raises:
            UnknownDecision: there is none of this id.
            Unavailable: the store does not answer.
        """
        decision = await self._decisions.get(decision_id)
        policy = await self._policies.find(decision.policy.id)
        kept = await self._comparisons.kept(decision.comparison_id)

        def material(comparison: ComparisonMaterial) -> DecisionMaterial:
            return DecisionMaterial(
                id=decision.id,
                created_at=decision.created_at,
                created_by=decision.created_by,
                judgement=Judgement(**{name: getattr(decision, name) for name in Judgement.model_fields}),
                policy=policy,
                bundle_digest=decision.bundle_digest,
                comparison=comparison,
            )

        text = await self._written(
            kept,
            form,
            page=lambda comparison: decision_page(material(comparison)),
            markdown=lambda comparison: decision_markdown(material(comparison)),
        )
        return _text(f"decision-{decision_id}.{form.value}", form, text)

    async def items(self, comparison_id: str, *, candidate: str | None, form: TableFormat) -> Download:
        """The pairs of a comparison with one candidate, the first one if none is named.

        Raises:
            UnknownComparison: there is none of this id.
            InvalidFilter: it has no such candidate.
            Unavailable: the store does not answer.
        """
        kept = await self._comparisons.kept(comparison_id)
        place = candidate_place(kept, candidate)
        sides = [await self._evidence.get(one) for one in (kept.baseline, kept.candidates[place])]

        async def table(directory: Path) -> _Table:
            pairs = await self._store.files.fetch(kept.pairs[place], directory)
            files = [await self._sample_file(side, directory) for side in sides]
            return await asyncio.to_thread(_pair_table, pairs, files, directory)

        suffix = f"-{place + 1}" if len(kept.candidates) > 1 else ""
        return await self._table(f"items-{comparison_id}{suffix}.{form.value}", form, table)

    async def samples(self, view_id: str, *, form: TableFormat) -> Download:
        """The samples of a final run or scored view.

        Raises:
            UnknownRun: there is no such run.
            RunNotFinal: it has no final metrics.
            Unavailable: the store or eval-svc does not answer.
        """
        final = await self._evidence.final(view_id, field="run_id")

        async def table(directory: Path) -> _Table:
            return await asyncio.to_thread(
                _sample_table, await self._sample_file(final.evidence, directory), directory
            )

        return await self._table(f"samples-{view_id}.{form.value}", form, table)

    async def _table(
        self, name: str, form: TableFormat, table: Callable[[Path], Awaitable[_Table]]
    ) -> Download:
        async def chunks() -> AsyncIterator[bytes]:
            async with self._turn:
                with tempfile.TemporaryDirectory(prefix="assay-export-", ignore_cleanup_errors=True) as path:
                    made = await table(Path(path))
                    async for chunk in _table_chunks(made, form, Path(path)):
                        yield chunk

        return await Download.of(name, form.media_type, chunks())

    async def _sample_file(self, evidence: ViewEvidence, directory: Path) -> SampleFile:
        path = await self._store.files.fetch(evidence.samples_sha256, directory)
        return SampleFile(facts=evidence.facts, path=path)

    async def _written(
        self,
        kept: KeptComparison,
        form: ReportFormat,
        *,
        page: Callable[[ComparisonMaterial], str],
        markdown: Callable[[ComparisonMaterial], str],
    ) -> str:
        async with self._turn:
            if form is ReportFormat.MARKDOWN:
                return await asyncio.to_thread(markdown, _material(kept, {}, []))
            latencies = await self._latencies(kept)
            examples = [await self._examples(kept, place) for place in range(len(kept.candidates))]
            return await asyncio.to_thread(page, _material(kept, latencies, examples))

    async def _latencies(self, kept: KeptComparison) -> dict[str, RunLatencies]:
        """By identifier of the evidence. Runs of one report may share their requests."""
        found: dict[str, RunLatencies] = {}
        for name in (kept.baseline, *kept.candidates):
            evidence = await self._evidence.get(name)
            with tempfile.TemporaryDirectory(prefix="assay-report-", ignore_cleanup_errors=True) as path:
                requests = await self._store.files.fetch(evidence.requests_sha256, Path(path))
                found[name] = await asyncio.to_thread(read_latencies, requests)
        return found

    async def _examples(self, kept: KeptComparison, place: int) -> list[Example]:
        """A few items of every class of flips of the first metric that has any."""
        report = kept.report.candidates[place]
        metric = next((one.metric for one in report.quality if one.flips and _flipped(one.flips)), None)
        if metric is None:
            return []
        sides = [await ItemSamples.of(self._store, side) for side in (kept.report.baseline, report.candidate)]
        found = []
        for flip in (Flip.LOST, Flip.GAINED):
            table = await self._items.rows(kept, place, metric=metric, wanted=ItemFilter(flip=flip))
            for row in _some_of_each_class(table.to_pylist()):
                found.append(await _example(row, metric=metric, sides=sides))
        return found


def _flipped(flips: FlipCounts) -> int:
    return flips.lost + flips.gained


def _some_of_each_class(rows: Sequence[Row]) -> list[Row]:
    counts: dict[str | None, int] = {}
    chosen = []
    for row in rows:
        counts[row["flip_class"]] = counts.get(row["flip_class"], 0) + 1
        if counts[row["flip_class"]] <= EXAMPLES_PER_CLASS:
            chosen.append(row)
    return chosen


async def _example(row: Row, *, metric: str, sides: Sequence[ItemSamples]) -> Example:
    baseline, candidate = [
        await samples.sample(block=row[f"{side}_block"], position=row[f"{side}_position"])
        for side, samples in zip(("baseline", "candidate"), sides, strict=True)
    ]
    requests = baseline.record.requests
    kind = row["flip_class"]
    return Example(
        metric=metric,
        flip=Flip(row["flip"]).value,
        flip_class=None if kind is None else FlipClass(kind).value,
        doc_hash=baseline.record.doc_hash,
        prompt=requests[0].prompt if requests else None,
        target=baseline.record.target,
        unstable_under_aa=row["unstable"],
        baseline=_side(baseline, sides[0].value(baseline, metric=metric)),
        candidate=_side(candidate, sides[1].value(candidate, metric=metric)),
    )


def _side(sample: ScoredSample, value: float | None) -> ExampleSide:
    return ExampleSide(
        index=sample.record.index,
        value=value,
        response=sample.response_text(),
        filtered=sample.filtered(),
    )


def _text(name: str, form: ReportFormat, text: str) -> Download:
    return Download(name, form.media_type, one_chunk(text.encode()))


def _material(
    kept: KeptComparison, latencies: Mapping[str, RunLatencies], examples: Sequence[Sequence[Example]]
) -> ComparisonMaterial:
    comparison = kept.comparison
    return ComparisonMaterial(
        id=comparison.id,
        created_at=comparison.created_at,
        created_by=comparison.created_by,
        settings=comparison.settings,
        baseline=comparison.baseline,
        noise_floor_run=comparison.noise_floor_run,
        candidates=[
            CandidateMaterial(
                report=report,
                examples=examples[place] if examples else (),
                latencies=latencies.get(kept.candidates[place]),
            )
            for place, report in enumerate(comparison.candidates)
        ],
        baseline_latencies=latencies.get(kept.baseline),
    )


def _sample_table(file: SampleFile, directory: Path) -> _Table:
    rows = SampleRows(file, directory / "rows")
    return _Table(sample_schema(rows), sample_rows(rows))


def _pair_table(pairs: Path, files: Sequence[SampleFile], directory: Path) -> _Table:
    baseline, candidate = [
        SampleRows(file, directory / f"rows-{number}") for number, file in enumerate(files)
    ]
    table = pyarrow.parquet.read_table(pairs, memory_map=False)
    paired = PairedRows(pairs=table, baseline=baseline, candidate=candidate)
    return _Table(pair_schema(paired), pair_rows(paired))


async def _table_chunks(table: _Table, form: TableFormat, directory: Path) -> AsyncIterator[bytes]:
    if form is TableFormat.PARQUET:
        path = directory / "table.parquet"
        await asyncio.to_thread(write_parquet, path, table.schema, table.parts)
        async for chunk in file_chunks(path):
            yield chunk
        return
    names = table.schema.names
    yield (BYTE_ORDER_MARK + csv_lines([names])).encode()
    async for rows in in_thread(table.parts):
        lines = await asyncio.to_thread(csv_lines, [[row.get(name) for name in names] for row in rows])
        yield lines.encode()

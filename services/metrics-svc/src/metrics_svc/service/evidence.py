"""Evidence of final views: made while a view is scored, or from the scored log on first use."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay_chassis.errors import Fault
from assay_chassis.store import Change, DuplicateKey
from assay_evidence.facts import RunFacts
from assay_evidence.tables import EvidenceWriter, RunEvidence, TableFiles, read_run
from metrics_svc.domain.evidence import FinalView, ViewEvidence, new_evidence_id, sample_rows
from metrics_svc.domain.runs import RunMetrics, ScoringState
from metrics_svc.domain.samples import ScoredSample
from metrics_svc.domain.scoring import is_own, run_of
from metrics_svc.errors import RunNotFinal
from metrics_svc.service.runs import RunService, metrics_of
from metrics_svc.store import MetricsStore

COMPARABLE_STATES = ("Scoring", "Succeeded")
"""States of a run with final metrics; eval-svc may not yet have heard of them."""


class EvidenceTables:
    """The tables of one view, growing in a directory; memory holds one row group of each.

    Args:
        directory: where the files are written.
        task: what the run is of.
    """

    def __init__(self, directory: Path, *, task: str) -> None:
        self._writer = EvidenceWriter(directory)
        self._task = task
        self._blocks = 0

    async def add(self, samples: Sequence[ScoredSample]) -> None:
        """Take in the next block.

        Raises:
            MalformedTables: a number or a hash does not fit its column.
        """
        rows = sample_rows(samples, block=self._blocks, task=self._task)
        await asyncio.to_thread(self._writer.add, rows)
        self._blocks += 1

    async def close(self) -> TableFiles:
        """Finish the files."""
        return await asyncio.to_thread(self._writer.close)


@asynccontextmanager
async def growing_tables(*, task: str) -> AsyncIterator[EvidenceTables]:
    """Tables in a directory of their own, which goes away with the context."""
    with tempfile.TemporaryDirectory(prefix="assay-evidence-", ignore_cleanup_errors=True) as directory:
        yield EvidenceTables(Path(directory), task=task)


@dataclass(frozen=True, slots=True)
class FinalRun:
    """A final view and its run.

    Attributes:
        run: as eval-svc returns it.
        evidence: what comparisons read of the view.
    """

    run: Mapping[str, Any]
    evidence: ViewEvidence

    @property
    def facts(self) -> RunFacts:
        """All but the samples."""
        return self.evidence.facts


class EvidenceService:
    """Keeps the evidence of views and hands it out.

    Args:
        store: this service's data.
        runs: where runs and their metrics come from.
        release: version of this service, which facts name.
    """

    def __init__(self, *, store: MetricsStore, runs: RunService, release: str) -> None:
        self._store = store
        self._runs = runs
        self._release = release
        self._building = asyncio.Lock()

    async def keep(
        self, view: Mapping[str, Any], *, run: Mapping[str, Any], metrics: RunMetrics, tables: TableFiles
    ) -> str:
        """Keep what a view that ends now says; again does no harm.

        Args:
            view: the view's document.
            run: as eval-svc returns it at the end.
            metrics: the view's final metrics.
            tables: complete.

        Returns:
            The identifier under which the view's document has to name it.
        """
        served = metrics if is_own(view) else await self._runs.metrics(metrics.run_id)
        assert metrics.subject is not None, "known once anything was scored"
        final = FinalView(
            run=run,
            metrics=metrics,
            subject=metrics.subject,
            served=served,
            scoring_id=None if is_own(view) else str(view["_id"]),
            scoring=None if is_own(view) else json.loads(view["scoring"]),
            expected=view["expected_samples"],
            release=self._release,
        )
        samples, requests = [await self._store.files.put(path) for path in (tables.samples, tables.requests)]
        facts = final.facts()
        identifier = new_evidence_id(facts, samples_sha256=samples, requests_sha256=requests)
        document = {
            "_id": identifier,
            "view_id": view["_id"],
            "facts": facts.model_dump_json(),
            "samples_sha256": samples,
            "requests_sha256": requests,
        }
        try:
            await self._store.evidence.insert(document)
        except DuplicateKey:  # an earlier attempt came as far as here
            return identifier
        return identifier

    async def final(self, view_id: str, *, field: str) -> FinalRun:
        """A final view, by its identifier or that of its run, with its evidence.

        Args:
            view_id: a run, which means its own scoring, or a scored view.
            field: field of the request that names it.

        Raises:
            UnknownRun: there is no such run or view.
            RunNotFinal: it has no final metrics.
            Unavailable: eval-svc or the store does not answer.
        """
        view = await self._store.scorings.get(view_id)
        run_id = view_id if view is None else run_of(view)
        run = await self._runs.run(run_id, field=field)
        state = ScoringState.SCORING if view is None else ScoringState(view["state"])
        if view is None or state is not ScoringState.FINAL or run["state"] not in COMPARABLE_STATES:
            named = f"run {run_id}" if view_id == run_id else f"scored view {view_id}: its run"
            message = (
                f"{named} is {run['state']} and its metrics are {state.value}; only a Succeeded run can be "
                "compared"
            )
            raise RunNotFinal(message, faults=[Fault(message, field=field)])
        evidence_id = view.get("evidence_id") or await self._build(view_id, run)
        return FinalRun(run=run, evidence=await self.get(evidence_id))

    async def get(self, evidence_id: str) -> ViewEvidence:
        """Evidence by its identifier, which a document of this service names."""
        found = await self._store.evidence.get(evidence_id)
        assert found is not None, f"evidence {evidence_id} is gone"
        return ViewEvidence(
            id=found["_id"],
            facts=RunFacts.model_validate_json(found["facts"]),
            samples_sha256=found["samples_sha256"],
            requests_sha256=found["requests_sha256"],
        )

    async def _build(self, view_id: str, run: Mapping[str, Any]) -> str:
        """Evidence of a view that became final before there was any, from its scored log."""
        async with self._building:  # a long log is read once, not once per request
            view = await self._store.scorings.get(view_id)
            assert view is not None
            if (known := view.get("evidence_id")) is not None:
                return str(known)
            metrics = metrics_of(view)
            task = metrics.subject.task if metrics.subject else ""
            async with growing_tables(task=task) as tables:
                async for block in self._store.scored_log(view_id).blocks():
                    await tables.add(block.samples)
                files = await tables.close()
                evidence_id = await self.keep(view, run=run, metrics=metrics, tables=files)
            # Another instance may have been quicker; whichever is named first stays for good.
            change = Change(set={"evidence_id": evidence_id})
            if await self._store.scorings.update(view_id, change, guard={"evidence_id": None}):
                return evidence_id
            named = await self._store.scorings.get(view_id)
            assert named is not None
            return str(named["evidence_id"])

    async def read(self, evidence: ViewEvidence, directory: Path) -> RunEvidence:
        """The samples behind evidence, from copies of its tables in ``directory``."""
        samples = await self._store.files.fetch(evidence.samples_sha256, directory)
        requests = await self._store.files.fetch(evidence.requests_sha256, directory)
        return await asyncio.to_thread(read_run, evidence.facts, samples, requests)

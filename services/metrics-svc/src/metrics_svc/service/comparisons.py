"""Comparisons of runs: made once for the same inputs, and kept."""

import asyncio
import hashlib
import json
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet
from pydantic import BaseModel

from assay_chassis.errors import Fault
from assay_chassis.identifiers import new_id
from assay_chassis.outbox import EventWriter
from assay_chassis.store import Document, DuplicateKey
from assay_contracts.metrics_events import ComparisonCreated
from assay_evidence.comparison import ComparisonOutcome, compare
from assay_evidence.policy import Policy, PolicySpec
from assay_evidence.report import ComparisonReport, ComparisonSettings
from metrics_svc.domain.runs import now
from metrics_svc.errors import RepeatedRun, UnknownComparison
from metrics_svc.service.clusters import ClusterService
from metrics_svc.service.evidence import EvidenceService, FinalRun
from metrics_svc.store import MetricsStore


class PolicyReference(BaseModel):
    """A version of a policy."""

    id: str
    name: str
    version: int
    digest: str

    @classmethod
    def of(cls, policy: Policy) -> "PolicyReference":
        """The policy by name."""
        return cls(id=policy.id, name=policy.name, version=policy.version, digest=policy.digest)


class Comparison(ComparisonReport):
    """A stored comparison. ``policy``: whose margins it has, where it was made for a decision."""

    id: str
    policy: PolicyReference | None = None
    created_at: str
    created_by: str


@dataclass(frozen=True, slots=True)
class ComparisonInputs:
    """All that a comparison is a function of; final views never change.

    Attributes:
        baseline, noise_floor: runs or scored views.
        candidates: the same; at least one.
        policy: whose rules give margins, alpha and directions.
    """

    baseline: str
    candidates: tuple[str, ...]
    noise_floor: str | None
    settings: ComparisonSettings
    policy: Policy | None = None

    @property
    def digest(self) -> str:
        """The same for the same inputs."""
        content = {
            "baseline": self.baseline,
            "candidates": self.candidates,
            "noise_floor": self.noise_floor,
            "settings": self.settings.model_dump(mode="json"),
            "policy": self.policy and self.policy.id,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def candidate_field(self, place: int) -> str:
        """Field of the request that names a candidate; of a decision there is one."""
        return f"candidate_run_ids.{place}" if self.policy is None else "candidate_run_id"

    def check(self) -> None:
        """Refuse a run or view that is named twice.

        Raises:
            RepeatedRun: names the field.
        """
        named = {self.baseline: "baseline_run_id"}
        others = [(each, self.candidate_field(place)) for place, each in enumerate(self.candidates)]
        if self.noise_floor is not None:
            others.append((self.noise_floor, "noise_floor_run_id"))
        for view_id, field in others:
            if view_id in named:
                raise _repeated(view_id, field=field, other=named[view_id])
            named[view_id] = field


@dataclass(frozen=True, slots=True)
class KeptComparison:
    """A comparison and where what it stands on lies.

    Attributes:
        report: what the comparison says, without what it got when it was stored.
        task: what the baseline ran; of a group, the group.
        baseline, candidates, noise_floor: identifiers of evidence.
        pairs: sha256 of the pairs with each candidate.
        clusters: sha256 of the labels of the clusters.
        is_new: whether it was made by this call.
    """

    comparison: Comparison
    report: ComparisonReport
    task: str
    baseline: str
    candidates: list[str]
    noise_floor: str | None
    pairs: list[str]
    clusters: str | None
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class ComparisonPage:
    """Part of the comparisons, newest first."""

    items: list[Comparison]
    next_cursor: str | None


class _ComparedRuns(NamedTuple):
    baseline: FinalRun
    candidates: Sequence[FinalRun]
    noise_floor: FinalRun | None


class ComparisonService:
    """Compares final runs and keeps the results.

    One comparison at a time in a process: it holds the columns of every run in memory.
    """

    def __init__(
        self,
        *,
        store: MetricsStore,
        evidence: EvidenceService,
        clusters: ClusterService,
        events: EventWriter,
    ) -> None:
        self._store = store
        self._evidence = evidence
        self._clusters = clusters
        self._events = events
        self._turn = asyncio.Lock()

    async def create(self, inputs: ComparisonInputs, *, client: str) -> KeptComparison:
        """Compare; the same inputs always give the same comparison.

        Raises:
            RepeatedRun: a run is named twice.
            UnknownRun: there is no such run.
            RunNotFinal: a run has no final metrics.
            UnknownColumn: the baseline's rows have no such cluster column.
            Unavailable: a peer or the store does not answer.
        """
        inputs.check()
        if (known := await self._known(inputs)) is not None:
            return known
        runs = await self._runs(inputs)
        async with self._turn:
            if (known := await self._known(inputs)) is not None:  # asked for twice at once
                return known
            return await self._make(inputs, runs, client=client)

    async def _runs(self, inputs: ComparisonInputs) -> _ComparedRuns:
        baseline = await self._evidence.final(inputs.baseline, field="baseline_run_id")
        candidates = [
            await self._evidence.final(view_id, field=inputs.candidate_field(place))
            for place, view_id in enumerate(inputs.candidates)
        ]
        noise_floor = None
        if inputs.noise_floor is not None:
            noise_floor = await self._evidence.final(inputs.noise_floor, field="noise_floor_run_id")
            if noise_floor.facts.run_id == baseline.facts.run_id:
                # Another scoring of the same responses has no noise at all.
                raise _repeated(baseline.facts.run_id, field="noise_floor_run_id", other="baseline_run_id")
        if inputs.policy is not None and candidates[0].facts.run_id == baseline.facts.run_id:
            raise _repeated(baseline.facts.run_id, field="candidate_run_id", other="baseline_run_id")
        return _ComparedRuns(baseline, candidates, noise_floor)

    async def _known(self, inputs: ComparisonInputs) -> KeptComparison | None:
        found = await self._store.comparisons.find_one({"inputs": inputs.digest})
        return None if found is None else _kept(found)

    async def _make(
        self,
        inputs: ComparisonInputs,
        runs: _ComparedRuns,
        *,
        client: str,
    ) -> KeptComparison:
        baseline, candidates, noise_floor = runs
        column = inputs.settings.cluster_column
        labels = None if column is None else await self._clusters.labels(baseline, column=column)
        with tempfile.TemporaryDirectory(prefix="assay-comparison-", ignore_cleanup_errors=True) as name:
            directory = Path(name)
            second = None
            if noise_floor is not None:
                second = await self._evidence.read(noise_floor.evidence, directory)
            outcome: ComparisonOutcome = await asyncio.to_thread(
                compare,
                await self._evidence.read(baseline.evidence, directory),
                [await self._evidence.read(one.evidence, directory) for one in candidates],
                settings=inputs.settings,
                policy=inputs.policy,
                noise_floor=second,
                clusters=labels,
            )
            # The files come first, under their digests: after a crash in between they are found there.
            pairs = [await self._keep_pairs(table, directory) for table in outcome.pairs]
            clusters = None if labels is None else await self._clusters.keep(labels, directory)
        comparison_id = new_id("cmp")
        report = outcome.report.model_dump_json()
        ComparisonReport.model_validate_json(report)  # what cannot be read again must not be kept
        reference = inputs.policy and PolicyReference.of(inputs.policy).model_dump()
        document: Document = {
            "_id": comparison_id,
            "sort_key": comparison_id,
            "inputs": inputs.digest,
            "method_id": baseline.facts.method_id,
            "task": baseline.facts.task,
            "policy": reference,
            "report": zlib.compress(report.encode()),
            "baseline": baseline.evidence.id,
            "candidates": [one.evidence.id for one in candidates],
            "noise_floor": noise_floor and noise_floor.evidence.id,
            "pairs": pairs,
            "clusters": clusters,
            "created_at": now(),
            "created_by": client,
        }
        event = _event(comparison_id, outcome.report)
        try:
            stored = await self._store.comparisons.insert(document, events=self._events(event))
        except DuplicateKey:  # another instance was quicker
            known = await self._known(inputs)
            assert known is not None
            return known
        return _kept(stored, is_new=True)

    async def _keep_pairs(self, table: pyarrow.Table, directory: Path) -> str:
        path = directory / new_id("pairs")
        await asyncio.to_thread(pyarrow.parquet.write_table, table, path, compression="zstd")
        return await self._store.files.put(path)

    async def get(self, comparison_id: str) -> Comparison:
        """One comparison.

        Raises:
            UnknownComparison: there is none of this id.
        """
        return (await self.kept(comparison_id)).comparison

    async def kept(self, comparison_id: str) -> KeptComparison:
        """One comparison and where what it stands on lies.

        Raises:
            UnknownComparison: there is none of this id.
        """
        found = await self._store.comparisons.get(comparison_id)
        if found is None:
            raise UnknownComparison(f"there is no comparison {comparison_id!r}")
        return _kept(found)

    async def page(self, *, method_id: str | None = None, cursor: str | None, limit: int) -> ComparisonPage:
        """Comparisons, newest first; only those whose baseline ran a method, if one is given."""
        query = {} if method_id is None else {"method_id": method_id}
        page = await self._store.comparisons.newest(query, prefix="cmp", cursor=cursor, limit=limit)
        return ComparisonPage(
            items=[_kept(document).comparison for document in page.items], next_cursor=page.next_cursor
        )


def settings_of(policy: PolicySpec, *, cluster_column: str | None) -> ComparisonSettings:
    """How runs are compared for a decision. Margins are those of the policy's rules."""
    return ComparisonSettings(
        alpha=policy.alpha,
        power=policy.power,
        coverage_floor=policy.coverage_floor,
        cluster_column=cluster_column,
    )


def _repeated(run_id: str, *, field: str, other: str) -> RepeatedRun:
    message = f"{run_id} is named twice ({other} and {field}); name different runs"
    return RepeatedRun(message, faults=[Fault(message, field=field)])


def _event(comparison_id: str, report: ComparisonReport) -> ComparisonCreated:
    first = report.candidates[0]
    return ComparisonCreated(
        comparison_id=comparison_id,
        baseline_run_id=report.baseline.run_id,
        candidate_run_id=first.candidate.run_id,
        paired_items=first.coverage.paired,
        candidate_run_ids=[one.candidate.run_id for one in report.candidates],
        valid=all(one.valid for one in report.candidates),
    )


def _kept(document: Mapping[str, Any], *, is_new: bool = False) -> KeptComparison:
    report = ComparisonReport.model_validate_json(zlib.decompress(document["report"]))
    comparison = Comparison(
        **dict(report),
        id=document["_id"],
        policy=document["policy"],
        created_at=document["created_at"],
        created_by=document["created_by"],
    )
    return KeptComparison(
        comparison=comparison,
        report=report,
        task=document["task"],
        baseline=document["baseline"],
        candidates=document["candidates"],
        noise_floor=document["noise_floor"],
        pairs=document["pairs"],
        clusters=document["clusters"],
        is_new=is_new,
    )

"""Decisions: a candidate judged by a policy, kept for good with the evidence that it stands on."""

import hashlib
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay_chassis.identifiers import new_id
from assay_chassis.outbox import EventWriter
from assay_chassis.store import Document, DuplicateKey
from assay_contracts.metrics_events import DecisionMade
from assay_evidence.bundle import BundleContents, BundledRun, library_versions
from assay_evidence.decision import Judgement, Verdict, judge
from assay_evidence.policy import Policy
from assay_evidence.report import ComparedRun
from metrics_svc.domain.runs import now
from metrics_svc.errors import UnknownDecision
from metrics_svc.service.bundles import KeptBundle, bundle_chunks, keep_bundle
from metrics_svc.service.clusters import ClusterService
from metrics_svc.service.comparisons import (
    ComparisonInputs,
    ComparisonService,
    KeptComparison,
    PolicyReference,
    settings_of,
)
from metrics_svc.service.evidence import EvidenceService
from metrics_svc.service.policies import PolicyService
from metrics_svc.store import MetricsStore


class Decision(Judgement):
    """A stored decision.

    Attributes:
        policy: the version that judged.
        comparison_id: the comparison that was judged; it has the policy's margins.
        bundle_digest: identifies the evidence bundle.
    """

    id: str
    policy: PolicyReference
    baseline: ComparedRun
    candidate: ComparedRun
    comparison_id: str
    bundle_digest: str
    created_at: str
    created_by: str


@dataclass(frozen=True, slots=True)
class DecisionInputs:
    """What is to be decided.

    Attributes:
        baseline, candidate, noise_floor: runs or scored views.
        policy: an identifier, ``name`` (its latest version) or ``name@version``.
    """

    baseline: str
    candidate: str
    policy: str
    noise_floor: str | None
    cluster_column: str | None

    def digest(self, policy: Policy) -> str:
        """The same for the same runs and the same version of the policy."""
        content = [self.baseline, self.candidate, policy.id, self.noise_floor, self.cluster_column]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class MadeDecision:
    """A decision, and whether it is new."""

    decision: Decision
    is_new: bool


@dataclass(frozen=True, slots=True)
class DecisionPage:
    """Part of the decisions, newest first."""

    items: list[Decision]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A bundle to hand out: its digest, its bytes in all, and the bytes in pieces."""

    digest: str
    size: int
    chunks: AsyncIterator[bytes]


class DecisionService:
    """Judges candidates and keeps the judgements."""

    def __init__(
        self,
        *,
        store: MetricsStore,
        comparisons: ComparisonService,
        policies: PolicyService,
        evidence: EvidenceService,
        clusters: ClusterService,
        events: EventWriter,
    ) -> None:
        self._store = store
        self._comparisons = comparisons
        self._policies = policies
        self._evidence = evidence
        self._clusters = clusters
        self._events = events

    async def create(self, inputs: DecisionInputs, *, client: str) -> MadeDecision:
        """Decide; the same inputs always give the same decision.

        Raises:
            UnknownPolicy: there is no such policy.
            UnknownRun, RunNotFinal, RepeatedRun, UnknownColumn, Unavailable: as for comparisons.
            EvidenceTooLarge: the evidence does not fit into a bundle.
        """
        policy = await self._policies.find(inputs.policy, field="policy")
        key = inputs.digest(policy)
        if (known := await self._store.decisions.find_one({"inputs": key})) is not None:
            return MadeDecision(_decision(known), is_new=False)
        compared = await self._comparisons.create(
            ComparisonInputs(
                baseline=inputs.baseline,
                candidates=(inputs.candidate,),
                noise_floor=inputs.noise_floor,
                settings=settings_of(policy, cluster_column=inputs.cluster_column),
                policy=policy,
            ),
            client=client,
        )
        (report,) = compared.report.candidates
        judgement = judge(report, policy)
        decision_id, created_at = new_id("dec"), now()
        named = {"id": decision_id, "comparison_id": compared.comparison.id, "created_at": created_at}
        bundle = await self._bundle(compared, policy=policy, judgement=judgement, named=named)
        decision = Decision(
            **dict(judgement),
            id=decision_id,
            policy=PolicyReference.of(policy),
            baseline=compared.report.baseline,
            candidate=report.candidate,
            comparison_id=compared.comparison.id,
            bundle_digest=bundle.digest,
            created_at=created_at,
            created_by=client,
        )
        document: Document = {
            "_id": decision_id,
            "sort_key": decision_id,
            "inputs": key,
            "candidate_run_id": report.candidate.run_id,
            "verdict": decision.verdict.value,
            "decision": decision.model_dump_json(),
            "bundle": bundle.as_document(),
        }
        try:
            stored = await self._store.decisions.insert(document, events=self._events(_event(decision)))
        except DuplicateKey:  # decided twice at once; the first one stays
            known = await self._store.decisions.find_one({"inputs": key})
            assert known is not None
            return MadeDecision(_decision(known), is_new=False)
        return MadeDecision(_decision(stored), is_new=True)

    async def _bundle(
        self, compared: KeptComparison, *, policy: Policy, judgement: Judgement, named: Mapping[str, str]
    ) -> KeptBundle:
        identifiers = {
            "baseline": compared.baseline,
            "candidate": compared.candidates[0],
            "noise_floor": compared.noise_floor,
        }
        runs: dict[str, BundledRun] = {}
        tables: dict[str, str] = {}
        with tempfile.TemporaryDirectory(prefix="assay-decision-", ignore_cleanup_errors=True) as name:
            directory = Path(name)
            for role, evidence_id in identifiers.items():
                if evidence_id is None:
                    continue
                evidence = await self._evidence.get(evidence_id)
                runs[role] = BundledRun(
                    facts=evidence.facts,
                    samples=await self._store.files.fetch(evidence.samples_sha256, directory),
                    requests=await self._store.files.fetch(evidence.requests_sha256, directory),
                )
                tables[f"{role}/samples.parquet"] = evidence.samples_sha256
                tables[f"{role}/requests.parquet"] = evidence.requests_sha256
            clusters = None
            if compared.clusters is not None:
                clusters = await self._clusters.read(compared.clusters, directory)
            contents = BundleContents(
                baseline=runs["baseline"],
                candidate=runs["candidate"],
                noise_floor=runs.get("noise_floor"),
                policy=policy,
                settings=compared.report.settings,
                report=compared.report,
                judgement=judgement,
                versions=library_versions(),
                clusters=clusters,
                decision=dict(named),
            )
            return await keep_bundle(self._store.files, contents, tables=tables)

    async def get(self, decision_id: str) -> Decision:
        """One decision.

        Raises:
            UnknownDecision: there is none of this id.
        """
        return _decision(await self._document(decision_id))

    async def bundle(self, decision_id: str) -> BundleFile:
        """The evidence bundle of a decision; every download has the same bytes.

        Raises:
            UnknownDecision: there is no decision of this id.
        """
        kept = KeptBundle.of((await self._document(decision_id))["bundle"])
        return BundleFile(
            digest=kept.digest, size=kept.size, chunks=bundle_chunks(self._store.files, kept.parts)
        )

    async def _document(self, decision_id: str) -> Document:
        found = await self._store.decisions.get(decision_id)
        if found is None:
            raise UnknownDecision(f"there is no decision {decision_id!r}")
        return found

    async def page(
        self, *, candidate_run_id: str | None, verdict: Verdict | None, cursor: str | None, limit: int
    ) -> DecisionPage:
        """Decisions, newest first: all, those on a run, those with a verdict, or both."""
        query: dict[str, str] = {}
        if candidate_run_id is not None:
            query["candidate_run_id"] = candidate_run_id
        if verdict is not None:
            query["verdict"] = verdict.value
        page = await self._store.decisions.newest(query, prefix="dec", cursor=cursor, limit=limit)
        return DecisionPage(
            items=[_decision(document) for document in page.items], next_cursor=page.next_cursor
        )


def _event(decision: Decision) -> DecisionMade:
    return DecisionMade(
        decision_id=decision.id,
        verdict=decision.verdict.value,
        valid=decision.valid,
        summary=decision.summary,
        baseline_run_id=decision.baseline.run_id,
        candidate_run_id=decision.candidate.run_id,
        policy_name=decision.policy.name,
        policy_version=decision.policy.version,
        policy_digest=decision.policy.digest,
        comparison_id=decision.comparison_id,
        bundle_digest=decision.bundle_digest,
        samples_needed=decision.samples_needed,
    )


def _decision(document: Mapping[str, Any]) -> Decision:
    return Decision.model_validate_json(document["decision"])

"""Scorings, evidence, comparisons, policies and decisions in metrics-svc's own database.

Metric names contain dots, so maps from metric names are stored as JSON text or as part of a packed block,
never as field names.
"""

from dataclasses import dataclass

from assay_chassis.store import Collection, Index, Store
from metrics_svc.store.files import EvidenceFiles
from metrics_svc.store.scored import ScoredLog

_SCORINGS = (
    Index(("active", "sort_key")),
    Index(("run_id", "sort_key")),
    Index(("method_id", "finished_key")),
)
_SCORED = (
    Index(("run_id", "sort_key")),
    Index(("run_id", "stretches")),
)
_COMPARISONS = (
    Index(("inputs",), unique=True),
    Index(("sort_key",)),
    Index(("method_id", "sort_key")),
)
_POLICIES = (
    Index(("name", "version"), unique=True),
    Index(("name", "sort_key")),
    Index(("version", "sort_key")),
)
_DECISIONS = (
    Index(("inputs",), unique=True),
    Index(("sort_key",)),
    Index(("candidate_run_id", "sort_key")),
    Index(("verdict", "sort_key")),
)


@dataclass(frozen=True, slots=True)
class MetricsStore:
    """The collections of metrics-svc.

    Attributes:
        scorings: one document per scored view, see ``domain.scoring``.
        scored: scored blocks, one per view and block of the run's sample log; ``run_id`` holds the view's id,
            which of a run's own view is the run's.
        evidence: what comparisons read of a view, see ``domain.evidence``; immutable, named by content.
        comparisons: reports; ``inputs`` is the digest of all that a report is a function of.
        policies: one immutable document per version of a policy.
        decisions: judgements and what they stand on; ``inputs`` as for comparisons.
        files: tables of evidence, pairs of comparisons and labels of clusters.
    """

    scorings: Collection
    scored: Collection
    evidence: Collection
    comparisons: Collection
    policies: Collection
    decisions: Collection
    files: EvidenceFiles

    @classmethod
    async def open(cls, store: Store) -> "MetricsStore":
        """Open the collections and create their indexes."""
        return cls(
            scorings=await store.collection("scorings", _SCORINGS),
            scored=await store.collection("scored_blocks", _SCORED),
            evidence=await store.collection("evidence"),
            # Not "comparisons": reports of earlier releases lie there, under another unique key.
            comparisons=await store.collection("comparison_reports", _COMPARISONS),
            policies=await store.collection("policies", _POLICIES),
            decisions=await store.collection("decisions", _DECISIONS),
            files=EvidenceFiles(store.files("evidence_files")),
        )

    def scored_log(self, view_id: str) -> ScoredLog:
        """The scored blocks of one view."""
        return ScoredLog(self.scored, view_id=view_id)

"""What two runs say of themselves, and whether their tables bear it out."""

from assay_evidence.facts import RunFacts
from assay_evidence.report import Finding, Severity
from assay_evidence.tables import RunEvidence


def fact_findings(baseline: RunEvidence, candidate: RunEvidence) -> list[Finding]:
    """Findings about the runs as wholes; of one that stopped early with all the samples that it has."""
    found = []
    for side, run in (("baseline", baseline), ("candidate", candidate)):
        found += _table_findings(side, run)
    first, second = baseline.facts, candidate.facts
    found += _question_findings(first, second)
    found += _artifact_findings(first, second)
    if _is_same_run(baseline, candidate):
        found.append(
            Finding(
                code="same-run",
                severity=Severity.INVALID,
                message=(
                    "both sides are one run: every request was sent and answered at the same nanosecond; "
                    "name the run of the candidate"
                ),
            )
        )
    for side, facts in (("baseline", first), ("candidate", second)):
        if facts.canonical is False:
            notes = facts.plan.get("notes")
            why = "; ".join(map(str, notes)) if isinstance(notes, list) and notes else "see its deviations"
            found.append(
                Finding(
                    code="not-canonical",
                    severity=Severity.INFO,
                    message=f"the {side} departs from the task's own definition: {why}",
                    details={"side": side},
                )
            )
    return found


def _is_same_run(baseline: RunEvidence, candidate: RunEvidence) -> bool:
    """Whether the requests of both have equal times: clocks of nanoseconds never agree by chance."""
    first, second = (run.requests(["sent_ns", "done_ns"]) for run in (baseline, candidate))
    has_times = len(first) > 0 and first.column("sent_ns").null_count < len(first)
    return has_times and bool(first.equals(second))


def _table_findings(side: str, run: RunEvidence) -> list[Finding]:
    """Whether the table holds what the run counted, each document once."""
    found = []
    failed = int(run.failed.sum())
    counted = (run.facts.samples_scored, run.facts.samples_failed)
    if counted != (len(run) - failed, failed):
        found.append(
            Finding(
                code="table-incomplete",
                severity=Severity.INVALID,
                message=(
                    f"the {side} counted {counted[0]} scored and {counted[1]} failed samples, its table has "
                    f"{len(run) - failed} and {failed}"
                ),
                details={"side": side, "rows": len(run)},
            )
        )
    repeated = int((run.index[1:] == run.index[:-1]).sum())  # they ascend
    if repeated:
        found.append(
            Finding(
                code="repeated-documents",
                severity=Severity.INVALID,
                message=f"the table of the {side} has {repeated} rows of documents that it already has",
                details={"side": side, "rows": repeated},
            )
        )
    return found


def _question_findings(first: RunFacts, second: RunFacts) -> list[Finding]:
    found = []
    if first.task != second.task:
        found.append(
            Finding(
                code="different-task",
                severity=Severity.INVALID,
                message=(
                    f"the baseline ran task {first.task!r}, the candidate {second.task!r}; compare runs of "
                    "the same method"
                ),
            )
        )
    if first.snapshot_digest != second.snapshot_digest:
        found.append(
            Finding(
                code="snapshots-differ",
                severity=Severity.WARNING,
                message=(
                    f"the runs read different snapshots ({first.dataset_name} {first.snapshot_digest[:12]}, "
                    f"{second.dataset_name} {second.snapshot_digest[:12]}); only equal items are paired"
                ),
            )
        )
    if first.recipe_hash != second.recipe_hash:
        found.append(
            Finding(
                code="recipes-differ",
                severity=Severity.WARNING,
                message=(
                    f"the runs used different recipes ({first.method_name} version {first.method_version}, "
                    f"{second.method_name} version {second.method_version})"
                ),
            )
        )
    if first.scoring != second.scoring or (first.scoring_id is None) != (second.scoring_id is None):
        found.append(
            Finding(
                code="scored-otherwise",
                severity=Severity.INVALID,
                message=(
                    "the two sides are scored in different ways, so that metrics of one name are not the "
                    "same; compare runs, or views of both with the same scoring"
                ),
            )
        )
    return found


def _artifact_findings(first: RunFacts, second: RunFacts) -> list[Finding]:
    digests = first.artifact.get("sha256"), second.artifact.get("sha256")
    is_same = first.artifact.get("id") == second.artifact.get("id") or (
        digests[0] is not None and digests[0] == digests[1]
    )
    if not is_same:
        return []
    if first.backend != second.backend:
        return [
            Finding(
                code="same-weights",
                severity=Severity.INFO,
                message=f"one artifact file on two backends, {first.backend} and {second.backend}",
            )
        ]
    return [
        Finding(
            code="same-artifact",
            severity=Severity.WARNING,
            message="both sides are the same artifact: a model is compared with itself",
        )
    ]

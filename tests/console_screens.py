"""Every screen of the console that has an address, by a name for it."""

from collections.abc import Callable
from typing import Any

SCREENS: dict[str, Callable[[Any], str]] = {
    "datasets": lambda on: "/datasets",
    "dataset-new": lambda on: "/datasets/new",
    "dataset": lambda on: f"/datasets/{on.dataset.id}",
    "dataset-methods": lambda on: f"/datasets/{on.dataset.id}/methods",
    "dataset-data": lambda on: f"/datasets/{on.dataset.id}/data",
    "methods": lambda on: "/methods",
    "method-new": lambda on: f"/methods/new?dataset_id={on.dataset.id}",
    "method": lambda on: f"/methods/{on.method.id}",
    "artifacts": lambda on: "/artifacts",
    "artifact-new": lambda on: "/artifacts/new",
    "artifact": lambda on: f"/artifacts/{on.base.plan.artifact['id']}",
    "wizard-1": lambda on: "/evaluations/new",
    "wizard-2": lambda on: f"/evaluations/new?dataset_id={on.dataset.id}",
    "wizard-3": lambda on: f"/evaluations/new?dataset_id={on.dataset.id}&method_id={on.method.id}",
    "evaluations": lambda on: "/evaluations",
    "evaluation": lambda on: f"/evaluations/{on.base.id}",
    "evaluation-quality": lambda on: f"/evaluations/{on.base.id}?tab=quality",
    "evaluation-runtime": lambda on: f"/evaluations/{on.base.id}?tab=runtime",
    "evaluation-samples": lambda on: f"/evaluations/{on.base.id}?tab=samples",
    "sample": lambda on: f"/evaluations/{on.base.id}/samples/0",
    "evaluation-logs": lambda on: f"/evaluations/{on.base.id}?tab=logs",
    "evaluation-plan": lambda on: f"/evaluations/{on.base.id}?tab=plan",
    "comparisons": lambda on: "/comparisons",
    "comparison-new": lambda on: f"/comparisons/new?run={on.base.id}&run={on.candidate.id}",
    "comparison": lambda on: f"/comparisons/{on.comparison.id}",
    "comparison-items": lambda on: f"/comparisons/{on.comparison.id}/items",
    "decisions": lambda on: "/decisions",
    "decision": lambda on: f"/decisions/{on.decision.id}",
    "policies": lambda on: "/policies",
    "policy": lambda on: "/policies/default",
    "trends": lambda on: f"/trends?method_id={on.method.id}",
    "health": lambda on: "/health",
    "keys": lambda on: "/keys",
}
"""The path of each under `/console`, from what is on the platform."""

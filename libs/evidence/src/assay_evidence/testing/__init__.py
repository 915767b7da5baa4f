"""Evidence made by seed, for tests and benchmarks; and ways to spoil it."""

from assay_evidence.testing.plans import digest, synthetic_facts, synthetic_plan
from assay_evidence.testing.runs import (
    ACCURACY,
    CONTINUOUS,
    FLEXIBLE,
    STRICT,
    Changes,
    SyntheticRun,
    Task,
    synthetic_run,
)
from assay_evidence.testing.serving import Speed

__all__ = [
    "ACCURACY",
    "CONTINUOUS",
    "FLEXIBLE",
    "STRICT",
    "Changes",
    "Speed",
    "SyntheticRun",
    "Task",
    "digest",
    "synthetic_facts",
    "synthetic_plan",
    "synthetic_run",
]

"""Whether two runs answer the same question: what they share, how their plans differ, what failed."""

from assay_evidence.validity.coverage import Sides, coverage_findings, coverage_of
from assay_evidence.validity.facts import fact_findings
from assay_evidence.validity.plans import plan_differences, plan_findings

__all__ = ["Sides", "coverage_findings", "coverage_of", "fact_findings", "plan_differences", "plan_findings"]

"""From a comparison and a policy to a verdict, with every reason. A pure function of the evidence."""

from assay_evidence.decision.judging import judge
from assay_evidence.decision.verdict import Judgement, Reason, Verdict

__all__ = ["Judgement", "Reason", "Verdict", "judge"]

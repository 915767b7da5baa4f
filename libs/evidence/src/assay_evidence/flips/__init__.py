"""The items that flipped: why, and where their responses part."""

from assay_evidence.flips.analysis import CLASSES, analyse, classify
from assay_evidence.flips.responses import ResponseChanges, response_changes

__all__ = ["CLASSES", "ResponseChanges", "analyse", "classify", "response_changes"]

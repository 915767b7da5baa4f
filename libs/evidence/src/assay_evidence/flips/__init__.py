"""The items that flipped: why, and where their responses part."""

from assay_evidence.flips.analysis import CLASSES, FlipClassifier, analyse
from assay_evidence.flips.responses import ResponseChanges, response_changes

__all__ = ["CLASSES", "FlipClassifier", "ResponseChanges", "analyse", "response_changes"]

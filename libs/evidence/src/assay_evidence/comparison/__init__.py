"""Compares runs: what they share, quality, flips, noise, runtime, and the table of pairs."""

from assay_evidence.comparison.compare import ComparisonOutcome, compare
from assay_evidence.comparison.pairs import PAIR_COLUMNS, Flip, select_pairs

__all__ = ["PAIR_COLUMNS", "ComparisonOutcome", "Flip", "compare", "select_pairs"]

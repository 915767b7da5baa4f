"""Runtime and energy of two runs: their own metrics, differences and ratios with intervals, provenance."""

from assay_evidence.runtime.compare import compare_energy, compare_runtime

__all__ = ["compare_energy", "compare_runtime"]

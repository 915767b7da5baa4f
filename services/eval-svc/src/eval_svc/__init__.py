"""Artifacts and evaluation runs: plan, lease, worker, sample log."""

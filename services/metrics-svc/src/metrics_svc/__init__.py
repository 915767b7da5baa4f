"""Scores, run metrics and comparisons."""

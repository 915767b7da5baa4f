"""Datasets and their immutable snapshots."""

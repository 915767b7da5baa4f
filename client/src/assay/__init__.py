"""Assay's Python client and the `assay` command."""

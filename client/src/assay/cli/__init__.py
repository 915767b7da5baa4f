"""The ``assay`` command."""

from assay.cli.application import main

__all__ = ["main"]

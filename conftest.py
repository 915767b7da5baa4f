"""Fixtures with real servers for every test of the workspace."""

pytest_plugins = ["assay_chassis.testing"]

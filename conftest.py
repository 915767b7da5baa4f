"""Fixtures with real servers for every test of the workspace; how property tests choose examples."""

from hypothesis import settings

pytest_plugins = ["assay_chassis.testing"]

# The same examples in every run, so that a change is never blamed for a case that it did not bring, and no
# deadline, because loaded machines are slow. `pytest --hypothesis-profile search` looks for new cases.
settings.register_profile("stable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("stable")

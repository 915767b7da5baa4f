"""Routes of eval-svc, by what they are about."""

from eval_svc.api import artifacts, runs

ROUTERS = (artifacts.router, runs.router)
"""The order of the API's documentation."""

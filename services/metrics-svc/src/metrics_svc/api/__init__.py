"""Routes of metrics-svc, by what they are about."""

from metrics_svc.api import comparisons, runs, scorings

ROUTERS = (runs.router, scorings.router, comparisons.router)
"""All of them, in the order in which the OpenAPI document shows them."""

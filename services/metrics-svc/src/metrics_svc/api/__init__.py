"""Routes of metrics-svc, by what they are about."""

from metrics_svc.api import comparisons, policies, runs, scorings

ROUTERS = (runs.router, scorings.router, comparisons.router, policies.router)
"""All of them, in the order in which the OpenAPI document shows them."""

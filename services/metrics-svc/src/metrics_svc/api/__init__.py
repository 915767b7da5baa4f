"""Routes of metrics-svc, by what they are about."""

from metrics_svc.api import comparisons, decisions, planner, policies, runs, scorings

ROUTERS = (
    runs.router,
    scorings.router,
    comparisons.router,
    policies.router,
    decisions.router,
    planner.router,
)
"""All of them, in the order in which the OpenAPI document shows them."""

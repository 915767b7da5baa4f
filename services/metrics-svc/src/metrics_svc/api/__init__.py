"""Routes of metrics-svc, by what they are about."""

from metrics_svc.api import comparisons, decisions, exports, planner, policies, runs, scorings, trends

ROUTERS = (
    runs.router,
    scorings.router,
    comparisons.router,
    policies.router,
    decisions.router,
    planner.router,
    exports.router,
    trends.router,
)
"""All of them, in the order in which the OpenAPI document shows them."""

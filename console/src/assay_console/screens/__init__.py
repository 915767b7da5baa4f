"""The screens: each module has the routes of one kind of page, and its templates in a folder of its name."""

from collections.abc import Sequence

from fastapi import APIRouter

from assay_console.screens import (
    artifacts,
    comparisons,
    datasets,
    decisions,
    evaluations,
    health,
    keys,
    methods,
    policies,
    samples,
    session,
    trends,
    wizard,
)

# The wizard before the evaluations: /evaluations/new is no evaluation.
ROUTERS: Sequence[APIRouter] = (
    session.router,
    datasets.router,
    methods.router,
    artifacts.router,
    wizard.router,
    evaluations.router,
    samples.router,
    comparisons.router,
    decisions.router,
    policies.router,
    trends.router,
    health.router,
    keys.router,
)

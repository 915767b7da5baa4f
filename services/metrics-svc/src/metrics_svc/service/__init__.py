"""What the routes, the event handlers and the scorer ask for."""

from dataclasses import dataclass

from metrics_svc.service.comparisons import ComparisonService
from metrics_svc.service.runs import RunService


@dataclass(frozen=True, slots=True)
class MetricsService:
    """The two halves of the service."""

    runs: RunService
    comparisons: ComparisonService

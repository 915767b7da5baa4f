"""What the routes, the event handlers and the scorer ask for."""

from dataclasses import dataclass

from metrics_svc.service.comparisons import ComparisonService
from metrics_svc.service.decisions import DecisionService
from metrics_svc.service.exports import ExportService
from metrics_svc.service.items import ItemService
from metrics_svc.service.lm_eval_log import LmEvalLogService
from metrics_svc.service.planner import PlannerService
from metrics_svc.service.policies import PolicyService
from metrics_svc.service.runs import RunService
from metrics_svc.service.scorings import ScoringService
from metrics_svc.service.trends import TrendService


@dataclass(frozen=True, slots=True)
class MetricsService:
    """The parts of the service."""

    runs: RunService
    scorings: ScoringService
    comparisons: ComparisonService
    items: ItemService
    policies: PolicyService
    decisions: DecisionService
    planner: PlannerService
    exports: ExportService
    lm_eval_log: LmEvalLogService
    trends: TrendService

"""What samples can show."""

from fastapi import APIRouter

from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from metrics_svc.api.parameters import Service
from metrics_svc.service.planner import PowerPlan, PowerQuestion

router = APIRouter(route_class=GuardedRoute, tags=["planning"])


@router.post("/v1/plan/power", openapi_extra=needs(Role.VIEWER))
async def plan_power(body: PowerQuestion, service: Service) -> PowerPlan:
    """Which loss a number of samples can show, and how many a margin needs."""
    return await service.planner.plan(body)

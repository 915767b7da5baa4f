"""What samples can show."""

from fastapi import APIRouter

from metrics_svc.api.parameters import Service
from metrics_svc.service.planner import PowerPlan, PowerQuestion

router = APIRouter(tags=["planning"])


@router.post("/v1/plan/power")
async def plan_power(body: PowerQuestion, service: Service) -> PowerPlan:
    """Which loss a number of samples can show, and how many a margin needs."""
    return await service.planner.plan(body)

"""Effective plans: everything that decides a run's numbers, checked and frozen before money is spent."""

from eval_svc.planning.planner import Planner
from eval_svc.planning.power import power_figures

__all__ = ["Planner", "power_figures"]

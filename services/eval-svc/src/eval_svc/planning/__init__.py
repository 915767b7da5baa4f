"""Effective plans: everything that decides a run's numbers, checked and frozen before money is spent."""

from eval_svc.planning.planner import Planner

__all__ = ["Planner"]

"""Opens the watch on a run that may stop early."""

import logging
from collections.abc import Mapping
from typing import Any

from metrics_svc.domain.early_stop import BaselineValues, SequentialWatch, WatchedMetric, planned_early_stop
from metrics_svc.domain.plans import FailurePolicy, RunPlan
from metrics_svc.domain.runs import ScoringState
from metrics_svc.domain.scoring import is_own
from metrics_svc.service.runs import metrics_of
from metrics_svc.store import MetricsStore

logger = logging.getLogger(__name__)


async def open_watch(
    store: MetricsStore, *, view: Mapping[str, Any], run: Mapping[str, Any], plan: RunPlan
) -> SequentialWatch | None:
    """The watch on the run of ``view``, without any sample yet.

    Args:
        store: has the baseline's scored samples.
        view: document of the scored view.
        run: the run, as eval-svc returns it.
        plan: of the run.

    Returns:
        ``None`` where there is nothing to look for: the run has no stopping rule, is settled or complete, the
        view is not its own, or the baseline's samples cannot be compared with. The run then goes to its end.
    """
    planned = planned_early_stop(run)
    if planned is None or not is_own(view) or view.get("settled") or view["final_blocks"] is not None:
        return None
    baseline = await store.scorings.get(planned.baseline_run_id)
    if baseline is None or baseline["state"] != ScoringState.FINAL:
        logger.warning("%s cannot stop early: %s is not scored", run["id"], planned.baseline_run_id)
        return None
    values = BaselineValues(metrics_of(baseline), planned=planned)
    async for block in store.scored_log(planned.baseline_run_id).blocks():
        values.add(block.samples)
    if not values.are_the_metric():
        logger.warning("%s cannot stop early: %s is no mean over samples", run["id"], planned.metric)
        return None
    counts_failed = plan.options.on_failure is FailurePolicy.SCORE_ZERO and planned.higher_is_better
    watched = WatchedMetric(planned.metric, task=plan.task.task, counts_failed=counts_failed)
    return SequentialWatch(planned, baseline=values.by_document, watched=watched)

"""What a run that may stop early is judged against, and when; frozen before it starts."""

from collections.abc import Mapping
from typing import Any

from assay_chassis.errors import Fault
from assay_evidence.statistics.sequential import plan_looks
from assay_harness.results import Deviation, TaskFacts
from eval_svc.domain import EarlyStopOptions, RunState
from eval_svc.errors import InvalidPlan

MOST_DOCUMENTS = 50_000
"""All prompts of such a run are in memory before the first is sent."""
LEAST_SAMPLES = 50
"""Documents before the first look: with fewer, a handful of answers decides."""
_FIELD = "options.early_stop"
_NAMES_SHOWN = 10


def plan_early_stop(
    options: EarlyStopOptions,
    facts: TaskFacts,
    *,
    plan: Mapping[str, Any],
    baseline: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The ``early_stop`` part of a plan.

    Args:
        options: as asked for.
        facts: of the task on its rows.
        plan: the rest of the plan.
        baseline: the run to be judged against, as stored; ``None`` where there is none of that id.

    Returns:
        ``baseline_run_id``, ``metric``, ``higher_is_better``, ``margin``, ``alpha``, ``order_seed``,
        ``planned_samples`` and ``looks``, numbers of documents, ascending, the last ``planned_samples``.

    Raises:
        InvalidPlan: it cannot work; the faults name the fields.
    """
    baseline = _fit_baseline(options, plan=plan, baseline=baseline)
    metric = _metric(options, facts, baseline)
    return {
        "baseline_run_id": options.baseline_run_id,
        "metric": metric,
        "higher_is_better": facts.higher_is_better[_name_of(metric, facts)],
        "margin": options.margin,
        "alpha": options.alpha,
        "order_seed": options.order_seed,
        "planned_samples": facts.document_count,
        "looks": _looks(options, planned=facts.document_count),
    }


def early_stop_deviation(part: Mapping[str, Any]) -> Deviation:
    """What such a run's numbers are not; ``part`` as ``plan_early_stop`` returns it."""
    message = (
        "the rows are evaluated in a random order, and the run may stop early, at "
        f"{_listed(part['looks'][:-1])} of {part['planned_samples']}; the numbers of a run that did are of a "
        "random part of the rows"
    )
    return Deviation("early_stop", None, {"looks": part["looks"], "order_seed": part["order_seed"]}, message)


def _looks(options: EarlyStopOptions, *, planned: int) -> list[int]:
    if planned > MOST_DOCUMENTS:
        message = (
            f"a run that may stop early evaluates at most {MOST_DOCUMENTS} rows, because all its prompts are "
            f"held in memory; this one has {planned}: set a limit"
        )
        raise _refused(message, field="options.limit")
    if planned < 2 * LEAST_SAMPLES:
        message = f"{planned} rows are too few to stop early; {2 * LEAST_SAMPLES} are the least"
        raise _refused(message, field="options.limit")
    if planned < options.looks * LEAST_SAMPLES:
        message = (
            f"{options.looks} looks at {planned} rows leave fewer than {LEAST_SAMPLES} for the first one; "
            f"ask for at most {planned // LEAST_SAMPLES}"
        )
        raise _refused(message, field=f"{_FIELD}.looks")
    return [int(look) for look in plan_looks(planned, first_share=1 / options.looks, count=options.looks)]


def _fit_baseline(
    options: EarlyStopOptions, *, plan: Mapping[str, Any], baseline: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """The baseline, where it has an answer to everything that the run will ask."""
    field = f"{_FIELD}.baseline_run_id"
    run_id = options.baseline_run_id
    if baseline is None:
        raise _refused(f"there is no run {run_id!r}", field=field)
    if baseline["state"] != RunState.SUCCEEDED:
        raise _refused(
            f"run {run_id} is {baseline['state']}; a run can stop early against a Succeeded one", field=field
        )
    if baseline.get("stopped_early"):
        raise _refused(
            f"run {run_id} stopped early itself, so it lacks rows; choose one that has all", field=field
        )
    ours, theirs = _decisive(plan), _decisive(baseline["plan"])
    if different := [name for name in ours if ours[name] != theirs[name]]:
        raise _refused(f"run {run_id} differs in {', '.join(different)}; it has to ask the same", field=field)
    return baseline


def _decisive(plan: Mapping[str, Any]) -> dict[str, Any]:
    """What two runs must have in common so that every prompt of one is one of the other."""
    inputs = plan["harness"]
    # The number of bootstrap resamples bears on a stderr, not on what is asked.
    options = {name: value for name, value in inputs["options"].items() if name != "bootstrap_iterations"}
    fewshot = [inputs.get("fewshot"), *(member["fewshot"] for member in inputs.get("members") or ())]
    return {
        "its rows": plan["dataset"]["digest"],
        "its few-shot rows": [each and each["digest"] for each in fewshot],
        "its method": plan["method"]["recipe_hash"],
        "its task definition": plan["task"]["config_sha256"],
        **{f"options.{name}": value for name, value in options.items() if name != "column_mapping"},
        "column_mapping": options.get("column_mapping"),
    }


def _metric(options: EarlyStopOptions, facts: TaskFacts, baseline: Mapping[str, Any]) -> str:
    """The metric to watch: one of the whole run, whose direction is known and which the baseline has."""
    scores = dict(baseline["quality"] or ())
    shared = [
        key for key in facts.metric_names if all(key in member.metric_names for member in facts.members)
    ]
    known = [
        name
        for key in shared
        if key.rpartition(",")[0] in facts.higher_is_better
        and scores.get(name := f"{facts.task}.{key}") is not None
    ]
    if not known:
        message = f"{facts.task} has no metric of all its rows with a known direction; leave early_stop out"
        raise _refused(message, field=_FIELD)
    if options.metric is None:
        return known[0]
    if options.metric not in known:
        more = ", ..." if len(known) > _NAMES_SHOWN else ""
        message = f"{options.metric!r} is not one of {', '.join(known[:_NAMES_SHOWN])}{more}"
        raise _refused(message, field=f"{_FIELD}.metric")
    return options.metric


def _name_of(metric: str, facts: TaskFacts) -> str:
    """``<metric>`` of ``<task>.<metric>,<filter>``."""
    return metric.removeprefix(f"{facts.task}.").rpartition(",")[0]


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _refused(message: str, *, field: str) -> InvalidPlan:
    return InvalidPlan(message, faults=[Fault(message, field=field)])

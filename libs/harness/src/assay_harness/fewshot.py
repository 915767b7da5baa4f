"""Which rows play which split of a task, and where few-shot examples come from.

lm-eval's prompts depend on split *roles* (test or validation) and on string equality of split names: with
equal names it draws one example more and leaves the row itself out. This module decides both before the
task is constructed, because lm-eval copies them there for good.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from assay_harness.errors import TaskRefused
from assay_harness.results import FewshotSource

_OWN_ROWS = "fewshot"


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """The decision: names for the two sets of rows, and the keys to override in the task's config.

    `fewshot` is None where no set of rows of its own is needed. `evaluation_role` is the name that the
    task's author gave to the split, which is also recorded in the facts. `own_fewshot` is the split that the
    task itself draws examples from, None where its definition holds them.
    """

    evaluation: str
    evaluation_role: str
    fewshot: str | None
    source: FewshotSource
    canonical: bool
    own_fewshot: str | None
    overrides: dict[str, Any]


def effective_num_fewshot(configured: int | None, wanted: int | None) -> int:
    """Apply lm-eval's rule: a task that says 0 keeps 0, else the option wins, else the task's number or 0."""
    if wanted is None or configured == 0:
        return configured or 0
    return wanted


def plan_splits(config: Mapping[str, Any], *, num_fewshot: int, has_fewshot_rows: bool) -> SplitPlan:
    """Decide the roles for a task's config, resolved but not yet constructed.

    Raises `TaskRefused` for a task without a split to evaluate on, or one that prepares its examples in
    another way than its documents and has no rows of their own to draw them from.
    """
    role = next((key for key in ("test_split", "validation_split") if config.get(key) is not None), None)
    if role is None:
        raise TaskRefused(
            task=str(config.get("task")), reason="it names neither a test nor a validation split"
        )
    evaluation = str(config[role])
    fewshot_config = dict(config.get("fewshot_config") or {})
    explicit = fewshot_config.pop("split", None) or config.get("fewshot_split")
    embedded = explicit is None and fewshot_config.get("samples") is not None
    overrides: dict[str, Any] = {
        "training_split": None,
        "validation_split": evaluation if role == "validation_split" else None,
        "fewshot_split": None,
        "fewshot_config": fewshot_config or None,
    }
    plan = SplitPlan(
        evaluation=evaluation,
        evaluation_role=evaluation,
        fewshot=None,
        source=FewshotSource.NONE,
        canonical=True,
        own_fewshot=None if embedded else str(explicit or _implied(config, role=role) or evaluation),
        overrides=overrides,
    )
    if num_fewshot == 0:
        return plan
    if has_fewshot_rows:
        return _from_rows(plan, config, role=role, explicit=explicit, embedded=embedded)
    if embedded:
        return replace(plan, source=FewshotSource.TASK)
    if fewshot_config.get("process_docs", config.get("process_docs")) is not config.get("process_docs"):
        raise TaskRefused(
            task=str(config.get("task")),
            reason="it prepares its few-shot examples in a way of their own, so they need rows of their own; "
            "name a few-shot source or set num_fewshot to 0",
        )
    # In the test role under one name lm-eval leaves the row itself out; in any other arrangement a prompt
    # may hold its own answer.
    overrides |= {"test_split": evaluation, "validation_split": None, "fewshot_split": evaluation}
    canonical = role == "test_split" and explicit == evaluation
    return replace(plan, source=FewshotSource.EVALUATION_ROWS, canonical=canonical)


def _from_rows(
    plan: SplitPlan, config: Mapping[str, Any], *, role: str, explicit: str | None, embedded: bool
) -> SplitPlan:
    """Give the few-shot rows the name under which the task itself would look for its examples."""
    implied_key = _implied_key(config, role=role)
    name = explicit or config.get(implied_key)
    if name is None or name == plan.evaluation or embedded:
        plan.overrides["fewshot_split"] = _OWN_ROWS
        return replace(plan, fewshot=_OWN_ROWS, source=FewshotSource.ROWS, canonical=False)
    # Without an explicit name the key stays unset: lm-eval then compares None with the test split's name.
    plan.overrides["fewshot_split" if explicit else implied_key] = name
    return replace(plan, fewshot=str(name), source=FewshotSource.ROWS)


def _implied_key(config: Mapping[str, Any], *, role: str) -> str:
    """Return the key of the split that lm-eval takes examples from where the task names none."""
    if config.get("training_split") is None and role == "test_split":
        return "validation_split"
    return "training_split"


def _implied(config: Mapping[str, Any], *, role: str) -> Any:
    """Return the split that lm-eval takes examples from where the task names none."""
    return config.get(_implied_key(config, role=role))

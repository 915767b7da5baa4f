"""In what a run differs from the task's own definition: its numbers are then not the published ones."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import JsonValue

from assay_harness.fewshot import SplitPlan
from assay_harness.results import Deviation, FewshotSource
from assay_harness.spec import RowFiles, RowOrigin, TaskOptions


def find_deviations(
    config: Mapping[str, Any], *, plan: SplitPlan, num_fewshot: int, rows: RowFiles, options: TaskOptions
) -> list[Deviation]:
    """Compare a task's config (before the options) with what is run.

    Whatever is not known to be the same counts as different.
    """
    return [
        *_of_rows(config, plan=plan, rows=rows),
        *_of_examples(config, plan=plan, num_fewshot=num_fewshot, rows=rows),
        *_of_options(config, num_fewshot=num_fewshot, options=options),
    ]


def _of_rows(config: Mapping[str, Any], *, plan: SplitPlan, rows: RowFiles) -> Iterator[Deviation]:
    """Compare dataset, subset and split."""
    path, origin = _text(config.get("dataset_path")), rows.evaluation_origin
    if not _from_repository(origin, path):
        found = origin.repo_id if origin else None
        whence = f"come from {found!r}" if found else "were not ingested from a known dataset"
        yield Deviation("dataset_path", path, found, f"the rows {whence}; the task's own dataset is {path!r}")
    elif origin is not None and (_subset(origin.subset) != _subset(config.get("dataset_name"))):
        name = _text(config.get("dataset_name"))
        yield Deviation(
            "dataset_name",
            name,
            origin.subset,
            f"the rows are of subset {origin.subset!r}; the task evaluates on {name!r}",
        )
    split = (origin and origin.split) or rows.evaluation_split
    if split != plan.evaluation_role:
        yield Deviation(
            "evaluation_split",
            plan.evaluation_role,
            split,
            f"the rows are those of split {split!r}; the task evaluates on {plan.evaluation_role!r}",
        )


def _of_examples(
    config: Mapping[str, Any], *, plan: SplitPlan, num_fewshot: int, rows: RowFiles
) -> Iterator[Deviation]:
    """Compare where the examples come from."""
    if not num_fewshot:
        return
    own = "the task's own examples" if plan.own_fewshot is None else f"split {plan.own_fewshot!r}"
    if plan.source is FewshotSource.EVALUATION_ROWS and not plan.canonical:
        message = f"the examples come from the evaluated rows, each row left out of its own prompt; not {own}"
        yield Deviation("fewshot_source", plan.own_fewshot, plan.source.value, message)
    if plan.source is not FewshotSource.ROWS:
        return
    origin, path = rows.fewshot_origin, _text(config.get("dataset_path"))
    if not plan.canonical:
        message = f"the examples come from rows of the caller's choice; the task uses {own}"
        yield Deviation("fewshot_source", plan.own_fewshot, plan.source.value, message)
    elif not _from_repository(origin, path):
        found = origin.repo_id if origin else None
        whence = f"come from {found!r}" if found else "were not ingested from a known dataset"
        yield Deviation(
            "fewshot_source", path, found, f"the examples {whence}; the task's own dataset is {path!r}"
        )
    split = (origin and origin.split) or rows.fewshot_split
    if plan.canonical and split != plan.own_fewshot:
        found = f"split {split!r}" if split else "a split that nobody named"
        yield Deviation(
            "fewshot_split",
            plan.own_fewshot,
            split,
            f"the examples come from {found}; the task draws them from {plan.own_fewshot!r}",
        )


def _of_options(config: Mapping[str, Any], *, num_fewshot: int, options: TaskOptions) -> Iterator[Deviation]:
    """Compare the numbers and arguments that options replace."""
    own = config.get("num_fewshot") or 0
    if num_fewshot != own:
        message = f"prompts hold {num_fewshot} examples; the task's own number is {own}"
        yield Deviation("num_fewshot", own, num_fewshot, message)
    repeats = config.get("repeats") or 1
    if options.repeats not in (None, repeats):
        message = f"each prompt is asked {options.repeats} times; the task asks {repeats} times"
        yield Deviation("repeats", repeats, options.repeats, message)
    if config.get("output_type", "generate_until") != "generate_until":
        return
    arguments = config.get("generation_kwargs") or {}
    changed = {key: value for key, value in options.generation_kwargs.items() if arguments.get(key) != value}
    if changed:
        before: dict[str, JsonValue] = json.loads(json.dumps({key: arguments.get(key) for key in changed}))
        names = ", ".join(sorted(changed))
        yield Deviation(
            "generation_kwargs", before, changed, f"generation arguments differ from the task's own: {names}"
        )


def _from_repository(origin: RowOrigin | None, path: str | None) -> bool:
    """Whether rows come from the repository that a task names."""
    return origin is not None and origin.repo_id is not None and origin.repo_id == path


def _subset(name: object) -> str:
    """Return a subset's name, "default" for none: the hub's own name for the only subset."""
    return str(name) if name else "default"


def _text(value: object) -> str | None:
    """Return a YAML scalar as text."""
    return None if value in (None, "") else str(value)

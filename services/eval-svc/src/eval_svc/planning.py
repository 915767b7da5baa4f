"""The effective plan: everything that decides a run's numbers, checked and frozen before money is spent."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from assay_chassis.errors import Fault
from assay_chassis.service_client import ServiceClient
from assay_chassis.store import Document
from assay_harness.errors import HarnessError, InvalidOptions, TemplateError, UnmappedColumn
from assay_harness.index import TaskIndex
from assay_harness.process import HarnessProcess
from assay_harness.results import FewshotSource, TaskFacts
from assay_harness.spec import Recipe, RowFiles, TaskOptions
from eval_svc.domain import RunRequest, canonical_hash
from eval_svc.errors import InvalidPlan
from eval_svc.fleet import ServingFleet, check_sampling

RECIPE: TypeAdapter[Recipe] = TypeAdapter(Recipe)
PROBLEMS_SHOWN = 20


class Planner:
    """Builds plans. Reads from dataset-svc, method-svc and the adapters; writes nothing but the row cache."""

    def __init__(
        self,
        *,
        datasets: ServiceClient,
        methods: ServiceClient,
        fleet: ServingFleet,
        cache: Path,
        index: asyncio.Future[TaskIndex],
    ) -> None:
        self._datasets = datasets
        self._methods = methods
        self._fleet = fleet
        self._cache = cache
        self._index = index

    async def plan(self, request: RunRequest, *, artifact: Document) -> dict[str, Any]:
        """Check ``request`` and freeze what it means.

        Raises:
            NotFound: dataset, snapshot or method do not exist.
            InvalidPlan: something does not fit; the faults name the fields and rows.
            Unavailable: a peer or the adapter does not answer.
        """
        dataset = await self._snapshot(request)
        fewshot = await self._fewshot(request)
        method = await self._method(request)
        options = _task_options(request)
        frozen_inputs = {
            "recipe": method["recipe"],
            "options": options.model_dump(mode="json"),
            "evaluation": {name: dataset[name] for name in ("snapshot_id", "digest", "split")},
            "fewshot": fewshot and {name: fewshot[name] for name in ("snapshot_id", "digest", "split")},
        }
        facts = await self._check_rows(frozen_inputs)
        await self._check_backend(facts, artifact=artifact)
        notes = _notes(facts, method=method, dataset=dataset)
        plan = {
            "dataset": dataset,
            "fewshot": fewshot,
            "fewshot_source": facts.fewshot_source.value,
            "method": method,
            "artifact": _artifact_part(artifact),
            "task": asdict(facts),
            "canonical": not notes,
            "notes": notes,
            "options": request.options.model_dump(mode="json"),
            "column_mapping": dict(request.column_mapping),
            "seeds": {
                "random": options.random_seed,
                "numpy": options.numpy_seed,
                "fewshot": options.fewshot_seed,
            },
            "harness": frozen_inputs,
        }
        return {**plan, "plan_hash": canonical_hash(plan)}

    @asynccontextmanager
    async def open_harness(self, frozen: Mapping[str, Any]) -> AsyncIterator[HarnessProcess]:
        """The harness on the ``harness`` part of a plan; rows that are not on this machine are fetched.

        Raises:
            HarnessError: the task cannot stand on these rows.
            Unavailable: dataset-svc does not deliver.
        """
        evaluation, fewshot = frozen["evaluation"], frozen["fewshot"]
        recipe = RECIPE.validate_python(frozen["recipe"])
        options = TaskOptions.model_validate(frozen["options"])
        rows = RowFiles(
            evaluation=await self._download(evaluation),
            evaluation_split=evaluation["split"],
            fewshot=await self._download(fewshot) if fewshot else None,
        )
        index = await asyncio.shield(self._index)
        async with HarnessProcess.open(recipe, options, rows, index=index) as harness:
            yield harness

    async def _download(self, snapshot: Mapping[str, Any]) -> Path:
        return await self._datasets.download(
            f"/v1/snapshots/{snapshot['snapshot_id']}/content.parquet",
            sha256=snapshot["digest"],
            directory=self._cache,
        )

    async def _snapshot(self, request: RunRequest) -> dict[str, Any]:
        if (request.dataset_id is None) == (request.snapshot_id is None):
            raise InvalidPlan(
                "name either dataset_id or snapshot_id",
                faults=[Fault("name either dataset_id or snapshot_id, not both", field="dataset_id")],
            )
        if request.snapshot_id is not None:
            return _snapshot_part(await self._datasets.get(f"/v1/snapshots/{request.snapshot_id}"))
        return await self._current_snapshot(str(request.dataset_id), field="dataset_id")

    async def _fewshot(self, request: RunRequest) -> dict[str, Any] | None:
        if request.fewshot_dataset_id is None:
            return None
        return await self._current_snapshot(request.fewshot_dataset_id, field="fewshot_dataset_id")

    async def _current_snapshot(self, dataset_id: str, *, field: str) -> dict[str, Any]:
        dataset = await self._datasets.get(f"/v1/datasets/{dataset_id}")
        snapshot = dataset.get("current_snapshot")
        if snapshot is None:
            message = f"dataset {dataset['name']!r} has no data yet; add data and wait until it is Ready"
            raise InvalidPlan(message, faults=[Fault(message, field=field)])
        return _snapshot_part(snapshot)

    async def _method(self, request: RunRequest) -> dict[str, Any]:
        path = f"/v1/methods/{request.method_id}"
        if request.method_version is not None:
            path += f"/versions/{request.method_version}"
        method = await self._methods.get(path)
        kept = ("id", "name", "version", "recipe", "recipe_hash")
        return {name: method[name] for name in kept}

    async def _check_rows(self, frozen: Mapping[str, Any]) -> TaskFacts:
        try:
            async with self.open_harness(frozen) as harness:
                report = await harness.dry_render()
                facts = harness.facts
        except HarnessError as error:
            raise InvalidPlan(str(error), faults=_faults(error)) from error
        if report.problem_count:
            raise InvalidPlan(
                f"{report.problem_count} of {facts.document_count} rows cannot be rendered",
                faults=[
                    Fault(problem.problem, row=problem.row_index)
                    for problem in report.problems[:PROBLEMS_SHOWN]
                ],
            )
        if problem := check_sampling(facts.generation_kwargs):
            raise InvalidPlan(problem, faults=[Fault(problem, field="options.generation_kwargs")])
        return facts

    async def _check_backend(self, facts: TaskFacts, *, artifact: Document) -> None:
        description = await self._fleet.describe(artifact["backend"])
        if facts.needs_log_probabilities and not description.can_score:
            message = (
                f"task {facts.task!r} needs log-probabilities of given continuations, which backend "
                f"{artifact['backend']!r} ({description.engine}) does not give; choose a generative task"
            )
            raise InvalidPlan(message, faults=[Fault(message, field="artifact_id")])
        refused = description.refused_sampling(facts.generation_kwargs)
        if refused:
            message = f"backend {artifact['backend']!r} does not honour {', '.join(refused)}"
            raise InvalidPlan(message, faults=[Fault(message, field="options.generation_kwargs")])


def _task_options(request: RunRequest) -> TaskOptions:
    try:
        return TaskOptions(
            num_fewshot=request.options.num_fewshot,
            limit=request.options.limit,
            generation_kwargs=dict(request.options.generation_kwargs),
            column_mapping=dict(request.column_mapping),
        )
    except ValidationError as error:
        faults = [
            Fault(item["msg"], field=".".join(("options", *map(str, item["loc"])))) for item in error.errors()
        ]
        raise InvalidPlan("; ".join(fault.message for fault in faults), faults=faults) from error


def _snapshot_part(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": snapshot["dataset_id"],
        "name": snapshot["dataset_name"],
        "snapshot_id": snapshot["id"],
        "digest": snapshot["digest"],
        "rows": snapshot["rows"],
        "split": snapshot["split"],
        "source": snapshot["source"],
    }


def _artifact_part(artifact: Document) -> dict[str, Any]:
    kept = ("name", "model", "backend", "uri", "format", "sha256", "revision", "serving_parameters")
    return {"id": artifact["_id"], **{name: artifact[name] for name in kept}}


def _faults(error: HarnessError) -> list[Fault]:
    if isinstance(error, UnmappedColumn):
        return [
            Fault(
                f"the method reads column {column!r}; map it to one of {', '.join(error.available)}",
                field=f"column_mapping.{column}",
            )
            for column in error.columns
        ]
    if isinstance(error, InvalidOptions):
        return [Fault(str(error), field=f"options.{error.option}")]
    if isinstance(error, TemplateError):
        return [Fault(str(error), field="method_id")]
    row = getattr(error, "row_index", None)
    return [Fault(str(error), row=row, field=None if row is not None else "method_id")]


def _notes(facts: TaskFacts, *, method: Mapping[str, Any], dataset: Mapping[str, Any]) -> list[str]:
    """Why the numbers may not be set beside published ones; empty for a canonical run."""
    if method["recipe"]["template"] != "builtin-lm-eval":
        return []
    notes = []
    if dataset["source"]["kind"] == "jsonl":
        notes.append(
            f"task {facts.task!r} runs on the rows of dataset {dataset['name']!r}, an upload; nobody has "
            "checked it against the task's own data"
        )
    if facts.fewshot_source is FewshotSource.EVALUATION_ROWS:
        notes.append(
            "few-shot examples come from the evaluated rows, each row leaving itself out; name a "
            "fewshot_dataset_id for the task's own arrangement"
        )
    elif not facts.fewshot_canonical:
        notes.append("few-shot examples come from elsewhere than in the task's own definition")
    if facts.document_count < facts.row_count:
        notes.append(f"only the first {facts.document_count} of {facts.row_count} rows are evaluated")
    return notes

"""Builds effective plans and opens the harness on them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from assay_chassis.errors import Fault, Unavailable
from assay_chassis.service_client import ServiceClient
from assay_chassis.store import Document
from assay_harness.errors import HarnessError, HarnessProcessDied
from assay_harness.index import TaskIndex
from assay_harness.process import HarnessProcess
from assay_harness.results import Deviation, TaskFacts
from assay_harness.spec import GroupRows, Recipe, RowFiles, Rows, TaskOptions
from assay_serving.types import Support
from eval_svc.domain import RunOptions, RunRequest, canonical_hash
from eval_svc.errors import InvalidPlan
from eval_svc.fleet import ServingFleet, check_sampling
from eval_svc.planning.early_stop import early_stop_deviation, plan_early_stop
from eval_svc.planning.faults import check_rendering, faults_of, task_options
from eval_svc.planning.rows import RowResolver, Sources, some_at_once

RECIPE: TypeAdapter[Recipe] = TypeAdapter(Recipe)
_MOST_CHECKED = 64
_CHECKS_AT_ONCE = 4
"""Plans whose rows are checked at the same time: each has a harness process of some 200 MB."""


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
        self._rows = RowResolver(datasets)
        self._fleet = fleet
        self._cache = cache
        self._index = index
        self._checks = asyncio.Semaphore(_CHECKS_AT_ONCE)
        self._checked: dict[str, tuple[TaskFacts, Sources]] = {}

    async def plan(
        self, request: RunRequest, *, artifact: Document, baseline: Document | None = None
    ) -> dict[str, Any]:
        """Check ``request`` and freeze what it means.

        Args:
            request: as asked for.
            artifact: that it names.
            baseline: the run that ``early_stop`` names, as stored; ``None`` where there is none.

        Raises:
            NotFound: dataset, snapshot or method do not exist.
            InvalidPlan: something does not fit; the faults name the fields and rows.
            Unavailable: a peer or the adapter does not answer.
        """
        method = await self._method(request)
        options = task_options(request)
        inputs = {"recipe": method["recipe"], "options": options.model_dump(mode="json")}
        try:
            recipe = RECIPE.validate_python(method["recipe"])
            sources = await self._rows.resolve(request, recipe, await self._loaded_index())
            facts, sources = await self._check_rows(inputs, sources)
        except HarnessProcessDied as error:
            raise Unavailable(f"the rows could not be checked: {error}") from error
        except HarnessError as error:
            raise InvalidPlan(str(error), faults=faults_of(error)) from error
        await self._check_backend(facts, artifact=artifact, options=request.options)
        deviations = [*facts.deviations, *_limited(facts, method)]
        fewshot = sources.single.fewshot if sources.single else None
        plan: dict[str, Any] = {
            "dataset": sources.dataset_part(),
            "fewshot": fewshot.part() if fewshot else None,
            "fewshot_source": facts.fewshot_source.value,
            "members": _members_part(facts, sources),
            "method": method,
            "artifact": _artifact_part(artifact),
            "task": {
                name: value for name, value in asdict(facts).items() if name not in ("members", "deviations")
            },
            "options": request.options.model_dump(mode="json"),
            "column_mapping": dict(request.column_mapping),
            "seeds": request.options.seeds.model_dump(),
            "harness": {**inputs, **sources.frozen()},
        }
        if request.options.early_stop is not None:
            part = plan_early_stop(request.options.early_stop, facts, plan=plan, baseline=baseline)
            plan["early_stop"] = part
            deviations.append(early_stop_deviation(part))
        plan |= {
            "canonical": not deviations,
            "deviations": [asdict(deviation) for deviation in deviations],
            "notes": [deviation.message for deviation in deviations],
        }
        return {**plan, "plan_hash": canonical_hash(plan)}

    async def _loaded_index(self) -> TaskIndex:
        return await asyncio.shield(self._index)

    @asynccontextmanager
    async def open_harness(self, frozen: Mapping[str, Any]) -> AsyncIterator[HarnessProcess]:
        """The harness on the ``harness`` part of a plan; rows that are not on this machine are fetched.

        Raises:
            HarnessError: the task cannot stand on these rows.
            Unavailable: dataset-svc does not deliver.
        """
        recipe = RECIPE.validate_python(frozen["recipe"])
        options = TaskOptions.model_validate(frozen["options"])
        tasks = frozen.get("members") or [frozen]
        paths = await self._downloads(tasks)
        files = [_row_files(task, paths) for task in tasks]
        rows: Rows = files[0]
        if members := frozen.get("members"):
            names = [member["task"] for member in members]
            rows = GroupRows(members=dict(zip(names, files, strict=True)))
        index = await self._loaded_index()
        async with HarnessProcess.open(recipe, options, rows, index=index) as harness:
            yield harness

    async def _downloads(self, tasks: Sequence[Mapping[str, Any]]) -> dict[str, Path]:
        """The row files of all tasks, each once, by digest."""
        snapshots = {
            snapshot["digest"]: snapshot
            for task in tasks
            for snapshot in (task["evaluation"], task["fewshot"])
            if snapshot
        }

        async def one(snapshot: Mapping[str, Any]) -> Path:
            return await self._datasets.download(
                f"/v1/snapshots/{snapshot['snapshot_id']}/content.parquet",
                sha256=snapshot["digest"],
                directory=self._cache,
            )

        return dict(zip(snapshots, await some_at_once(map(one, snapshots.values())), strict=True))

    async def _method(self, request: RunRequest) -> dict[str, Any]:
        path = f"/v1/methods/{request.method_id}"
        if request.method_version is not None:
            path += f"/versions/{request.method_version}"
        method = await self._methods.get(path)
        kept = ("id", "name", "version", "recipe", "recipe_hash")
        return {name: method[name] for name in kept}

    async def _check_rows(self, inputs: Mapping[str, Any], sources: Sources) -> tuple[TaskFacts, Sources]:
        """Render every row. Returns what the task is, and the sources without what it never reads.

        Recipe, options and rows decide both, and never change: what was found right is not rendered again.
        """
        key = canonical_hash({**inputs, **sources.frozen()})
        if key in self._checked:
            return self._checked[key]
        async with self._checks, self.open_harness({**inputs, **sources.frozen()}) as harness:
            facts = harness.facts
            used = sources.without_unused(facts)
            if used == sources:
                check_rendering(await harness.dry_render(), facts)
        checked = (facts, sources) if used == sources else await self._check_rows(inputs, used)
        while len(self._checked) >= _MOST_CHECKED:
            self._checked.pop(next(iter(self._checked)))
        self._checked[key] = checked
        return checked

    async def _check_backend(self, facts: TaskFacts, *, artifact: Document, options: RunOptions) -> None:
        generating = [facts.generation_kwargs, *(member.generation_kwargs for member in facts.members)]
        for arguments in generating:
            if problem := check_sampling(arguments):
                raise InvalidPlan(problem, faults=[Fault(problem, field="options.generation_kwargs")])
        backend = artifact["backend"]
        description = await self._fleet.describe(backend)
        if facts.needs_log_probabilities and not description.can_score:
            message = (
                f"task {facts.task!r} needs log-probabilities of given continuations, which backend "
                f"{backend!r} ({description.engine}) does not give; choose a generative task"
            )
            raise InvalidPlan(message, faults=[Fault(message, field="artifact_id")])
        for arguments in generating:
            if refused := description.refused_sampling(arguments):
                message = f"backend {backend!r} does not honour {', '.join(refused)}"
                raise InvalidPlan(message, faults=[Fault(message, field="options.generation_kwargs")])
        if options.apply_chat_template:
            _check_chat(facts, is_supported=description.capabilities.chat is Support.YES, backend=backend)
        if options.reuse_responses:
            _check_reuse(generating)


def _limited(facts: TaskFacts, method: Mapping[str, Any]) -> list[Deviation]:
    """A limit keeps numbers from being the task's own; the harness does not count it among the deviations."""
    if facts.document_count == facts.row_count or method["recipe"]["template"] != "builtin-lm-eval":
        return []
    message = f"only {facts.document_count} of {facts.row_count} rows are evaluated"
    return [Deviation("limit", None, facts.document_count, message)]


def _row_files(references: Mapping[str, Any], paths: Mapping[str, Path]) -> RowFiles:
    evaluation, fewshot = references["evaluation"], references["fewshot"]
    return RowFiles(
        evaluation=paths[evaluation["digest"]],
        evaluation_split=evaluation["split"],
        evaluation_origin=evaluation.get("origin"),
        fewshot=paths[fewshot["digest"]] if fewshot else None,
        fewshot_split=fewshot["split"] if fewshot else None,
        fewshot_origin=fewshot.get("origin") if fewshot else None,
    )


def _check_chat(facts: TaskFacts, *, is_supported: bool, backend: str) -> None:
    if facts.needs_log_probabilities:
        message = (
            f"task {facts.task!r} scores given continuations, which has no form as a chat; leave "
            "apply_chat_template off"
        )
    elif not is_supported:
        message = f"backend {backend!r} takes no chat messages; leave apply_chat_template off"
    else:
        return
    raise InvalidPlan(message, faults=[Fault(message, field="options.apply_chat_template")])


def _check_reuse(generating: list[dict[str, Any]]) -> None:
    """Refuse an option that would do nothing: a sampled response is not the answer to the next request."""
    if any(arguments.get("temperature") or arguments.get("do_sample") for arguments in generating):
        message = "responses are sampled (temperature above 0), so none stands for another; leave this off"
        raise InvalidPlan(message, faults=[Fault(message, field="options.reuse_responses")])


def _members_part(facts: TaskFacts, sources: Sources) -> list[dict[str, Any]] | None:
    """Every task of a group with its snapshots, its rows and its range of samples; ``None`` of one task."""
    if sources.members is None:
        return None
    members = []
    for member in facts.members:
        source = sources.members[member.task]
        members.append(
            {
                **asdict(member),
                "samples": member.stop - member.start,
                "dataset": source.evaluation.part(),
                "fewshot": source.fewshot.part() if source.fewshot else None,
            }
        )
    return members


def _artifact_part(artifact: Document) -> dict[str, Any]:
    kept = ("name", "model", "backend", "uri", "format", "sha256", "revision", "serving_parameters")
    return {"id": artifact["_id"], **{name: artifact[name] for name in kept}}

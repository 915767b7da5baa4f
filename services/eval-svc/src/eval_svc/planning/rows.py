"""Which rows a run reads: of one task, or of every task of a group."""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from assay_chassis.errors import Fault, NotFound
from assay_chassis.service_client import ServiceClient
from assay_harness.index import EntryKind, TaskIndex
from assay_harness.results import FewshotSource, TaskFacts
from assay_harness.spec import BuiltinTask, Recipe
from eval_svc.domain import RunRequest, canonical_hash
from eval_svc.errors import InvalidPlan

LOOKUPS_AT_ONCE = 8
"""Requests that planning a group has in flight at dataset-svc."""
NAMES_SHOWN = 10

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot as dataset-svc describes it. ``companion``: the snapshot made for its few-shot examples."""

    dataset_id: str
    dataset_name: str
    id: str
    digest: str
    rows: int
    split: str
    source: Mapping[str, Any]
    companion: str | None

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "Snapshot":
        """From the answer of dataset-svc."""
        return cls(
            dataset_id=document["dataset_id"],
            dataset_name=document["dataset_name"],
            id=document["id"],
            digest=document["digest"],
            rows=document["rows"],
            split=document["split"],
            source=document["source"],
            companion=document.get("fewshot_snapshot_id"),
        )

    def part(self) -> dict[str, Any]:
        """What the plan says of it."""
        return {
            "id": self.dataset_id,
            "name": self.dataset_name,
            "snapshot_id": self.id,
            "digest": self.digest,
            "rows": self.rows,
            "split": self.split,
            "source": dict(self.source),
        }

    def reference(self) -> dict[str, Any]:
        """What the harness needs: the file, its split, and where the rows come from (``RowOrigin``)."""
        origin = {"kind": self.source.get("kind")}
        if origin["kind"] == "huggingface":
            origin |= {name: self.source.get(name) for name in ("repo_id", "subset", "split")}
        known = origin["kind"] in ("huggingface", "jsonl")
        return {
            "snapshot_id": self.id,
            "digest": self.digest,
            "split": self.split,
            "origin": origin if known else None,
        }


@dataclass(frozen=True, slots=True)
class RowSource:
    """The rows of one task. Examples that nobody named (``is_default``) are dropped where it takes none."""

    evaluation: Snapshot
    fewshot: Snapshot | None = None
    is_default: bool = False

    def with_fewshot(self, snapshot: Snapshot | None, *, is_default: bool) -> "RowSource":
        """The same with examples from ``snapshot``.

        The evaluated rows themselves are no source of their own: the harness then leaves out each row from
        its own prompt, which it can do only if it knows that they are the same.
        """
        if snapshot is None or snapshot.digest == self.evaluation.digest:
            return self
        return replace(self, fewshot=snapshot, is_default=is_default)

    def references(self) -> dict[str, Any]:
        """What the harness needs."""
        return {
            "evaluation": self.evaluation.reference(),
            "fewshot": self.fewshot.reference() if self.fewshot else None,
        }


@dataclass(frozen=True, slots=True)
class Sources:
    """The rows of a run: ``single``, or ``members`` by task where a group is run."""

    single: RowSource | None = None
    members: Mapping[str, RowSource] | None = None

    def frozen(self) -> dict[str, Any]:
        """The part of a plan that opens the harness on these rows."""
        if self.single is not None:
            return {**self.single.references(), "members": None}
        members = [{"task": task, **source.references()} for task, source in (self.members or {}).items()]
        return {"evaluation": None, "fewshot": None, "members": members}

    def without_unused(self, facts: TaskFacts) -> "Sources":
        """Without the examples that were taken by default and that the task, as it turns out, never reads."""

        def trimmed(source: RowSource, used: FewshotSource) -> RowSource:
            unused = source.is_default and used is not FewshotSource.ROWS
            return RowSource(source.evaluation) if unused else source

        if self.single is not None:
            return Sources(single=trimmed(self.single, facts.fewshot_source))
        used = {member.task: member.fewshot_source for member in facts.members}
        return Sources(
            members={task: trimmed(source, used[task]) for task, source in (self.members or {}).items()}
        )

    def dataset_part(self) -> dict[str, Any]:
        """What the plan says of the evaluated rows as a whole.

        Of several datasets, ``id`` is the first one's and ``digest`` covers the digests of all.
        """
        if self.single is not None:
            return self.single.evaluation.part()
        snapshots = {task: source.evaluation for task, source in (self.members or {}).items()}
        first = next(iter(snapshots.values()))
        if len({snapshot.id for snapshot in snapshots.values()}) == 1:
            return first.part()
        splits = {snapshot.split for snapshot in snapshots.values()}
        datasets = {snapshot.dataset_id for snapshot in snapshots.values()}
        return {
            "id": first.dataset_id,
            "name": f"{len(datasets)} datasets for {len(snapshots)} tasks",
            "snapshot_id": None,
            "digest": canonical_hash({task: snapshot.digest for task, snapshot in snapshots.items()}),
            "rows": sum(snapshot.rows for snapshot in snapshots.values()),
            "split": first.split if len(splits) == 1 else "mixed",
            "source": {"kind": "members"},
        }


class RowResolver:
    """Finds the snapshots that a request means."""

    def __init__(self, datasets: ServiceClient) -> None:
        self._datasets = datasets

    async def resolve(self, request: RunRequest, recipe: Recipe, index: TaskIndex) -> Sources:
        """The rows of ``request``.

        Raises:
            UnknownTask, TaskRefused: the index does not have the recipe's task, or it cannot be run here.
            InvalidPlan: the request names too many or too few sources; the faults name the fields.
            NotFound, Unavailable: from dataset-svc.
        """
        _check_names(request)
        tasks = _members_of(recipe, index)
        if tasks is None:
            if request.member_datasets or request.member_fewshot_datasets:
                field = "member_datasets" if request.member_datasets else "member_fewshot_datasets"
                raise _refused("the method runs one task and no group; name its dataset_id", field=field)
            return Sources(single=await self._single(request, wants=_wants_examples(request, recipe)))
        if request.member_datasets:
            return Sources(members=await self._members(request, tasks))
        one = await self._single(request, wants=_wants_examples(request, recipe))
        named = await self._named_fewshot(request, tasks)
        return Sources(members={task: one.with_fewshot(named.get(task), is_default=False) for task in tasks})

    async def _single(self, request: RunRequest, *, wants: bool) -> RowSource:
        if request.snapshot_id is not None:
            evaluation = await self._snapshot(request.snapshot_id, field="snapshot_id")
        else:
            evaluation = await self._current(str(request.dataset_id), field="dataset_id")
        return await self._with_fewshot(RowSource(evaluation), request, wants=wants)

    async def _with_fewshot(self, source: RowSource, request: RunRequest, *, wants: bool) -> RowSource:
        """Examples from where the request says, else from the snapshot's companion, else from the rows."""
        if request.fewshot_snapshot_id is not None:
            named = await self._snapshot(request.fewshot_snapshot_id, field="fewshot_snapshot_id")
            return source.with_fewshot(named, is_default=False)
        companion = source.evaluation.companion
        if request.fewshot_dataset_id is not None:
            own = request.fewshot_dataset_id == source.evaluation.dataset_id
            if not own or companion is None:
                named = await self._current(request.fewshot_dataset_id, field="fewshot_dataset_id")
            else:
                named = await self._snapshot(companion, field="fewshot_dataset_id")
            return source.with_fewshot(named, is_default=False)
        if companion is None or not wants:
            return source
        return source.with_fewshot(await self._snapshot(companion, field="dataset_id"), is_default=True)

    async def _members(self, request: RunRequest, tasks: list[str]) -> dict[str, RowSource]:
        _check_members(request.member_datasets, tasks, field="member_datasets", must_be_complete=True)
        named = await self._named_fewshot(request, tasks)
        wants = request.options.num_fewshot != 0

        async def one(task: str) -> RowSource:
            field = f"member_datasets.{task}"
            source = RowSource(await self._current(request.member_datasets[task], field=field))
            if task in named:
                return source.with_fewshot(named[task], is_default=False)
            return await self._with_fewshot(source, request, wants=wants)

        return dict(zip(tasks, await some_at_once(one(task) for task in tasks), strict=True))

    async def _named_fewshot(self, request: RunRequest, tasks: list[str]) -> dict[str, Snapshot]:
        datasets = request.member_fewshot_datasets
        _check_members(datasets, tasks, field="member_fewshot_datasets", must_be_complete=False)
        snapshots = await some_at_once(
            self._current(dataset_id, field=f"member_fewshot_datasets.{task}")
            for task, dataset_id in datasets.items()
        )
        return dict(zip(datasets, snapshots, strict=True))

    async def _snapshot(self, snapshot_id: str, *, field: str) -> Snapshot:
        return Snapshot.read(await self._found(f"/v1/snapshots/{snapshot_id}", field=field))

    async def _current(self, dataset_id: str, *, field: str) -> Snapshot:
        dataset = await self._found(f"/v1/datasets/{dataset_id}", field=field)
        snapshot = dataset.get("current_snapshot")
        if snapshot is None:
            message = f"dataset {dataset['name']!r} has no data yet; add data and wait until it is Ready"
            raise _refused(message, field=field)
        return Snapshot.read(snapshot)

    async def _found(self, path: str, *, field: str) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = await self._datasets.get(path)
        except NotFound as error:
            raise NotFound(error.detail, faults=[Fault(error.detail, field=field)]) from error
        return found


def _members_of(recipe: Recipe, index: TaskIndex) -> list[str] | None:
    """The tasks of a group or tag, groups inside it resolved, in order; ``None`` where it is one task."""
    if not isinstance(recipe, BuiltinTask) or index.runnable(recipe.task).kind is EntryKind.TASK:
        return None
    return index.tasks_of(recipe.task)


def _wants_examples(request: RunRequest, recipe: Recipe) -> bool:
    """Whether the task may take examples; of a built-in one, only the opened task knows for certain."""
    if isinstance(recipe, BuiltinTask):
        return request.options.num_fewshot != 0
    return bool(request.options.num_fewshot)


def _check_names(request: RunRequest) -> None:
    evaluated = {
        "dataset_id": request.dataset_id,
        "snapshot_id": request.snapshot_id,
        "member_datasets": request.member_datasets or None,
    }
    named = [name for name, value in evaluated.items() if value is not None]
    if len(named) != 1:
        message = "name one of dataset_id, snapshot_id and (for a group) member_datasets, not both or none"
        raise _refused(message, field=named[0] if named else "dataset_id")
    examples = {
        "fewshot_dataset_id": request.fewshot_dataset_id,
        "fewshot_snapshot_id": request.fewshot_snapshot_id,
        "member_fewshot_datasets": request.member_fewshot_datasets or None,
    }
    named = [name for name, value in examples.items() if value is not None]
    if len(named) > 1:
        raise _refused(f"name only one of {' and '.join(named)}", field=named[-1])


def _check_members(
    datasets: Mapping[str, str], tasks: list[str], *, field: str, must_be_complete: bool
) -> None:
    missing = [task for task in tasks if task not in datasets] if must_be_complete else []
    unknown = [name for name in datasets if name not in tasks]
    if not missing and not unknown:
        return
    problems = []
    if missing:
        problems.append(
            f"{len(missing)} of {len(tasks)} tasks of the group have no dataset: {_list(missing)}"
        )
    if unknown:
        problems.append(f"the group has no {_list(unknown)}; its tasks are {_list(tasks)}")
    faults = [Fault(f"task {task!r} has no dataset", field=f"{field}.{task}") for task in missing]
    faults += [Fault(f"the group has no task {name!r}", field=f"{field}.{name}") for name in unknown]
    raise InvalidPlan("; ".join(problems), faults=faults)


def _list(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _refused(message: str, *, field: str) -> InvalidPlan:
    return InvalidPlan(message, faults=[Fault(message, field=field)])


async def some_at_once(calls: Iterable[Awaitable[Result]]) -> list[Result]:
    """The results of all calls, in order, with a bounded number under way."""
    gate = asyncio.Semaphore(LOOKUPS_AT_ONCE)

    async def one(call: Awaitable[Result]) -> Result:
        async with gate:
            return await call

    tasks = [asyncio.ensure_future(one(call)) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()

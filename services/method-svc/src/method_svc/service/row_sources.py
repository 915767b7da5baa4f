"""Which rows a preview reads: the same that a run with the same request would read.

The rules are those of eval-svc's plans: examples come from where the request says, else from the snapshot
that was ingested with the rows for them, else from the evaluated rows, each left out of its own prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from assay_chassis.errors import Fault
from assay_harness.results import FewshotSource, TaskFacts
from assay_harness.spec import BuiltinTask
from method_svc.domain.previews import FewshotOrigin, PreviewWish, RowSource
from method_svc.domain.snapshots import Snapshot
from method_svc.errors import InvalidMethod
from method_svc.service.datasets import SnapshotReader


class RowSourceResolver:
    """Finds the snapshots that one preview means; each is asked for once.

    Args:
        wish: the preview.
        snapshots: what dataset-svc says.
    """

    def __init__(self, wish: PreviewWish, snapshots: SnapshotReader) -> None:
        self._wish = wish
        self._snapshots = snapshots
        self._current: dict[str, Snapshot] = {}

    async def resolve(self, members: Sequence[str]) -> list[RowSource]:
        """The rows of a task, whose name is then empty, or of every member of a group.

        Raises:
            InvalidMethod: naming the field that names what is not there.
            Unavailable: dataset-svc does not answer.
        """
        wish = self._wish
        self._check(members)
        if not wish.member_datasets:
            one = await self._source("", await self._evaluated(), with_default=True)
            return [await self._of_member(one, task) for task in members] if members else [one]
        sources = []
        for task in members:
            dataset_id = wish.member_datasets[task]
            evaluation = await self._of_dataset(dataset_id, field=f"member_datasets.{task}")
            source = await self._source(
                task, evaluation, with_default=task not in wish.member_fewshot_datasets
            )
            sources.append(await self._of_member(source, task))
        return sources

    def _check(self, members: Sequence[str]) -> None:
        """The tasks of a group, and no others, may be named; all of them must be where any has rows."""
        faults = []
        named: Mapping[str, Mapping[str, str]] = {
            "member_datasets": self._wish.member_datasets,
            "member_fewshot_datasets": self._wish.member_fewshot_datasets,
        }
        for field, datasets in named.items():
            for name in sorted(datasets.keys() - set(members)):
                held = f"it has {', '.join(members)}" if members else "it is one task; name its dataset_id"
                message = f"the recipe has no task {name!r} of a group: {held}"
                faults.append(Fault(message=message, field=f"{field}.{name}"))
        if self._wish.member_datasets:
            missing = [name for name in members if name not in self._wish.member_datasets]
            faults += [
                Fault(message=f"task {name!r} of the group has no dataset", field=f"member_datasets.{name}")
                for name in missing
            ]
        if faults:
            raise InvalidMethod(faults)

    async def _evaluated(self) -> Snapshot:
        wish = self._wish
        if wish.snapshot_id is not None:
            return await self._snapshots.snapshot(wish.snapshot_id)
        return await self._of_dataset(str(wish.dataset_id), field="dataset_id")

    async def _source(self, task: str, evaluation: Snapshot, *, with_default: bool) -> RowSource:
        """The rows with the examples that hold for all tasks alike."""
        wish = self._wish
        source = RowSource(task, evaluation, None, FewshotOrigin.NOT_NAMED)
        companion = evaluation.fewshot_snapshot_id
        if wish.fewshot_snapshot_id is not None:
            named = await self._snapshots.snapshot(wish.fewshot_snapshot_id, field="fewshot_snapshot_id")
            return _with_examples(source, named, FewshotOrigin.NAMED)
        if wish.fewshot_dataset_id is not None:
            own = wish.fewshot_dataset_id == evaluation.dataset_id
            named = (
                await self._snapshots.snapshot(companion, field="fewshot_dataset_id")
                if own and companion is not None
                else await self._of_dataset(wish.fewshot_dataset_id, field="fewshot_dataset_id")
            )
            return _with_examples(source, named, FewshotOrigin.NAMED)
        if companion is None or not with_default or not self._may_take_examples():
            return source
        found = await self._snapshots.snapshot(companion)
        return _with_examples(source, found, FewshotOrigin.COMPANION)

    async def _of_member(self, source: RowSource, task: str) -> RowSource:
        dataset_id = self._wish.member_fewshot_datasets.get(task)
        source = replace(source, task=task)
        if dataset_id is None:
            return source
        named = await self._of_dataset(dataset_id, field=f"member_fewshot_datasets.{task}")
        return _with_examples(source, named, FewshotOrigin.NAMED)

    async def _of_dataset(self, dataset_id: str, *, field: str) -> Snapshot:
        if dataset_id not in self._current:
            self._current[dataset_id] = await self._snapshots.current(dataset_id, field=field)
        return self._current[dataset_id]

    def _may_take_examples(self) -> bool:
        """Whether there may be examples; of a built-in task, only the opened one knows for certain."""
        count = self._wish.options.num_fewshot
        return count != 0 if isinstance(self._wish.recipe, BuiltinTask) else bool(count)


def without_unused(sources: Sequence[RowSource], facts: TaskFacts) -> list[RowSource]:
    """The sources without examples that were taken by default and that the opened task never reads."""
    used = {member.task: member.fewshot_source for member in facts.members}
    return [
        replace(source, fewshot=None, fewshot_origin=FewshotOrigin.NOT_NAMED)
        if source.fewshot_origin is FewshotOrigin.COMPANION
        and used.get(source.task, facts.fewshot_source) is not FewshotSource.ROWS
        else source
        for source in sources
    ]


def _with_examples(source: RowSource, snapshot: Snapshot, origin: FewshotOrigin) -> RowSource:
    """The source with examples from ``snapshot``.

    The evaluated rows themselves are no source of their own: the harness then leaves each row out of its own
    prompt, which it can do only if it knows that they are the same.
    """
    if snapshot.digest == source.evaluation.digest:
        return source
    return replace(source, fewshot=snapshot, fewshot_origin=origin)

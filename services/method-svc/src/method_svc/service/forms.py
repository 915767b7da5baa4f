"""Draws forms for snapshots."""

from method_svc.domain.form_builder import builtin_form, offers_of, question_answer_form
from method_svc.domain.forms import Choice, Form, TaskChoice
from method_svc.domain.guesses import Guess, GuessBasis
from method_svc.domain.snapshots import Snapshot
from method_svc.domain.templates import TemplateName
from method_svc.service.catalogue import TaskCatalogue
from method_svc.service.datasets import SnapshotReader


class FormService:
    """Forms of methods.

    Args:
        tasks: lm-eval's tasks.
        snapshots: what dataset-svc says.
    """

    def __init__(self, *, tasks: TaskCatalogue, snapshots: SnapshotReader) -> None:
        self._tasks = tasks
        self._snapshots = snapshots

    async def form(
        self,
        *,
        template: TemplateName | None,
        dataset_id: str | None,
        snapshot_id: str | None,
        task: str | None,
    ) -> Form:
        """The form of a template for a snapshot.

        Args:
            template: the template; if ``None`` the one that is offered first, or with ``task`` the built-in.
            dataset_id: its current snapshot is used; or
            snapshot_id: the snapshot. One of the two.
            task: the task whose columns are looked for; a task defined on the same data if ``None``.

        Raises:
            InvalidMethod: the dataset has no data, or there is no such dataset or snapshot.
            TaskNotFound: with the nearest names.
            IndexNotReady, Unavailable.
        """
        snapshot = await self._snapshots.either(dataset_id=dataset_id, snapshot_id=snapshot_id)
        if template is None:
            template = offers_of(snapshot)[0].template if task is None else TemplateName.BUILTIN
        if template is TemplateName.JSONL_QA:
            return question_answer_form(snapshot)
        return builtin_form(snapshot, await self._choose(snapshot, task))

    async def _choose(self, snapshot: Snapshot, task: str | None) -> TaskChoice:
        found = await self._tasks.candidates(snapshot)
        choices = tuple(Choice(value=candidate.entry.name, hint=candidate.reason) for candidate in found)
        if task is not None:
            entry = await self._tasks.get(task)
            return TaskChoice(
                entry=entry, candidates=choices, members=tuple(await self._tasks.members(entry))
            )
        best = next((one for one in found if one.same_subset and one.entry.refusal is None), None)
        if best is None:
            return TaskChoice(candidates=choices)
        guess = Guess("recipe.task", best.entry.name, GuessBasis.SOURCE, best.reason)
        return TaskChoice(entry=best.entry, guess=guess, candidates=choices)

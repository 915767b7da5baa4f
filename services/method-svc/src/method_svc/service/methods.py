"""Methods: defining them, adding versions, checking that recipes fit."""

from collections.abc import Sequence

from assay_chassis.errors import Unavailable
from assay_chassis.identifiers import new_id
from assay_contracts.dataset_events import DatasetDeleted, SnapshotReady
from assay_harness.index import IndexEntry
from assay_harness.spec import BuiltinTask, JsonlQuestionAnswer
from method_svc.domain.fit import DatasetSchema, misfits
from method_svc.domain.methods import Listing, MethodVersion, now, output_of, recipe_hash
from method_svc.errors import InvalidMethod
from method_svc.service.catalogue import TaskCatalogue
from method_svc.service.datasets import SnapshotReader
from method_svc.store import MethodStore

AnyRecipe = BuiltinTask | JsonlQuestionAnswer


class MethodService:
    """Keeps methods and checks recipes.

    Args:
        store: this service's data.
        tasks: lm-eval's tasks.
        snapshots: what dataset-svc says.
    """

    def __init__(self, *, store: MethodStore, tasks: TaskCatalogue, snapshots: SnapshotReader) -> None:
        self._store = store
        self._tasks = tasks
        self._snapshots = snapshots

    async def create_method(
        self, *, name: str, description: str, recipe: AnyRecipe, dataset_id: str | None, created_by: str
    ) -> MethodVersion:
        """Define a method.

        Args:
            name: its name.
            description: what it is for.
            recipe: template and parameters.
            dataset_id: also check that the recipe fits this dataset's current snapshot.
            created_by: who asks.

        Raises:
            InvalidMethod: the task is unknown or refused, or the recipe does not fit the dataset.
            NameTaken: a method of that name exists.
            IndexNotReady: the index is being built.
        """
        entries = await self._check(recipe, dataset_id=dataset_id)
        method = MethodVersion(
            id=new_id("mth"),
            name=name,
            description=description,
            version=1,
            recipe=recipe,
            recipe_hash=recipe_hash(recipe),
            output=output_of(entries),
            created_at=now(),
            created_by=created_by,
        )
        await self._store.add(method)
        return method

    async def create_version(
        self,
        method_id: str,
        *,
        recipe: AnyRecipe,
        description: str | None,
        dataset_id: str | None,
        created_by: str,
    ) -> MethodVersion:
        """Add a version; what the newest one says already is no new version.

        Args:
            method_id: the method.
            recipe: template and parameters.
            description: what the version is for; that of the newest version if ``None``.
            dataset_id: also check that the recipe fits this dataset's current snapshot.
            created_by: who asks.

        Raises:
            MethodNotFound, InvalidMethod, TooManyVersions, IndexNotReady.
        """
        entries = await self._check(recipe, dataset_id=dataset_id)
        digest = recipe_hash(recipe)
        while True:
            newest = await self._store.newest(method_id)
            wanted = newest.description if description is None else description
            if (newest.recipe_hash, newest.description) == (digest, wanted):
                return newest
            version = MethodVersion(
                id=method_id,
                name=newest.name,
                description=wanted,
                version=newest.version + 1,
                recipe=recipe,
                recipe_hash=digest,
                output=output_of(entries),
                created_at=now(),
                created_by=created_by,
            )
            if await self._store.add_version(version):
                return version

    async def method(self, method_id: str) -> MethodVersion:
        """The newest version; raises MethodNotFound."""
        return await self._store.newest(method_id)

    async def version(self, method_id: str, number: int) -> MethodVersion:
        """A version; raises MethodNotFound, VersionNotFound."""
        return await self._store.version(method_id, number)

    async def methods(
        self, *, name: str | None, search: str | None, cursor: str | None, limit: int
    ) -> Listing:
        """Methods in their newest version, newest method first."""
        return await self._store.methods(name=name, search=search, cursor=cursor, limit=limit)

    async def remember_snapshot(self, event: SnapshotReady) -> None:
        """Keep the schema that the event tells of, unless a newer one is known."""
        await self._store.remember(
            DatasetSchema(
                dataset_id=event.dataset_id,
                dataset_name=event.dataset_name,
                snapshot_id=event.snapshot_id,
                columns=event.columns,
            )
        )

    async def forget_dataset(self, event: DatasetDeleted) -> None:
        """Forget the schema of a dataset that is gone."""
        await self._store.forget(event.dataset_id)

    async def _check(self, recipe: AnyRecipe, *, dataset_id: str | None) -> Sequence[IndexEntry]:
        """The task of a built-in recipe, or the tasks of its group; raises InvalidMethod, IndexNotReady."""
        entries: Sequence[IndexEntry] = ()
        if isinstance(recipe, BuiltinTask):
            entry = await self._tasks.runnable(recipe.task)
            entries = await self._tasks.members(entry) or (entry,)
        if dataset_id is not None:
            await self._check_fit(recipe, entries, dataset_id)
        return entries

    async def _check_fit(self, recipe: AnyRecipe, entries: Sequence[IndexEntry], dataset_id: str) -> None:
        """Judge by the local copy of the schema; a refusal by what dataset-svc says now.

        The copy may be behind by the time an event travels: right after an upload it must refuse nobody.
        """
        copy = await self._store.schema(dataset_id)
        if copy is not None and not misfits(recipe, entries, copy):
            return
        try:
            current = await self._current_schema(dataset_id)
        except Unavailable:
            if copy is None:
                raise
            current = copy
        if faults := misfits(recipe, entries, current):
            raise InvalidMethod(faults)

    async def _current_schema(self, dataset_id: str) -> DatasetSchema:
        snapshot = await self._snapshots.current(dataset_id)
        return DatasetSchema(
            dataset_id=dataset_id,
            dataset_name=snapshot.dataset_name,
            snapshot_id=snapshot.id,
            columns={column.name: column.type for column in snapshot.columns},
        )

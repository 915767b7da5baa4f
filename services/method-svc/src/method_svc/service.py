"""What method-svc does."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from assay_chassis.errors import Fault, NotFound, Unavailable
from assay_chassis.identifiers import new_id
from assay_chassis.service_client import ServiceClient
from assay_contracts.dataset_events import SnapshotReady
from assay_harness.errors import HarnessError, HarnessFailed, HarnessProcessDied, UnknownTask
from assay_harness.index import IndexEntry, TaskIndex
from assay_harness.process import HarnessProcess
from assay_harness.results import Document as HarnessDocument
from assay_harness.spec import BuiltinTask, JsonlQuestionAnswer, RowFiles, TaskOptions
from method_svc.domain import (
    DatasetSchema,
    Listing,
    MethodVersion,
    SnapshotReference,
    misfits,
    now,
    output_of,
    recipe_hash,
)
from method_svc.errors import (
    IndexNotReady,
    InvalidMethod,
    PreviewTimedOut,
    TaskNotFound,
    faults_of,
    faults_of_options,
)
from method_svc.store import MethodStore

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 30.0

AnyRecipe = BuiltinTask | JsonlQuestionAnswer


class IndexLoader:
    """The task index, loaded in the background: building it on a new machine takes half a minute.

    Args:
        load: reads or builds the index; blocks.
    """

    def __init__(self, load: Callable[[], TaskIndex]) -> None:
        self._load = load
        self._index: TaskIndex | None = None

    async def run(self) -> None:
        """Load the index; try again as long as that fails."""
        while self._index is None:
            try:
                self._index = await asyncio.to_thread(self._load)
            except (HarnessFailed, OSError) as error:
                details = error.traceback_text if isinstance(error, HarnessFailed) else ""
                logger.error("the task index could not be read or built: %s %s", error, details)
                await asyncio.sleep(_RETRY_SECONDS)

    def get(self) -> TaskIndex:
        """The index; raises IndexNotReady."""
        if self._index is None:
            raise IndexNotReady
        return self._index


class MethodService:
    """Keeps methods, checks recipes, renders previews.

    Args:
        store: this service's data.
        index: lm-eval's tasks.
        datasets: client of dataset-svc.
        snapshots: cache of snapshot files by digest.
        concurrent_previews: previews that are rendered at the same time.
        preview_timeout_s: seconds after which a preview is given up.
    """

    def __init__(
        self,
        *,
        store: MethodStore,
        index: IndexLoader,
        datasets: ServiceClient,
        snapshots: Path,
        concurrent_previews: int,
        preview_timeout_s: float,
    ) -> None:
        self._store = store
        self._index = index
        self._datasets = datasets
        self._snapshots = snapshots
        self._previews = asyncio.Semaphore(concurrent_previews)
        self._preview_timeout = preview_timeout_s

    async def tasks(self, *, query: str, limit: int) -> list[IndexEntry]:
        """Tasks, groups and tags whose name, tags or groups hold every word of ``query``; closest first.

        Raises:
            IndexNotReady: the index is being built.
        """
        return await asyncio.to_thread(self._index.get().search, query, limit)

    async def task(self, name: str) -> IndexEntry:
        """One of them; raises TaskNotFound with the nearest names, IndexNotReady."""
        try:
            return await asyncio.to_thread(self._index.get().get, name)
        except UnknownTask as error:
            raise TaskNotFound(str(error)) from None

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
        entry = await self._check(recipe, dataset_id=dataset_id)
        method = MethodVersion(
            id=new_id("mth"),
            name=name,
            description=description,
            version=1,
            recipe=recipe,
            recipe_hash=recipe_hash(recipe),
            output=output_of(recipe, entry),
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
        entry = await self._check(recipe, dataset_id=dataset_id)
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
                output=output_of(recipe, entry),
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

    async def methods(self, *, name: str | None, cursor: str | None, limit: int) -> Listing:
        """Methods in their newest version, newest method first."""
        return await self._store.methods(name=name, cursor=cursor, limit=limit)

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

    async def preview(
        self,
        *,
        recipe: AnyRecipe,
        dataset_id: str | None,
        snapshot_id: str | None,
        column_mapping: Mapping[str, str],
        num_fewshot: int | None,
        rows: int,
    ) -> list[HarnessDocument]:
        """The first rows as the recipe would ask them, rendered by lm-eval itself.

        Args:
            recipe: template and parameters.
            dataset_id: its current snapshot is used; or
            snapshot_id: the snapshot. One of the two.
            column_mapping: column that the recipe reads to the column that holds it.
            num_fewshot: examples in a prompt, from the same rows; the task's own number if ``None``.
            rows: how many rows.

        Raises:
            InvalidMethod: naming the field of the request, or the row, that cannot be used.
            PreviewTimedOut, IndexNotReady, Unavailable.
        """
        await self._check(recipe, dataset_id=None)
        snapshot = await self._snapshot(dataset_id=dataset_id, snapshot_id=snapshot_id)
        try:
            options = TaskOptions(limit=rows, num_fewshot=num_fewshot, column_mapping=dict(column_mapping))
        except ValidationError as error:
            raise InvalidMethod(faults_of_options(error)) from None
        try:
            async with asyncio.timeout(self._preview_timeout), self._previews:
                return await self._render(recipe, options, snapshot)
        except TimeoutError:
            raise PreviewTimedOut(self._preview_timeout) from None
        except HarnessProcessDied as error:
            raise Unavailable(str(error)) from error
        except HarnessError as error:
            if isinstance(error, HarnessFailed):
                logger.warning("preview of %s failed: %s\n%s", recipe, error, error.traceback_text)
            raise InvalidMethod(faults_of(error)) from error

    async def _render(
        self, recipe: AnyRecipe, options: TaskOptions, snapshot: SnapshotReference
    ) -> list[HarnessDocument]:
        path = await self._datasets.download(
            f"/v1/snapshots/{snapshot.id}/content.parquet", sha256=snapshot.digest, directory=self._snapshots
        )
        files = RowFiles(evaluation=path, evaluation_split=snapshot.split)
        index = self._index.get()
        async with HarnessProcess.open(recipe, options, files, index=index) as harness:
            return [document async for batch in harness.documents() for document in batch]

    async def _check(self, recipe: AnyRecipe, *, dataset_id: str | None) -> IndexEntry | None:
        """The entry of a built-in task; raises InvalidMethod, IndexNotReady."""
        entry: IndexEntry | None = None
        if isinstance(recipe, BuiltinTask):
            try:
                entry = await asyncio.to_thread(self._index.get().runnable, recipe.task)
            except HarnessError as error:
                raise InvalidMethod(faults_of(error)) from None
        if dataset_id is not None:
            await self._check_fit(recipe, entry, dataset_id)
        return entry

    async def _check_fit(self, recipe: AnyRecipe, entry: IndexEntry | None, dataset_id: str) -> None:
        """Judge by the local copy of the schema; a refusal by what dataset-svc says now.

        The copy may be behind by the time an event travels: right after an upload it must refuse nobody.
        """
        copy = await self._store.schema(dataset_id)
        if copy is not None and not misfits(recipe, entry, copy):
            return
        try:
            current = await self._current_schema(dataset_id)
        except Unavailable:
            if copy is None:
                raise
            current = copy
        if faults := misfits(recipe, entry, current):
            raise InvalidMethod(faults)

    async def _current_schema(self, dataset_id: str) -> DatasetSchema:
        snapshot = await self._current_snapshot(dataset_id)
        return DatasetSchema(
            dataset_id=dataset_id,
            dataset_name=snapshot["dataset_name"],
            snapshot_id=snapshot["id"],
            columns={column["name"]: column["type"] for column in snapshot["columns"]},
        )

    async def _snapshot(self, *, dataset_id: str | None, snapshot_id: str | None) -> SnapshotReference:
        if snapshot_id is not None:
            snapshot = await self._get(f"/v1/snapshots/{snapshot_id}", field="snapshot_id")
        else:
            snapshot = await self._current_snapshot(str(dataset_id))
        return SnapshotReference(id=snapshot["id"], digest=snapshot["digest"], split=snapshot["split"])

    async def _current_snapshot(self, dataset_id: str) -> dict[str, Any]:
        dataset = await self._get(f"/v1/datasets/{dataset_id}", field="dataset_id")
        snapshot = dataset["current_snapshot"]
        if not isinstance(snapshot, dict):
            message = f"dataset {dataset['name']!r} has no data yet; upload rows first"
            raise InvalidMethod([Fault(message=message, field="dataset_id")])
        return snapshot

    async def _get(self, path: str, *, field: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = await self._datasets.get(path)
        except NotFound as error:
            raise InvalidMethod([Fault(message=error.detail, field=field)]) from None
        return found

"""What method-svc keeps: methods with all their versions, and the schema of every dataset.

A method is one document: its versions are few and small, so a new version and its event are one write.
"""

from collections.abc import Callable, Mapping
from typing import Any

from assay_chassis.errors import Unavailable
from assay_chassis.infrastructure import Infrastructure
from assay_chassis.outbox import EventWriter
from assay_chassis.store import Change, Collection, Document, DuplicateKey, Index, by_name
from assay_contracts.method_events import MethodVersionCreated
from method_svc.domain.fit import DatasetSchema
from method_svc.domain.methods import (
    Listing,
    MethodVersion,
    Output,
    read_recipe,
    recipe_document,
)
from method_svc.errors import MethodNotFound, MethodTooLarge, NameTaken, TooManyVersions, VersionNotFound

MAX_METHOD_CHARACTERS = 3_500_000
"""Characters of all versions of one method; MongoDB's documents end at 16 MB of at most 4 bytes each."""

_METHOD_INDEXES = (
    Index(("name",), unique=True),
    Index(("sort_key",)),
    Index(("name", "sort_key")),
)


class MethodStore:
    """Methods and schemas in this service's database."""

    def __init__(self, *, methods: Collection, schemas: Collection, events: EventWriter) -> None:
        self._methods = methods
        self._schemas = schemas
        self._events = events

    async def add(self, method: MethodVersion) -> None:
        """Keep the first version of a new method.

        Raises:
            NameTaken: a method of that name exists.
            MethodTooLarge: the recipe is larger than a document may be.
        """
        characters = _characters(method)
        if characters > MAX_METHOD_CHARACTERS:
            raise MethodTooLarge(MAX_METHOD_CHARACTERS)
        document = {
            "_id": method.id,
            "sort_key": method.id,
            "name": method.name,
            "characters": characters,
            "versions": [_plain(method)],
        }
        try:
            await self._methods.insert(document, events=self._events(_event(method)))
        except DuplicateKey:
            found = await self._methods.find_one({"name": method.name})
            raise NameTaken(name=method.name, method_id=found["_id"] if found else "unknown") from None

    async def add_version(self, version: MethodVersion) -> bool:
        """Keep a version if it is the one after the newest.

        Returns:
            Whether it was kept; ``False`` when somebody else added that version first.

        Raises:
            TooManyVersions: the method is full.
        """
        document = await self._document(version.id)
        characters = document["characters"] + _characters(version)
        if characters > MAX_METHOD_CHARACTERS:
            raise TooManyVersions(version.id)
        if len(document["versions"]) != version.version - 1:
            return False
        change = Change(
            push={"versions": _plain(version)},
            set={"characters": characters},
            events=self._events(_event(version)),
        )
        return await self._methods.update(version.id, change, guard={"rev": document["rev"]})

    async def newest(self, method_id: str) -> MethodVersion:
        """The newest version; raises MethodNotFound."""
        return _version(await self._document(method_id), -1)

    async def version(self, method_id: str, number: int) -> MethodVersion:
        """A version; raises MethodNotFound, VersionNotFound."""
        document = await self._document(method_id)
        newest = len(document["versions"])
        if not 1 <= number <= newest:
            raise VersionNotFound(method_id=method_id, version=number, newest=newest)
        return _version(document, number - 1)

    async def methods(
        self, *, name: str | None, search: str | None, cursor: str | None, limit: int
    ) -> Listing:
        """Methods in their newest version, newest first; only of that name, and with ``search`` in it."""
        page = await self._methods.page(by_name(name, search=search), cursor=cursor, limit=limit)
        return Listing([_version(document, -1) for document in page.items], page.next_cursor)

    async def _document(self, method_id: str) -> Document:
        document = await self._methods.get(method_id)
        if document is None:
            raise MethodNotFound(method_id)
        return document

    async def remember(self, schema: DatasetSchema) -> None:
        """Keep a dataset's schema unless a newer one is known. The same one twice is no change.

        Snapshot ids of one dataset sort in the order in which the snapshots became current.
        """
        fields = {
            "dataset_name": schema.dataset_name,
            "snapshot_id": schema.snapshot_id,
            # Pairs: the name of a column may hold what MongoDB does not take in a field's name.
            "columns": [list(column) for column in schema.columns.items()],
        }

        def decide(found: Document) -> Change | None:
            outdated = found["snapshot_id"] < schema.snapshot_id and not found.get("deleted")
            return Change(set=fields) if outdated else None

        await self._keep(schema.dataset_id, decide, new=fields)

    async def forget(self, dataset_id: str) -> None:
        """Forget a dataset's schema for good: an older event that arrives later does not bring it back."""

        def decide(found: Document) -> Change | None:
            return None if found.get("deleted") else Change(set={"deleted": True})

        await self._keep(dataset_id, decide, new={"snapshot_id": "", "deleted": True})

    async def _keep(
        self, dataset_id: str, decide: Callable[[Document], Change | None], *, new: Mapping[str, Any]
    ) -> None:
        """Change what is kept of a dataset as ``decide`` says, or keep ``new`` where nothing is."""
        for _ in range(2):
            if await self._schemas.modify(dataset_id, decide) is not None:
                return
            try:
                await self._schemas.insert({"_id": dataset_id, **new})
            except DuplicateKey:
                continue
            return
        raise Unavailable(f"the schema of {dataset_id} could not be kept; try again")

    async def schema(self, dataset_id: str) -> DatasetSchema | None:
        """The newest schema of the dataset that this service has heard of."""
        document = await self._schemas.get(dataset_id)
        if document is None or document.get("deleted"):
            return None
        return DatasetSchema(
            dataset_id=dataset_id,
            dataset_name=document["dataset_name"],
            snapshot_id=document["snapshot_id"],
            columns=dict(document["columns"]),
        )


async def open_method_store(infrastructure: Infrastructure) -> MethodStore:
    """The store on this service's database, its indexes created."""
    return MethodStore(
        methods=await infrastructure.store.collection("methods", _METHOD_INDEXES),
        schemas=await infrastructure.store.collection("dataset_schemas"),
        events=infrastructure.events,
    )


def _event(version: MethodVersion) -> MethodVersionCreated:
    return MethodVersionCreated(
        method_id=version.id,
        name=version.name,
        version=version.version,
        template=version.recipe.template,
        recipe_hash=version.recipe_hash,
    )


def _characters(version: MethodVersion) -> int:
    return len(version.recipe.model_dump_json()) + len(version.description)


def _plain(version: MethodVersion) -> Document:
    return {
        "description": version.description,
        "recipe": recipe_document(version.recipe),
        "recipe_hash": version.recipe_hash,
        "output_type": version.output.output_type,
        "needs_log_probabilities": version.output.needs_log_probabilities,
        "created_at": version.created_at,
        "created_by": version.created_by,
    }


def _version(document: Mapping[str, Any], place: int) -> MethodVersion:
    versions = document["versions"]
    stored = versions[place]
    return MethodVersion(
        id=document["_id"],
        name=document["name"],
        description=stored["description"],
        version=place % len(versions) + 1,
        recipe=read_recipe(stored["recipe"]),
        recipe_hash=stored["recipe_hash"],
        output=Output(
            output_type=stored["output_type"], needs_log_probabilities=stored["needs_log_probabilities"]
        ),
        created_at=stored["created_at"],
        created_by=stored["created_by"],
    )

"""Statistics that were counted once, by the digest of their rows."""

from dataclasses import asdict

from assay_chassis.store import Collection, DuplicateKey, Store
from dataset_svc.domain.statistics import ColumnStatistics, Quantiles, Statistics


class StatisticsStore:
    """Statistics by digest."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    @classmethod
    async def open(cls, store: Store) -> "StatisticsStore":
        """The statistics of this database."""
        return cls(await store.collection("statistics", ()))

    async def get(self, digest: str) -> Statistics | None:
        """Those of the rows of that digest, if they were counted."""
        document = await self._collection.get(digest)
        if document is None:
            return None
        columns = tuple(
            ColumnStatistics(
                **{**column, "lengths": Quantiles(**column["lengths"]) if column["lengths"] else None}
            )
            for column in document["columns"]
        )
        return Statistics(
            rows=document["rows"],
            bytes=document["bytes"],
            duplicate_rows=document["duplicate_rows"],
            columns=columns,
        )

    async def put(self, digest: str, statistics: Statistics) -> None:
        """Keep them; nothing happens when they are there."""
        document = {"_id": digest, **asdict(statistics)}
        document["columns"] = list(document["columns"])
        try:
            await self._collection.insert(document)
        except DuplicateKey:
            return

    async def remove(self, digest: str) -> None:
        """Forget them."""
        await self._collection.delete(digest)

"""Scorings, scored samples and comparisons in metrics-svc's own database.

Metric names contain dots, so maps from metric names are stored as JSON text or as part of a packed block,
never as field names.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import TypeAdapter

from assay_chassis.store import Collection, Document, DuplicateKey, Index, Store
from metrics_svc.domain.comparison_report import PairedItem
from metrics_svc.domain.samples import ScoredSample, pack, unpack

ITEMS_PER_BLOCK = 64
BLOCKS_PER_READ = 16

_ITEMS = TypeAdapter(list[PairedItem])


@dataclass(frozen=True, slots=True)
class MetricsStore:
    """The collections of metrics-svc.

    Attributes:
        scorings: one document per scored view, see ``domain.scoring``.
        scored: scored blocks, one per view and block of the run's sample log; ``run_id`` holds the view's id,
            which of a run's own view is the run's.
        comparisons: results of comparisons.
        pairs: the paired items behind them, in blocks.
    """

    scorings: Collection
    scored: Collection
    comparisons: Collection
    pairs: Collection

    @classmethod
    async def open(cls, store: Store) -> "MetricsStore":
        """Open the collections and create their indexes."""
        return cls(
            scorings=await store.collection(
                "scorings", (Index(("active", "sort_key")), Index(("run_id", "sort_key")))
            ),
            scored=await store.collection("scored_blocks", (Index(("run_id", "sort_key")),)),
            comparisons=await store.collection(
                "comparisons", (Index(("pair_key",), unique=True), Index(("sort_key",)))
            ),
            pairs=await store.collection("paired_items", (Index(("pair_key", "sort_key")),)),
        )

    def scored_log(self, view_id: str) -> "ScoredLog":
        """The scored blocks of one view."""
        return ScoredLog(self.scored, view_id=view_id)

    def pair_log(self, pair_key: str) -> "PairLog":
        """The paired items of two runs."""
        return PairLog(self.pairs, pair_key=pair_key)


def block_key(owner: str, number: int) -> str:
    """Identifier of block ``number`` of ``owner``; identifiers of one owner sort by number."""
    return f"{owner}:{number:08d}"


class ScoredBlock(NamedTuple):
    """A block of a run's sample log with its scores."""

    number: int
    samples: list[ScoredSample]


class ScoredLog:
    """Scored blocks of one view, under the numbers that they have in the run's sample log."""

    def __init__(self, blocks: Collection, *, view_id: str) -> None:
        self._blocks = blocks
        self._view_id = view_id

    async def put(self, number: int, samples: Sequence[ScoredSample]) -> None:
        """Store a block. One that is there already is the same, because scoring is repeatable."""
        key = block_key(self._view_id, number)
        document = {
            "_id": key,
            "sort_key": key,
            "run_id": self._view_id,
            "block": number,
            "samples": pack(samples),
        }
        try:
            await self._blocks.insert(document)
        except DuplicateKey:
            return

    async def block(self, number: int) -> list[ScoredSample] | None:
        """The samples of a block, or ``None``."""
        document = await self._blocks.get(block_key(self._view_id, number))
        return None if document is None else unpack(document["samples"])

    async def blocks(self, *, start: int = 0) -> AsyncIterator[ScoredBlock]:
        """Blocks by number, from ``start`` on."""
        query = {"run_id": self._view_id}
        async for document in _documents(self._blocks, query, owner=self._view_id, start=start):
            yield ScoredBlock(number=document["block"], samples=unpack(document["samples"]))


class PairLog:
    """Paired items of two final runs, ``ITEMS_PER_BLOCK`` to a block. Final runs always pair the same."""

    def __init__(self, blocks: Collection, *, pair_key: str) -> None:
        self._blocks = blocks
        self._pair_key = pair_key

    async def put(self, items: Sequence[PairedItem]) -> None:
        """Store all items; again does no harm."""
        for start in range(0, len(items), ITEMS_PER_BLOCK):
            number = start // ITEMS_PER_BLOCK
            key = block_key(self._pair_key, number)
            part = list(items[start : start + ITEMS_PER_BLOCK])
            document = {
                "_id": key,
                "sort_key": key,
                "pair_key": self._pair_key,
                "block": number,
                "items": _ITEMS.dump_json(part),
            }
            try:
                await self._blocks.insert(document)
            except DuplicateKey:
                continue

    async def items(self, *, start: int = 0) -> AsyncIterator[tuple[int, PairedItem]]:
        """Numbered items in order, from number ``start`` on."""
        first = start // ITEMS_PER_BLOCK
        query = {"pair_key": self._pair_key}
        async for document in _documents(self._blocks, query, owner=self._pair_key, start=first):
            base = document["block"] * ITEMS_PER_BLOCK
            for position, item in enumerate(_ITEMS.validate_json(document["items"])):
                if base + position >= start:
                    yield base + position, item


async def _documents(
    collection: Collection, query: Document, *, owner: str, start: int
) -> AsyncIterator[Document]:
    cursor = block_key(owner, start - 1) if start else None
    while True:
        page = await collection.page(query, cursor=cursor, limit=BLOCKS_PER_READ, descending=False)
        for document in page.items:
            yield document
        cursor = page.next_cursor
        if cursor is None:
            return

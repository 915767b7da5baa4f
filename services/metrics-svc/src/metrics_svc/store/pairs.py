"""Paired items of comparisons."""

from collections.abc import AsyncIterator, Sequence

from pydantic import TypeAdapter

from assay_chassis.store import Collection, DuplicateKey
from metrics_svc.domain.comparison_report import PairedItem
from metrics_svc.store.scored import _documents, block_key

ITEMS_PER_BLOCK = 64

_ITEMS = TypeAdapter(list[PairedItem])


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

"""Scored samples, in the blocks of the runs' sample logs."""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from assay_chassis.store import Collection, Document, DuplicateKey
from metrics_svc.domain.samples import ScoredSample, pack, unpack

BLOCKS_PER_READ = 16


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

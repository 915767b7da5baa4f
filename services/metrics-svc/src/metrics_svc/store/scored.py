"""Scored samples, in the blocks of the runs' sample logs."""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from assay_chassis.store import Collection, Document, DuplicateKey
from metrics_svc.domain.samples import ScoredSample, pack, unpack

BLOCKS_PER_READ = 16
INDEXES_PER_STRETCH = 64


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
            # What a sample is found by. Samples finish nearly in order, so a block has few of them.
            "stretches": sorted({_stretch(sample.record.index) for sample in samples}),
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

    async def block_of(self, index: int) -> ScoredBlock | None:
        """The block that has the sample of this index, or ``None``."""
        query = {"run_id": self._view_id, "stretches": _stretch(index)}
        documents = await self._blocks.find_many(query, limit=INDEXES_PER_STRETCH)
        for document in documents:
            block = _block(document)
            if _has(block, index):
                return block
        first = await self._blocks.get(block_key(self._view_id, 0))
        if first is not None and "stretches" not in first:  # stored by a release that did not note them
            async for block in self.blocks():
                if _has(block, index):
                    return block
        return None

    async def blocks(self, *, start: int = 0) -> AsyncIterator[ScoredBlock]:
        """Blocks by number, from ``start`` on."""
        at, count = start, 1
        while documents := await self._read(at, count=count):
            for document in documents:
                yield _block(document)
            at = documents[-1]["block"] + 1
            count = min(2 * count, BLOCKS_PER_READ)

    async def _read(self, start: int, *, count: int) -> list[Document]:
        """The next blocks from ``start`` on; empty at the end.

        A range that is bounded on both sides: the embedded server reads all of an open one before it cuts.
        """
        bounds = {"$gte": block_key(self._view_id, start), "$lt": block_key(self._view_id, start + count)}
        found = await self._blocks.find_many(
            {"run_id": self._view_id, "sort_key": bounds}, order_by="sort_key", limit=count
        )
        if found:
            return found
        # The end, or numbers that are not there yet.
        last = block_key(self._view_id, start + count - 1)
        page = await self._blocks.page(
            {"run_id": self._view_id}, cursor=last, limit=BLOCKS_PER_READ, descending=False
        )
        return page.items


def _stretch(index: int) -> int:
    return index // INDEXES_PER_STRETCH


def _block(document: Document) -> ScoredBlock:
    return ScoredBlock(number=document["block"], samples=unpack(document["samples"]))


def _has(block: ScoredBlock, index: int) -> bool:
    return any(sample.record.index == index for sample in block.samples)

"""Statistics, downloads and differences of snapshots: what reads all of their rows."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataset_svc.diff import Comparison, column_changes, compare, rows_at
from dataset_svc.domain.diffs import DiffPage, RowChange, RowDifference
from dataset_svc.domain.statistics import Statistics
from dataset_svc.download import json_lines
from dataset_svc.errors import space_needed
from dataset_svc.statistics import statistics_of
from dataset_svc.store import Stores

_KEPT_COMPARISONS = 64


@dataclass(frozen=True, slots=True)
class Lines:
    """A snapshot as JSON Lines; ``chunks`` reads from disk, so it blocks."""

    digest: str
    chunks: Iterator[bytes]


class AnalysisService:
    """Reads snapshots in threads, one at a time, and keeps what it counted.

    Args:
        stores: this service's data.
        cache: directory for comparisons; made if missing.
    """

    def __init__(self, stores: Stores, *, cache: Path) -> None:
        self._stores = stores
        self._cache = cache
        self._one_at_a_time = asyncio.Semaphore(1)
        cache.mkdir(parents=True, exist_ok=True)

    async def statistics(self, snapshot_id: str) -> Statistics:
        """The snapshot's statistics, counted at the first request.

        Raises:
            SnapshotNotFound: there is no such snapshot.
        """
        snapshot = await self._stores.snapshots.snapshot(snapshot_id)
        async with self._one_at_a_time:
            found = await self._stores.statistics.get(snapshot.digest)
            if found is None:
                path = await self._stores.files.cached(snapshot.digest)
                found = await asyncio.to_thread(statistics_of, path)
                await self._stores.statistics.put(snapshot.digest, found)
        return found

    async def json_lines(self, snapshot_id: str) -> Lines:
        """The snapshot's rows as JSON Lines.

        Raises:
            SnapshotNotFound: there is no such snapshot.
        """
        snapshot = await self._stores.snapshots.snapshot(snapshot_id)
        path = await self._stores.files.cached(snapshot.digest)
        return Lines(digest=snapshot.digest, chunks=json_lines(path))

    async def diff(
        self,
        snapshot_id: str,
        *,
        against: str,
        key: str | None,
        change: RowChange | None,
        offset: int,
        limit: int,
    ) -> DiffPage:
        """What is different in a snapshot, compared with the older one ``against``.

        Args:
            snapshot_id: the newer snapshot.
            against: the older one; of any dataset.
            key: column that names the rows; rows are matched by content without one.
            change: the rows to list; all that differ if ``None``: added, then removed, then changed ones.
            offset: rows to skip.
            limit: most rows to list.

        Raises:
            SnapshotNotFound: there is no such snapshot.
            InvalidRequest: ``key`` is no column of both that names each row once.
        """
        after = await self._stores.snapshots.snapshot(snapshot_id)
        before = await self._stores.snapshots.snapshot(against)
        old = await self._stores.files.cached(before.digest)
        new = await self._stores.files.cached(after.digest)
        async with self._one_at_a_time:
            return await asyncio.to_thread(
                self._page, old, new, key=key, change=change, offset=offset, limit=limit
            )

    def _page(
        self, old: Path, new: Path, *, key: str | None, change: RowChange | None, offset: int, limit: int
    ) -> DiffPage:
        found = self._comparison(old, new, key=key)
        counts = {
            RowChange.ADDED: len(found.added),
            RowChange.REMOVED: len(found.removed),
            RowChange.CHANGED: len(found.changed),
        }
        listed = list(RowChange) if change is None else [change]
        items: list[RowDifference] = []
        skip = offset
        for kind in listed:
            items += _rows(found, kind, old=old, new=new, offset=skip, limit=limit - len(items))
            skip = max(skip - counts[kind], 0)
        return DiffPage(
            added=counts[RowChange.ADDED],
            removed=counts[RowChange.REMOVED],
            changed=counts[RowChange.CHANGED],
            unchanged=found.unchanged,
            columns=column_changes(old, new),
            items=items,
            total=sum(counts[kind] for kind in listed),
        )

    def _comparison(self, old: Path, new: Path, *, key: str | None) -> Comparison:
        """The comparison of two files named by their digests, made at the first request."""
        name = hashlib.sha256(f"{old.name} {new.name} {key!r}".encode()).hexdigest()
        path = self._cache / f"{name}.npz"
        if path.exists():
            with np.load(path) as kept:
                fields = {name: kept[name] for name in kept.files}
            return Comparison(**{**fields, "unchanged": int(fields["unchanged"])})
        found = compare(old, new, key=key)
        with space_needed():
            self._keep(found, path)
        return found

    def _keep(self, found: Comparison, path: Path) -> None:
        kept = sorted(self._cache.glob("*.npz"), key=lambda each: each.stat().st_mtime)
        for oldest in kept[: len(kept) - _KEPT_COMPARISONS + 1]:
            oldest.unlink(missing_ok=True)
        fields: dict[str, Any] = asdict(found)
        descriptor, partial = tempfile.mkstemp(dir=self._cache, suffix=".partial")
        try:
            with os.fdopen(descriptor, "wb") as file:
                np.savez(file, **fields)
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)


def _rows(
    found: Comparison, kind: RowChange, *, old: Path, new: Path, offset: int, limit: int
) -> list[RowDifference]:
    part = slice(offset, offset + max(limit, 0))
    match kind:
        case RowChange.ADDED:
            after, before = found.added[part].tolist(), None
        case RowChange.REMOVED:
            after, before = None, found.removed[part].tolist()
        case RowChange.CHANGED:
            after, before = found.changed[part].tolist(), found.changed_before[part].tolist()
    count = len(after if after is not None else before or ())
    rows_after = rows_at(new, after) if after else [None] * count
    rows_before = rows_at(old, before) if before else [None] * count
    return [
        RowDifference(
            change=kind,
            index_before=before[place] if before else None,
            index_after=after[place] if after else None,
            before=rows_before[place],
            after=rows_after[place],
        )
        for place in range(count)
    ]

"""Leases with fencing tokens, kept inside the document that they protect.

Work of minutes is never held as a message delivery. A worker takes the lease of the document, renews it while
it works, and guards every write with the token. Whoever took the lease later has a higher token, so a worker
that was paused and comes back finds that its writes no longer apply.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay_chassis.store import Change, Collection, Document


class LeaseLost(Exception):
    """Somebody else holds the lease, or the document no longer allows the work. Stop at once."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease on one document. ``token`` grows with every holder."""

    collection: Collection
    document_id: str
    owner: str
    token: int
    duration: float

    @property
    def guard(self) -> dict[str, Any]:
        """Query terms that hold only while this lease is the newest."""
        return {"lease.token": self.token, "lease.owner": self.owner}

    async def renew(self) -> None:
        """Extend the lease by its duration from now.

        Raises:
            LeaseLost: another holder came later.
        """
        change = Change(set={"lease.expires_at": time.time() + self.duration}, bump=False)
        if not await self.collection.update(self.document_id, change, guard=self.guard):
            raise LeaseLost(f"the lease on {self.document_id} went to somebody else")

    async def write(self, change: Change, *, guard: Mapping[str, Any] | None = None) -> None:
        """Change the document as the holder.

        Raises:
            LeaseLost: another holder came later, or ``guard`` does not hold.
        """
        if not await self.collection.update(self.document_id, change, guard={**(guard or {}), **self.guard}):
            raise LeaseLost(f"{self.document_id} changed under its lease")

    async def release(self) -> None:
        """Let the next worker take the document at once. Does nothing if the lease was lost."""
        change = Change(set={"lease.expires_at": 0.0}, bump=False)
        await self.collection.update(self.document_id, change, guard=self.guard)


def is_free(document: Document) -> bool:
    """Whether nobody holds the lease of ``document`` now."""
    lease = document.get("lease")
    return lease is None or lease["expires_at"] <= time.time()


async def acquire(collection: Collection, document: Document, *, owner: str, duration: float) -> Lease | None:
    """Try to take the lease of ``document``.

    Args:
        collection: where it lies.
        document: as it was just read; any change since then makes the attempt fail.
        owner: name of the worker.
        duration: seconds until the lease lapses unless renewed.

    Returns:
        The lease, or ``None`` when somebody holds it or was quicker.
    """
    if not is_free(document):
        return None
    before = document.get("lease")
    guard: dict[str, Any] = {"rev": document["rev"]}
    if before is None:
        guard["lease"] = None
        token = 1
    else:
        guard["lease.token"] = before["token"]
        guard["lease.expires_at"] = before["expires_at"]
        token = before["token"] + 1
    lease = {"owner": owner, "token": token, "expires_at": time.time() + duration}
    if not await collection.update(document["_id"], Change(set={"lease": lease}), guard=guard):
        return None
    return Lease(
        collection=collection, document_id=document["_id"], owner=owner, token=token, duration=duration
    )

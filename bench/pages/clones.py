"""Copies of finished runs and of a comparison, in the stores of eval-svc and metrics-svc."""

import asyncio
import copy
import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from assay_chassis.store import Collection, Document, open_store

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_OWN_TO_A_DOCUMENT = ("rev", "write_id", "outbox", "outbox_pending", "idempotency_key", "lease")
_AT_ONCE = 64
_STEP = timedelta(minutes=12)
STATES = ("Failed", "Cancelled")
"""Every hundredth copy of a run failed, another hundredth was cancelled; all others succeeded."""


@dataclass(frozen=True, slots=True)
class Stores:
    """The collections that are written to."""

    runs: Collection
    views: Collection
    comparisons: Collection


@asynccontextmanager
async def opened(uri: str) -> AsyncIterator[Stores]:
    """The services' own databases, whose indexes the services have made."""
    async with (
        open_store(uri, database="eval_svc", patience=20.0) as evaluations,
        open_store(uri, database="metrics_svc", patience=20.0) as metrics,
    ):
        yield Stores(
            runs=await evaluations.collection("runs"),
            views=await metrics.collection("scorings"),
            comparisons=await metrics.collection("comparison_reports"),
        )


async def clone_runs(
    uri: str, run_ids: Sequence[str], *, artifacts: Sequence[Mapping[str, Any]], count: int
) -> None:
    """Write ``count`` copies of the runs, in turn, and their own scored views.

    Each has an id, a name, times and one of ``artifacts`` of its own; the newest copy is older than any run
    that was really carried out. The first of ``run_ids`` is copied nine times as often as each of the others.
    """
    begin = datetime.now(UTC) - _STEP * (count + 1)
    async with opened(uri) as stores:
        originals = [(await _found(stores.runs, one), await _found(stores.views, one)) for one in run_ids]
        turn = [originals[0]] * 9 + originals[1:]
        written = []
        for number in range(count):
            run, view = turn[number % len(turn)]
            made = _Copy(number, at=begin + _STEP * number, artifact=artifacts[number % len(artifacts)])
            written += [stores.runs.insert(made.run(run)), stores.views.insert(made.view(view))]
        await _in_turn(written)


async def clone_comparisons(uri: str, comparison_id: str, *, count: int) -> None:
    """Write ``count`` copies of a comparison, under ids of their own and as old."""
    begin = datetime.now(UTC) - _STEP * (count + 1)
    async with opened(uri) as stores:
        original = await _found(stores.comparisons, comparison_id)
        written = []
        for number in range(count):
            at = begin + _STEP * number
            own = _id("cmp", at)
            copied = {"_id": own, "sort_key": own, "inputs": secrets.token_hex(32), "created_at": _text(at)}
            written.append(stores.comparisons.insert({**original, **copied}))
        await _in_turn(written)


@dataclass(frozen=True, slots=True)
class _Copy:
    """What is different in one copy of a run."""

    number: int
    at: datetime
    artifact: Mapping[str, Any]

    def run(self, original: Document) -> Document:
        """The run in eval-svc."""
        run = copy.deepcopy(original)
        run["plan"]["artifact"] |= {key: self.artifact[key] for key in ("id", "name", "backend")}
        state = dict(enumerate(STATES)).get(self.number % 100, "Succeeded")
        return run | {
            "_id": self.id,
            "sort_key": self.id,
            "name": self.name,
            "state": state,
            "error": {"code": "adapter-lost", "message": "a copy that failed"} if state == "Failed" else None,
            "created_at": _text(self.at),
            "started_at": _text(self.at + timedelta(seconds=1)),
            "finished_at": self.finished_at,
        }

    def view(self, original: Document) -> Document:
        """Its scored view in metrics-svc."""
        metrics = json.loads(original["metrics"])
        metrics |= {"run_id": self.id, "finished_at": self.finished_at}
        metrics["subject"]["run_name"] = self.name
        metrics["subject"]["artifact"] |= {key: self.artifact[key] for key in ("id", "name", "backend")}
        return original | {
            "_id": self.id,
            "sort_key": self.id,
            "artifact_id": self.artifact["id"],
            "finished_at": self.finished_at,
            "finished_key": f"{self.finished_at}:{self.id}",
            "metrics": json.dumps(metrics),
        }

    @property
    def id(self) -> str:
        return _id("run", self.at, number=self.number)

    @property
    def name(self) -> str:
        return f"copy-{self.number:05d}"

    @property
    def finished_at(self) -> str:
        return _text(self.at + timedelta(minutes=2))


async def _found(collection: Collection, document_id: str) -> Document:
    document = await collection.get(document_id)
    assert document is not None, document_id
    return {key: value for key, value in document.items() if key not in _OWN_TO_A_DOCUMENT}


async def _in_turn(written: Sequence[Any]) -> None:
    """Await all, some at once."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(insertion: Any) -> None:
        async with room:
            await insertion

    await asyncio.gather(*(one(each) for each in written))


def _id(prefix: str, at: datetime, *, number: int | None = None) -> str:
    """An identifier as it would have been given at that time; by ``number`` always the same one."""
    low = secrets.randbits(80) if number is None else number
    value = int(at.timestamp() * 1000) << 80 | low
    digits = []
    for _ in range(26):
        value, digit = divmod(value, 32)
        digits.append(_ALPHABET[digit])
    return f"{prefix}_{''.join(reversed(digits))}"


def _text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

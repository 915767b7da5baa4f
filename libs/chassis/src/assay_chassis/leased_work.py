"""One loop for all work of minutes: documents that need work are taken under leases and carried out.

A message only wakes the loop. What needs work is read from the documents themselves, so a lost message costs
one sweep, and the work of a dead worker is taken when its lease lapses.
"""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from assay_chassis.errors import Unavailable
from assay_chassis.leases import Lease, LeaseLost, acquire, is_free
from assay_chassis.store import Collection, Document
from assay_chassis.tasks import end

logger = logging.getLogger(__name__)

_SCANNED_DOCUMENTS = 200
_CLEANUP_S = 20.0
"""How long cancelled work may take to put things in order before it is cancelled once more."""


class StopWork(Exception):
    """Raised by a worker's ``check``: the work has to end now.

    Attributes:
        then: what is left to do once the work has ended, still under the lease; it may raise LeaseLost.
    """

    def __init__(self, reason: str, *, then: Callable[[], Awaitable[None]] | None = None) -> None:
        super().__init__(reason)
        self.then = then


class Wakeup:
    """Lets the loops of this process sleep until there may be work.

    Take ``next`` before looking for work and wait for it afterwards: what happens in between is not missed.
    """

    def __init__(self) -> None:
        self.next = asyncio.Event()

    def notify(self) -> None:
        """Wake everybody who waits."""
        self.next.set()
        self.next = asyncio.Event()


async def wait_for(event: asyncio.Event, *, seconds: float) -> None:
    """Sleep until the event is set, or for ``seconds``."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class LeasedWorker:
    """Carries out the work that documents of one collection ask for, several at a time.

    Work whose attempt raised is left alone by this worker for one sweep; others may take it at once.

    Args:
        name: of the worker, in its log and as part of the leases' owner.
        collection: where the documents are.
        find: gives up to that many documents which need work, the most urgent first. Some may be under a
            lease; whoever finishes work makes sure that ``find`` does not give the document again.
        carry_out: does the work. It writes through the lease, raises LeaseLost when that fails and
            Unavailable when it has to be tried later, and survives being cancelled at any await.
        slots: work carried out at the same time.
        lease_s: seconds until a dead worker's work may be taken by another.
        sweep_s: longest time between two looks for work.
        check: awaited beside the work, every ``check_s`` and at every wake-up. The work is ended when it
            raises: StopWork to say what is left to do, LeaseLost when the document rules the work out.
        check_s: see ``check``.
        wakeup: wakes the worker; one of its own if ``None``.
    """

    def __init__(
        self,
        *,
        name: str,
        collection: Collection,
        find: Callable[[int], Awaitable[Sequence[Document]]],
        carry_out: Callable[[Lease], Awaitable[None]],
        slots: int,
        lease_s: float,
        sweep_s: float,
        check: Callable[[Lease], Awaitable[None]] | None = None,
        check_s: float = 1.0,
        wakeup: Wakeup | None = None,
    ) -> None:
        self._name = name
        self._owner = f"{name}@{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._collection = collection
        self._find = find
        self._carry_out = carry_out
        self._slots = slots
        self._lease_s = lease_s
        self._sweep_s = sweep_s
        self._check = check
        self._check_s = check_s
        self._wakeup = wakeup or Wakeup()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._resting_until: dict[str, float] = {}
        self._is_short_of_slots = False

    @property
    def is_short_of_slots(self) -> bool:
        """Whether the last look found work that nobody does and that no slot is left for."""
        return self._is_short_of_slots

    def wake(self) -> None:
        """Look for work now, and at what has changed about the work that is under way."""
        self._wakeup.notify()

    async def run(self) -> None:
        """Take and carry out work until cancelled; then end it and give the leases back."""
        try:
            while True:
                wakeup = self._wakeup.next
                try:
                    await self._take()
                except Unavailable as error:
                    logger.warning("%s waits: %s", self._name, error)
                except Exception:
                    # Whatever it was, documents that nobody works on would be worse.
                    logger.exception("%s could not look for work", self._name)
                await wait_for(wakeup, seconds=self._sweep_s)
        finally:
            await end(*self._running.values(), patience=_CLEANUP_S)

    async def _take(self) -> None:
        now = time.monotonic()
        self._resting_until = {key: until for key, until in self._resting_until.items() if until > now}
        free = [
            document
            for document in await self._find(_SCANNED_DOCUMENTS)
            if document["_id"] not in self._running
            and document["_id"] not in self._resting_until
            and is_free(document)
        ]
        for document in free:
            if len(self._running) >= self._slots:
                break
            lease = await acquire(self._collection, document, owner=self._owner, duration=self._lease_s)
            if lease is not None:
                task = asyncio.create_task(self._attempt(lease), name=f"{self._name} {lease.document_id}")
                self._running[lease.document_id] = task
                task.add_done_callback(partial(self._finished, lease.document_id))
        self._is_short_of_slots = len(self._running) >= self._slots and any(
            document["_id"] not in self._running for document in free
        )

    def _finished(self, document_id: str, _: "asyncio.Task[None]") -> None:
        self._running.pop(document_id, None)
        self.wake()

    async def _attempt(self, lease: Lease) -> None:
        logger.info("%s takes %s, token %d", self._name, lease.document_id, lease.token)
        try:
            await self._under(lease)
        except LeaseLost as error:
            logger.info("%s ends %s: %s", self._name, lease.document_id, error)
        except Unavailable as error:
            logger.warning("%s puts %s back: %s", self._name, lease.document_id, error)
            self._rest(lease)
        except Exception:
            logger.exception("%s dropped %s", self._name, lease.document_id)
            self._rest(lease)
        finally:
            with suppress(Unavailable):
                await lease.release()

    def _rest(self, lease: Lease) -> None:
        self._resting_until[lease.document_id] = time.monotonic() + self._sweep_s

    async def _under(self, lease: Lease) -> None:
        """Do the work while the lease is renewed and ``check`` agrees."""
        working = asyncio.ensure_future(self._carry_out(lease))
        watching = asyncio.create_task(self._watch(lease))
        try:
            await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
                return
            await _stop(working)
            try:
                watching.result()
            except StopWork as stop:
                logger.info("%s stops %s: %s", self._name, lease.document_id, stop)
                if stop.then is not None:
                    await stop.then()
        finally:
            await _stop(working)
            await _stop(watching)

    async def _watch(self, lease: Lease) -> None:
        renewal_s = lease.duration / 4
        renewed = time.monotonic()
        while True:
            wakeup = self._wakeup.next
            if self._check is None:
                await asyncio.sleep(renewal_s)
            else:
                await self._check(lease)
                await wait_for(wakeup, seconds=min(self._check_s, renewal_s))
            if time.monotonic() - renewed >= renewal_s:
                await lease.renew()
                renewed = time.monotonic()


async def _stop(task: "asyncio.Future[None]") -> None:
    """End ``task``. What it raises then no longer matters; what it raised before has been told."""
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=_CLEANUP_S)
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.debug("ended work raised %r", error)

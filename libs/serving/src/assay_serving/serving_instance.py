"""One serving instance: what was asked for, what it is now, and who watches it."""

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass, field, replace

from assay_serving.backend import Engine
from assay_serving.errors import EngineDied, NotReady, ServingError, UnknownInstance
from assay_serving.ledger import Ledger
from assay_serving.types import (
    AdapterDescription,
    Instance,
    InstanceEvent,
    InstanceLog,
    InstanceState,
    Provenance,
    ProvisionSpec,
)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why an instance ends, and the state that it ends in."""

    state: InstanceState
    message: str
    error: ServingError | None = None

    @classmethod
    def of_failure(cls, error: ServingError) -> "Ending":
        """It ends because it cannot go on."""
        return cls(state=InstanceState.FAILED, message=error.message, error=error)

    @classmethod
    def of_release(cls, reason: str) -> "Ending":
        """It ends because nobody wants it any more."""
        return cls(state=InstanceState.RELEASED, message=f"released: {reason or 'no reason given'}")


@dataclass(slots=True, eq=False)
class ServingInstance:
    """The instance with the tasks that lead it through its life.

    Attributes:
        view: what the outside sees; its times are those of the last change, see `current`.
        lease_deadline: seconds of CLOCK_MONOTONIC.
        life: leads it to READY and waits for the end of its engine.
        ending: once set, the instance ends and takes no request; `over` tells of it, and `end` does it.
        log: what is kept of the engine's log after the end.
    """

    spec: ProvisionSpec
    view: Instance
    lease_deadline: float
    ledger: Ledger = field(default_factory=Ledger)
    engine: Engine | None = None
    life: asyncio.Task[None] | None = None
    ending: Ending | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    end: asyncio.Task[None] | None = None
    renewal: asyncio.Task[None] | None = None
    log: InstanceLog = field(default_factory=lambda: InstanceLog(text=""))
    last_event: InstanceEvent | None = None
    watchers: set[asyncio.Queue[InstanceEvent]] = field(default_factory=set)

    @classmethod
    def accept(cls, spec: ProvisionSpec, description: AdapterDescription) -> "ServingInstance":
        """A new one in state PENDING, whose ledger begins now."""
        view = Instance(
            instance_id=uuid.uuid4().hex,
            state=InstanceState.PENDING,
            backend=description.backend,
            capabilities=description.capabilities,
            provenance=Provenance(),
            created_unix_ns=time.time_ns(),
        )
        instance = cls(spec=spec, view=view, lease_deadline=0.0)
        instance.renew_lease(spec.lease)
        instance.publish("accepted")
        return instance

    @property
    def instance_id(self) -> str:
        """Its name."""
        return self.view.instance_id

    @property
    def is_over(self) -> bool:
        """Whether it ends or has ended."""
        return self.ending is not None

    @property
    def ready_engine(self) -> Engine:
        """The engine of an instance that is ready.

        Raises:
            NotReady, UnknownInstance, EngineDied: the state is another one.
        """
        if self.ending is not None:
            if self.ending.error is not None:
                raise EngineDied(f"instance {self.instance_id} has failed: {self.ending.message}")
            raise UnknownInstance(f"instance {self.instance_id} was {self.ending.message}")
        if self.view.state is not InstanceState.READY or self.engine is None:
            raise NotReady(f"instance {self.instance_id} is {self.view.state}; wait until it is ready")
        return self.engine

    def current(self) -> Instance:
        """What the outside sees, with the times so far."""
        return replace(self.view, phase_times=self.ledger.times())

    def renew_lease(self, lease: float) -> None:
        """Let the lease end `lease` seconds from now."""
        self.lease_deadline = time.monotonic() + lease
        self.view = replace(self.view, lease_expires_unix_ns=time.time_ns() + round(lease * 1e9))

    def enter(self, state: InstanceState, message: str) -> None:
        """Change the state, and tell of it."""
        self.view = replace(self.view, state=state)
        self.publish(message)

    def become_ready(self, engine: Engine) -> None:
        """Take over what the engine says of itself, and tell that requests may come."""
        self.view = replace(
            self.view,
            capabilities=engine.capabilities,
            provenance=engine.provenance,
            launcher=engine.launcher,
            accelerators=engine.accelerators,
            ready_unix_ns=time.time_ns(),
        )
        self.enter(InstanceState.READY, "ready")

    def finish(self, ending: Ending) -> None:
        """Enter the final state; the engine is gone and the log kept."""
        failure = ending.error.to_failure() if ending.error else None
        self.view = replace(self.view, state=ending.state, error=failure)
        self.publish(ending.message, log_tail=failure.engine_detail if failure else "")

    def publish(self, message: str, *, log_tail: str = "") -> None:
        """Tell every watcher of the instance as it is now."""
        self.view = self.current()
        event = InstanceEvent(instance=self.view, message=message, log_tail=log_tail)
        self.last_event = event
        for queue in self.watchers:
            queue.put_nowait(event)
        _logger.info("instance %s %s: %s", self.instance_id, self.view.state, message)

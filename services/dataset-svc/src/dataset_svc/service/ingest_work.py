"""What a worker does with an ingest job: reads the Hub in a process of its own, publishes what came of it."""

import asyncio
import logging
import shutil
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from assay_chassis.errors import ServiceError, Unavailable
from assay_chassis.leased_work import LeasedWorker, StopWork, Wakeup
from assay_chassis.leases import Lease, LeaseLost
from dataset_svc.domain.ingests import Failure, Ingest, Phase, Progress
from dataset_svc.domain.snapshots import (
    Column,
    HubOrigin,
    Snapshot,
    SnapshotContent,
    SnapshotRole,
)
from dataset_svc.errors import BeingDeleted, space_needed
from dataset_svc.hub import protocol
from dataset_svc.hub.process import HubAccess, HubProcessDied, read_from_hub
from dataset_svc.settings import HubSettings
from dataset_svc.store import Publication, Stores
from dataset_svc.store.ingests import ingest_of

logger = logging.getLogger(__name__)

_RECORD_EVERY_S = 0.5


def ingest_worker(stores: Stores, *, settings: HubSettings, home: Path, wakeup: Wakeup) -> LeasedWorker:
    """The loop that carries out up to ``settings.slots`` jobs at a time.

    Args:
        stores: this service's data.
        settings: how the Hub is read.
        home: directory for caches and files in between.
        wakeup: wakes the loop.
    """
    access = HubAccess(
        home=home / "cache" / "huggingface", endpoint=settings.endpoint, offline=settings.offline
    )
    workspace = home / "ingests"
    workspace.mkdir(parents=True, exist_ok=True)

    async def carry_out(lease: Lease) -> None:
        await IngestExecution(
            stores, lease=lease, settings=settings, access=access, workspace=workspace
        ).execute()

    async def check(lease: Lease) -> None:
        document = await stores.ingests.document(lease.document_id)
        if ingest_of(document).is_over:
            raise LeaseLost(f"ingest {lease.document_id} is over")
        if by := document.get("cancel_requested_by"):
            raise StopWork("cancel requested", then=partial(cancel, lease, by))

    async def cancel(lease: Lease, by: str) -> None:
        job = await stores.ingests.ingest(lease.document_id)
        # It may have come too late: what the dataset has is what the job says.
        published = await stores.snapshots.published_by(job.id)
        if published is None:
            await stores.ingests.cancel(lease, job, by=by)
        else:
            await stores.ingests.succeed(lease, snapshot_id=published.id)

    return LeasedWorker(
        name="ingest-worker",
        collection=stores.ingests.collection,
        find=stores.ingests.active,
        carry_out=carry_out,
        check=check,
        slots=settings.slots,
        lease_s=settings.lease_s,
        sweep_s=settings.sweep_s,
        wakeup=wakeup,
    )


class IngestExecution:
    """One worker's attempt at one job."""

    def __init__(
        self, stores: Stores, *, lease: Lease, settings: HubSettings, access: HubAccess, workspace: Path
    ) -> None:
        self._stores = stores
        self._lease = lease
        self._settings = settings
        self._access = access
        self._workspace = workspace
        self._commit: str | None = None
        self._recorded_at = 0.0
        self._progress = Progress()

    async def execute(self) -> None:
        """Bring the job to its end.

        Raises:
            LeaseLost: another worker has the job, or it is over.
            Unavailable: it has to be tried again later.
        """
        document = await self._stores.ingests.document(self._lease.document_id)
        job = ingest_of(document)
        self._commit = job.commit
        if document["attempts"] >= self._settings.attempts:
            await self._stores.ingests.fail(self._lease, job, _gave_up(document["attempts"]))
            return
        await self._stores.ingests.start_attempt(self._lease, started_at=job.started_at)
        try:
            await self._attempt(job)
        except HubProcessDied as error:
            raise Unavailable(str(error)) from error
        except LeaseLost:
            raise
        except (asyncio.CancelledError, Unavailable):
            await self._take_back_attempt()
            raise
        except BeingDeleted as error:
            # Perhaps not: a run may refer to it.
            await self._take_back_attempt()
            raise Unavailable(error.detail) from error
        except ServiceError as error:
            await self._stores.ingests.fail(self._lease, job, Failure(error.slug, error.detail))
        except Exception as error:
            logger.exception("ingest %s failed unexpectedly", job.id)
            failure = Failure("internal-error", f"{type(error).__name__}: {error}")
            await self._stores.ingests.fail(self._lease, job, failure)

    async def _take_back_attempt(self) -> None:
        """What ended the attempt is nothing against the job."""
        with suppress(LeaseLost, Unavailable):
            await asyncio.shield(self._stores.ingests.take_back_attempt(self._lease))

    async def _attempt(self, job: Ingest) -> None:
        # A crash between the snapshot and the job's end must not publish again, over newer data perhaps.
        published = await self._stores.snapshots.published_by(job.id)
        if published is not None:
            await self._stores.ingests.succeed(self._lease, snapshot_id=published.id)
            return
        for left in self._workspace.glob(f"{job.id}-*"):  # by a service that was killed
            await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)
        with space_needed(), TemporaryDirectory(dir=self._workspace, prefix=f"{job.id}-") as directory:
            outcome = await read_from_hub(
                self._task(job, directory), access=self._access, on_progress=self._record
            )
            match outcome:
                case protocol.HubFailure():
                    failure = Failure(outcome.code, outcome.message, tuple(outcome.hints))
                    await self._stores.ingests.fail(self._lease, job, failure)
                case protocol.HubResult():
                    await self._stores.ingests.record(
                        self._lease,
                        replace(
                            self._progress,
                            phase=Phase.STORING,
                            rows=outcome.evaluation.rows,
                            rows_total=outcome.evaluation.rows,
                        ),
                        commit=outcome.commit,
                    )
                    snapshot = await self._publish(job, outcome, Path(directory))
                    await self._stores.ingests.succeed(self._lease, snapshot_id=snapshot.id)

    def _task(self, job: Ingest, directory: str) -> protocol.HubTask:
        settings = self._settings
        return protocol.HubTask(
            repo_id=job.source.repo_id,
            subset=job.source.subset,
            split=job.source.split,
            revision=job.source.revision,
            fewshot_split=job.source.fewshot_split,
            token=settings.token.get_secret_value() if settings.token else None,
            directory=str(Path(directory).absolute()),
            max_rows=settings.max_rows,
            max_bytes=settings.max_bytes,
            max_memory_bytes=settings.memory_bytes,
            commit=job.commit,
            patience_s=settings.patience_s,
        )

    async def _record(self, told: protocol.Progress) -> None:
        """Keep progress, not too often; the commit at once."""
        is_news = told.phase != self._progress.phase or told.commit not in (None, self._commit)
        if not is_news and time.monotonic() - self._recorded_at < _RECORD_EVERY_S:
            return
        self._commit, self._recorded_at = told.commit or self._commit, time.monotonic()
        self._progress = Progress(
            Phase(told.phase),
            rows=told.rows,
            rows_total=told.rows_total,
            bytes=told.bytes,
            bytes_total=told.bytes_total,
        )
        await self._stores.ingests.record(self._lease, self._progress, commit=told.commit)

    async def _publish(self, job: Ingest, result: protocol.HubResult, directory: Path) -> Snapshot:
        with ExitStack() as stack:
            evaluation = stack.enter_context((directory / result.evaluation.file).open("rb"))
            fewshot = None
            if result.fewshot is not None:
                fewshot = stack.enter_context((directory / result.fewshot.file).open("rb"))
            publication = Publication(
                content=_content(job, result, result.evaluation, role=SnapshotRole.EVALUATION),
                file=evaluation,
                fewshot=_content(job, result, result.fewshot, role=SnapshotRole.FEWSHOT)
                if result.fewshot
                else None,
                fewshot_file=fewshot,
                ingest_id=job.id,
                still_wanted=self._lease.renew,
            )
            return await self._stores.publish(job.dataset_id, publication)


def _content(
    job: Ingest, result: protocol.HubResult, part: protocol.HubPart, *, role: SnapshotRole
) -> SnapshotContent:
    return SnapshotContent(
        digest=part.digest,
        rows=part.rows,
        bytes=part.bytes,
        columns=tuple(
            Column(name=each.name, type=each.type, nulls=each.nulls, examples=tuple(each.examples))
            for each in part.columns
        ),
        split=part.split,
        source=HubOrigin(
            repo_id=result.repo_id,
            subset=result.subset,
            split=part.split,
            requested_revision=job.source.revision,
            commit=result.commit,
        ),
        role=role,
    )


def _gave_up(attempts: int) -> Failure:
    return Failure(
        "ingest-keeps-failing",
        f"the process that reads the rows ended {attempts} times without a result; the log of dataset-svc "
        "says how",
        ("free memory on the machine of dataset-svc, or import a smaller split",),
    )

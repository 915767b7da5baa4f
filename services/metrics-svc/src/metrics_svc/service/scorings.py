"""Scored views: another way to score the samples of a finished run, without asking the model again."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay_chassis.errors import Fault, Unavailable
from assay_chassis.identifiers import new_id
from assay_chassis.leased_work import Wakeup
from assay_chassis.store import Change, Document, DuplicateKey
from assay_harness.errors import HarnessError, HarnessFailed, HarnessProcessDied, InvalidOptions
from assay_harness.spec import Scoring
from metrics_svc.domain.plans import read_plan
from metrics_svc.domain.runs import QualityMetrics, ScoringState, now
from metrics_svc.domain.scoring import ViewRequest, after_request, is_own, new_view
from metrics_svc.errors import InvalidScoring, RunNotFinal, UnknownScoring, Unscorable
from metrics_svc.service.harness import HarnessOpener
from metrics_svc.service.runs import RunService, metrics_of
from metrics_svc.service.samples import SampleFilter, SamplePage, list_samples
from metrics_svc.store import MetricsStore

CHECKS_AT_ONCE = 2
"""Requests that are checked at the same time: each has a harness process of some 200 MB."""


class ScoredView(QualityMetrics):
    """The samples of a run, scored in another way."""

    id: str
    name: str
    scoring: Scoring
    created_at: str
    created_by: str


@dataclass(frozen=True, slots=True)
class ViewPage:
    """Part of a run's views, newest first."""

    items: list[ScoredView]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class CreatedView:
    """A view, and whether it is new."""

    view: ScoredView
    is_new: bool


class ScoringService:
    """Makes views and shows them; the scorer works on them as on the runs' own."""

    def __init__(
        self, *, store: MetricsStore, runs: RunService, harness: HarnessOpener, wakeup: Wakeup
    ) -> None:
        self._store = store
        self._runs = runs
        self._harness = harness
        self._wakeup = wakeup
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)

    async def create(self, *, run_id: str, scoring: Scoring, name: str | None, client: str) -> CreatedView:
        """Ask for a view; the same scoring of the same run always gives the same view.

        Raises:
            UnknownRun: there is no such run.
            RunNotFinal: the run has no final metrics.
            InvalidScoring: the task's responses cannot be scored so; nothing was stored.
            Unavailable: the rows or the harness cannot be had.
        """
        request = ViewRequest(run_id=run_id, scoring=scoring, name=name, client=client)
        if (existing := await self._again(request)) is not None:
            return CreatedView(_view(existing), is_new=False)
        run = await self._runs.run(run_id, field="run_id")
        own = await self._store.scorings.get(run_id)
        if own is None or own["state"] != ScoringState.FINAL:
            message = f"run {run_id} is {run['state']}; only a run with final metrics can be scored again"
            raise RunNotFinal(message, faults=[Fault(message, field="run_id")])
        await self._check(run, scoring)
        view = new_view(request, own=own, sort_key=new_id("scr"), created_at=now())
        try:
            stored = await self._store.scorings.insert(view)
        except DuplicateKey:
            return CreatedView(await self.get(request.view_id), is_new=False)
        self._wakeup.notify()
        return CreatedView(_view(stored), is_new=True)

    async def _again(self, request: ViewRequest) -> Document | None:
        def change(view: Document) -> Change | None:
            fields = after_request(view)
            return None if fields is None else Change(set=fields)

        view = await self._store.scorings.modify(request.view_id, change)
        if view is not None:
            self._wakeup.notify()
        return view

    async def _check(self, run: Mapping[str, Any], scoring: Scoring) -> None:
        """Open the task with this scoring; what does not fit shows at once."""
        try:
            async with self._checks, self._harness.open(read_plan(run).harness, scoring=scoring):
                return
        except (HarnessProcessDied, HarnessFailed) as error:
            raise Unavailable(f"the harness does not open: {error}") from error
        except InvalidOptions as error:
            raise InvalidScoring(str(error), faults=[Fault(error.problem, field=error.option)]) from error
        except (HarnessError, Unscorable) as error:
            raise InvalidScoring(str(error), faults=[Fault(str(error), field="scoring")]) from error

    async def get(self, view_id: str) -> ScoredView:
        """One view.

        Raises:
            UnknownScoring: there is none of this id.
        """
        return _view(await self._document(view_id))

    async def _document(self, view_id: str) -> Document:
        found = await self._store.scorings.get(view_id)
        if found is None or is_own(found):
            raise UnknownScoring(f"there is no scored view {view_id!r}")
        return found

    async def page(self, run_id: str, *, cursor: str | None, limit: int) -> ViewPage:
        """The views of a run, newest first; the run's own scoring is not among them."""
        page = await self._store.scorings.page({"run_id": run_id}, cursor=cursor, limit=limit)
        return ViewPage(items=[_view(view) for view in page.items], next_cursor=page.next_cursor)

    async def samples(
        self, view_id: str, *, wanted: SampleFilter, cursor: str | None, limit: int
    ) -> SamplePage:
        """Samples as this view scores them, in the order in which they were finished.

        Raises:
            UnknownScoring: there is no such view.
            UnknownMetric, InvalidFilter: see ``list_samples``.
        """
        view = _view(await self._document(view_id))
        log = self._store.scored_log(view_id)
        return await list_samples(log, view, wanted=wanted, cursor=cursor, limit=limit)


def _view(document: Mapping[str, Any]) -> ScoredView:
    metrics = metrics_of(document)
    return ScoredView(
        **{name: getattr(metrics, name) for name in QualityMetrics.model_fields},
        id=document["_id"],
        name=document["name"],
        scoring=Scoring.model_validate_json(document["scoring"]),
        created_at=document["created_at"],
        created_by=document["created_by"],
    )

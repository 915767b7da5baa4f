"""Evaluations: the list with its live states; what one evaluation shows is in ``evaluations_detail``."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from assay.models import Artifact, Dataset, Run
from assay_console.gateway import AnyDocument, ApiError, Gateway
from assay_console.pages import pages_of
from assay_console.screens import evaluations_detail, evaluations_export
from assay_console.screens.evaluations_quality import Headline, headline
from assay_console.screens.name_search import name_search
from assay_console.sign_in import Api

router = APIRouter()

RUN_STATES = ("Queued", "Provisioning", "Running", "Scoring", "Succeeded", "Failed", "Cancelled")
_MOST_CHOICES = 200
_MOST_WATCHED = 50


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run of the list with the metric that is told first."""

    run: Run
    headline: Headline | None

    @property
    def tps(self) -> float | None:
        """Output tokens per second; ``None`` while it is not known."""
        return (self.run.runtime or {}).get("tps")


@dataclass(frozen=True, slots=True)
class RunFilter:
    """What the list is narrowed to; empty: not."""

    name: str = ""
    state: str = ""
    dataset_id: str = ""
    artifact_id: str = ""

    @property
    def is_set(self) -> bool:
        """Whether anything is narrowed."""
        return any(self.query().values())

    def query(self) -> dict[str, str]:
        """The query of the list's address."""
        return asdict(self)


@router.get("/evaluations", name="evaluations")
async def evaluations(
    request: Request,
    api: Api,
    name: str = "",
    state: str = "",
    dataset_id: str = "",
    artifact_id: str = "",
    cursor: str = "",
) -> Response:
    """The list, newest first, to choose runs from."""
    chosen = RunFilter(name.strip(), state if state in RUN_STATES else "", dataset_id, artifact_id)
    page, datasets, artifacts = await asyncio.gather(
        api.page(
            "/v1/evaluations",
            Run,
            cursor=cursor,
            limit=request.app.state.settings.page_size,
            query={
                **name_search(chosen.name),
                "state": chosen.state,
                "dataset_id": chosen.dataset_id,
                "artifact_id": chosen.artifact_id,
            },
        ),
        _choices(api, "/v1/datasets", Dataset),
        _choices(api, "/v1/artifacts", Artifact),
    )
    return pages_of(request).page(
        request,
        "evaluations/list.html",
        lines=[_line(run) for run in page.items],
        active=[run.id for run in page.items if not run.is_over][:_MOST_WATCHED],
        next_cursor=page.next_cursor,
        cursor=cursor,
        chosen=chosen,
        states=RUN_STATES,
        datasets=datasets,
        artifacts=artifacts,
    )


@router.get("/evaluations/states", name="evaluation_states")
async def states(
    request: Request, api: Api, run: Annotated[Sequence[str], Query(max_length=_MOST_WATCHED)] = ()
) -> Response:
    """Part of the list: where these runs are now. It asks again until all of them are over."""
    runs = await asyncio.gather(*(api.get(f"/v1/evaluations/{run_id}", Run) for run_id in run))
    return pages_of(request).page(
        request,
        "evaluations/states.html",
        lines=[_line(one) for one in runs],
        active=[one.id for one in runs if not one.is_over],
    )


def _line(run: Run) -> RunLine:
    return RunLine(run, headline(run.quality))


async def _choices(api: Gateway, path: str, model: type[AnyDocument]) -> Sequence[AnyDocument]:
    """What to filter by. The list of runs is worth showing without it."""
    try:
        return (await api.page(path, model, limit=_MOST_CHOICES)).items
    except ApiError as error:
        if error.status == 401:
            raise
        return ()


# Not include_router: paths by name are looked up in this router's own routes.
router.routes.extend([*evaluations_export.router.routes, *evaluations_detail.router.routes])

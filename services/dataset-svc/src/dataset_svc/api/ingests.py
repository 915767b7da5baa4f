"""Bringing rows of the Hugging Face Hub into a dataset."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import PageModel, client_of, problems
from dataset_svc.api.parameters import Cursor, DatasetId, Limit, Opened
from dataset_svc.domain.ingests import HubSource, Ingest, IngestState, Phase
from dataset_svc.errors import DatasetNotFound, IngestNotFound, IngestOver, IngestUnderWay

router = APIRouter(route_class=GuardedRoute, tags=["ingests"])

IngestId = Annotated[str, Path(max_length=100)]

_NAME = r"^[^\x00-\x1f\x7f]+$"


class HubSourceModel(BaseModel):
    """A split of a data set repository on the Hugging Face Hub."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["huggingface"]
    repo_id: str = Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)?$", max_length=200, examples=["openai/gsm8k"])
    subset: str | None = Field(
        default=None,
        pattern=_NAME,
        max_length=200,
        description="configuration of the data; the only or default one if null",
    )
    split: str = Field(pattern=r"^\w[\w.-]*$", max_length=100, examples=["test"])
    revision: str = Field(
        default="main", pattern=_NAME, max_length=200, description="branch, tag or commit; becomes a commit"
    )
    fewshot_split: str | None = Field(
        default=None,
        pattern=r"^\w[\w.-]*$",
        max_length=100,
        description="split of the same subset that few-shot examples are drawn from",
    )


class NewIngest(BaseModel):
    """What to bring in."""

    model_config = ConfigDict(extra="forbid")

    source: HubSourceModel


class JobSourceModel(HubSourceModel):
    """What a job reads."""

    commit: str | None = Field(
        default=None, description="what the revision stands for; null until it is known"
    )


class ProgressModel(BaseModel):
    """How far the present phase is. A total of null is not known."""

    model_config = ConfigDict(from_attributes=True)

    phase: Phase
    rows: int
    rows_total: int | None
    bytes: int = Field(description="of the Hub's files")
    bytes_total: int | None


class FailureModel(BaseModel):
    """Why a job failed."""

    model_config = ConfigDict(from_attributes=True)

    code: str = Field(description="stable for programs, for example unknown-split")
    message: str
    hints: list[str] = Field(description="what may be done, or what there is to choose from")


class IngestModel(BaseModel):
    """A job."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    dataset_id: str
    state: IngestState
    source: JobSourceModel
    progress: ProgressModel
    error: FailureModel | None
    snapshot_id: str | None = Field(description="made by it, or found current with the same content")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class IngestPage(PageModel):
    """Jobs, newest first."""

    items: list[IngestModel]


def ingest_model(job: Ingest) -> IngestModel:
    """The job as it travels."""
    source: dict[str, Any] = {
        "kind": "huggingface",
        **{name: getattr(job.source, name) for name in HubSource.__dataclass_fields__},
        "commit": job.commit,
    }
    return IngestModel(
        id=job.id,
        dataset_id=job.dataset_id,
        state=job.state,
        source=JobSourceModel(**source),
        progress=ProgressModel.model_validate(job.progress),
        error=FailureModel.model_validate(job.error) if job.error else None,
        snapshot_id=job.snapshot_id,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


@router.post(
    "/datasets/{dataset_id}/ingests",
    openapi_extra=needs(Role.EDITOR),
    status_code=202,
    summary="Import from the Hugging Face Hub",
    responses=problems(DatasetNotFound, IngestUnderWay),
)
async def start_ingest(dataset_id: DatasetId, body: NewIngest, services: Opened) -> IngestModel:
    """Queue a job that makes a split of a repository the dataset's current snapshot.

    The revision becomes a commit at the start, and all is read at that commit. The features of the columns
    are kept. With `fewshot_split`, that split becomes a second snapshot, which the current one names. Until
    the job has succeeded, the dataset keeps what it has; a job that fails or is cancelled changes nothing.
    """
    source = HubSource(**body.source.model_dump(exclude={"kind"}))
    return ingest_model(await services.ingests.start(dataset_id, source))


@router.get(
    "/datasets/{dataset_id}/ingests",
    openapi_extra=needs(Role.VIEWER),
    summary="List a dataset's imports",
    responses=problems(DatasetNotFound),
)
async def list_ingests(
    dataset_id: DatasetId, services: Opened, cursor: Cursor = None, limit: Limit = 50
) -> IngestPage:
    """Jobs of the dataset, newest first."""
    page = await services.ingests.ingests(dataset_id, cursor=cursor, limit=limit)
    return IngestPage(items=[ingest_model(job) for job in page.items], next_cursor=page.next_cursor)


@router.get(
    "/ingests/{ingest_id}",
    openapi_extra=needs(Role.VIEWER),
    summary="Get an import",
    responses=problems(IngestNotFound),
)
async def get_ingest(ingest_id: IngestId, services: Opened) -> IngestModel:
    """One job: how far it is, or how it ended."""
    return ingest_model(await services.ingests.ingest(ingest_id))


@router.post(
    "/ingests/{ingest_id}/cancel",
    openapi_extra=needs(Role.EDITOR),
    summary="Cancel an import",
    responses=problems(IngestNotFound, IngestOver),
)
async def cancel_ingest(ingest_id: IngestId, request: Request, services: Opened) -> IngestModel:
    """End a job. One that is being worked on is `Cancelled` within seconds."""
    return ingest_model(await services.ingests.cancel(ingest_id, by=client_of(request)))

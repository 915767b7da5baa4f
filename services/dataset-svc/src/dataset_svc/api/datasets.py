"""Registering datasets and finding them."""

from fastapi import APIRouter

from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import problems
from dataset_svc.api.models import DatasetModel, DatasetPage, NewDataset
from dataset_svc.api.parameters import Cursor, DatasetId, Limit, Opened, Search
from dataset_svc.errors import DatasetNotFound, NameTaken

router = APIRouter(route_class=GuardedRoute, tags=["datasets"])


@router.post(
    "/datasets",
    openapi_extra=needs(Role.EDITOR),
    status_code=201,
    summary="Register a dataset",
    responses=problems(NameTaken),
)
async def create_dataset(body: NewDataset, services: Opened) -> DatasetModel:
    """Register a named dataset. It is `Empty` until data is added."""
    dataset = await services.datasets.create_dataset(
        name=body.name, version=body.version, description=body.description
    )
    return DatasetModel.model_validate(dataset)


@router.get("/datasets", openapi_extra=needs(Role.VIEWER), summary="List datasets")
async def list_datasets(
    services: Opened,
    name: str | None = None,
    search: Search = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> DatasetPage:
    """Datasets, newest first; with `name`, those of exactly that name."""
    page = await services.datasets.datasets(name=name, search=search, cursor=cursor, limit=limit)
    return DatasetPage.model_validate(page)


@router.get(
    "/datasets/{dataset_id}",
    openapi_extra=needs(Role.VIEWER),
    summary="Get a dataset",
    responses=problems(DatasetNotFound),
)
async def get_dataset(dataset_id: DatasetId, services: Opened) -> DatasetModel:
    """One dataset with its current snapshot."""
    return DatasetModel.model_validate(await services.datasets.dataset(dataset_id))

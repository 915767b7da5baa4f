"""Datasets: the list, and creating one."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from assay.models import Dataset
from assay_console.gateway import ApiError
from assay_console.pages import pages_of, path_of
from assay_console.sign_in import Api

router = APIRouter()


@router.get("/datasets", name="datasets")
async def datasets(request: Request, api: Api, name: str = "", cursor: str = "") -> Response:
    """The list, newest first."""
    page = await api.page(
        "/v1/datasets",
        Dataset,
        cursor=cursor,
        limit=request.app.state.settings.page_size,
        query={"name": name},
    )
    return pages_of(request).page(
        request,
        "datasets/list.html",
        datasets=page.items,
        next_cursor=page.next_cursor,
        name=name,
        cursor=cursor,
    )


@router.get("/datasets/new", name="dataset_new")
async def new(request: Request, _: Api) -> Response:
    """The form of "Create Dataset"."""
    return pages_of(request).page(
        request, "datasets/new.html", error=None, values={"name": "", "version": "main", "description": ""}
    )


@router.post("/datasets", name="dataset_create")
async def create(
    request: Request,
    api: Api,
    name: Annotated[str, Form()] = "",
    version: Annotated[str, Form()] = "main",
    description: Annotated[str, Form()] = "",
) -> Response:
    """Create it and go to it, or show the form again with what is wrong."""
    values = {"name": name.strip(), "version": version.strip(), "description": description}
    try:
        created = await api.post("/v1/datasets", Dataset, body=values)
    except ApiError as error:
        if not error.is_refusal:
            raise
        return pages_of(request).page(
            request, "datasets/new.html", status=error.status, error=error, values=values
        )
    return RedirectResponse(path_of(request, "dataset", dataset_id=created.id), 303)


@router.get("/datasets/{dataset_id}", name="dataset")
async def dataset(request: Request, api: Api, dataset_id: str) -> Response:
    """What the dataset has now."""
    found = await api.get(f"/v1/datasets/{dataset_id}", Dataset)
    return pages_of(request).page(request, "datasets/info.html", dataset=found)

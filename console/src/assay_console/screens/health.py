"""Whether the parts of the platform answer."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from fastapi import APIRouter, Request, Response

from assay.models import Document, Page
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import pages_of
from assay_console.sign_in import Api

router = APIRouter()

_PARTS = {
    "Datasets": "/v1/datasets",
    "Evaluation methods": "/v1/methods",
    "Evaluations and serving": "/v1/evaluations",
    "Metrics and decisions": "/v1/comparisons",
}


@dataclass(frozen=True, slots=True)
class PartHealth:
    """Whether one part answered, after how many seconds, and what it said where it did not."""

    name: str
    seconds: float
    error: ApiError | None = None


@router.get("/health", name="health")
async def health(request: Request, api: Api) -> Response:
    """Ask each part for something small, through the gateway."""
    parts, backends = await asyncio.gather(
        asyncio.gather(*(_ask(api, name, path) for name, path in _PARTS.items())), _backends(api)
    )
    return pages_of(request).page(request, "health/page.html", parts=parts, backends=backends)


async def _ask(api: Gateway, name: str, path: str) -> PartHealth:
    begin = perf_counter()
    try:
        await api.page(path, Document, limit=1)
    except ApiError as error:
        if error.status == 401:
            raise
        return PartHealth(name, perf_counter() - begin, error)
    return PartHealth(name, perf_counter() - begin)


async def _backends(api: Gateway) -> Sequence[Document] | ApiError:
    try:
        return (await api.get("/v1/backends", Page[Document])).items
    except ApiError as error:
        if error.status == 401:
            raise
        return error

"""Files of the API, handed on as downloads."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from fastapi.responses import StreamingResponse

from assay_console.gateway import Gateway, Query


async def download(
    api: Gateway, path: str, *, filename: str, query: Query | None = None
) -> StreamingResponse:
    """A file as it comes, nothing of it kept here.

    It is always saved, never shown: what lies in it was written by models and by strangers.

    Raises:
        ApiError: the platform has no such file.
    """
    async with AsyncExitStack() as stack:
        answer = await stack.enter_async_context(api.download(path, query=query))
        kept = stack.pop_all()

    async def content() -> AsyncIterator[bytes]:
        async with kept:
            async for chunk in answer.aiter_bytes():
                yield chunk

    return StreamingResponse(
        content(),
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{filename}"'},
    )


def safe_name(*parts: str) -> str:
    """A file name of letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", "-".join(parts))

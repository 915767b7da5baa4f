"""Files of the API, handed on as they come."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import quote

from fastapi.responses import StreamingResponse

from assay_console.gateway import Gateway, Query


async def download(
    api: Gateway, path: str, *, filename: str, query: Query | None = None
) -> StreamingResponse:
    """A file of the API, nothing of it kept here.

    It is always saved, never shown: what lies in it was written by models and by strangers. What file systems
    do not take in ``filename`` is replaced.

    Raises:
        ApiError: the platform has no such file.
    """
    async with AsyncExitStack() as stack:
        answer = await stack.enter_async_context(api.download(path, query=query))
        kept = stack.pop_all()

    async def content() -> AsyncIterator[bytes]:
        async with kept:
            async for piece in answer.aiter_bytes():
                yield piece

    plain = re.sub(r"[^\w.-]", "_", filename)
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(plain, safe='')}"}
    if "content-length" in answer.headers and "content-encoding" not in answer.headers:
        headers["Content-Length"] = answer.headers["content-length"]
    return StreamingResponse(content(), media_type="application/octet-stream", headers=headers)

"""What tests of imports over HTTP share: starting one, and waiting for what becomes of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from hub_server import Hub


def fast(hub: Hub, **more: Any) -> dict[str, Any]:
    return {"hf_endpoint": hub.url, "ingest_sweep_s": 0.3, "ingest_lease_s": 2.0, **more}


async def start(api: Any, dataset_id: str, **source: Any) -> dict[str, Any]:
    body = {"source": {"kind": "huggingface", "repo_id": "acme/quiz", "split": "test", **source}}
    response = await api.http.post(f"/v1/datasets/{dataset_id}/ingests", json=body)
    assert response.status_code == 202, response.text
    return dict(response.json())


async def until(
    look: Callable[[], Awaitable[Any]], holds: Callable[[Any], Any], *, seconds: float = 90
) -> Any:
    deadline = time.monotonic() + seconds
    while not holds(found := await look()):
        assert time.monotonic() < deadline, f"did not happen in time: {found}"
        await asyncio.sleep(0.05)
    return found


async def over(api: Any, job: dict[str, Any]) -> dict[str, Any]:
    ends = ("Succeeded", "Failed", "Cancelled")
    found = await until(lambda: api.get(f"/v1/ingests/{job['id']}"), lambda now: now["state"] in ends)
    return dict(found)

"""Timed answers: of the API, and of the console with whole pages."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx

_PATIENCE_SECONDS = 60.0


class Timed(NamedTuple):
    """How long the whole answer took, in ms, and its size."""

    milliseconds: float
    kilobytes: float


class Answers:
    """A client of the gateway that is signed in to the console as well."""

    def __init__(self, url: str, *, api_key: str) -> None:
        self._url = url
        signed_in = httpx.post(f"{url}/console/sign-in", data={"api_key": api_key}, headers={"Origin": url})
        cookies = "; ".join(f"{name}={value}" for name, value in signed_in.cookies.items())
        assert cookies, signed_in.status_code
        self._headers = {"X-API-Key": api_key, "Cookie": cookies}

    def json(self, path: str) -> Any:
        """An answer of the API."""
        answer = httpx.get(self._url + path, headers=self._headers, timeout=_PATIENCE_SECONDS)
        return answer.raise_for_status().json()

    def last_block(self, run_id: str) -> int:
        """The number of the last block of a run's sample log, whose blocks are numbered without gaps."""
        low, high = 0, 1 << 20
        while high - low > 1:
            middle = (low + high) // 2
            path = f"{self._url}/v1/evaluations/{run_id}/blocks/{middle}"
            there = httpx.get(path, headers=self._headers, timeout=_PATIENCE_SECONDS).status_code == 200
            low, high = (middle, high) if there else (low, middle)
        return low

    async def of_api(self, http: httpx.AsyncClient, stages: Sequence[Sequence[str]]) -> Timed:
        """All calls: one stage after another, those of a stage at once."""
        size, began = 0, time.perf_counter()
        for stage in stages:
            size += sum(await asyncio.gather(*(self._read(http, path) for path in stage)))
        return Timed((time.perf_counter() - began) * 1e3, size / 1e3)

    async def of_console(self, http: httpx.AsyncClient, page: str) -> Timed:
        """A page to its last byte."""
        began = time.perf_counter()
        size = await self._read(http, f"/console{page}")
        return Timed((time.perf_counter() - began) * 1e3, size / 1e3)

    async def _read(self, http: httpx.AsyncClient, path: str) -> int:
        answer = await http.get(self._url + path, headers=self._headers, timeout=_PATIENCE_SECONDS)
        assert answer.status_code == 200, (answer.status_code, path)  # a sign-in page would be a redirect
        return len(answer.content)

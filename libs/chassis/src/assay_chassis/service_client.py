"""HTTP client for calls from one service to another: signed identity, traces, retries, problem details."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from assay_chassis.errors import Conflict, Fault, InvalidRequest, NotFound, ServiceError, Unavailable
from assay_chassis.identity import Role, SignedIdentity
from assay_chassis.telemetry import Telemetry

_BY_STATUS: Mapping[int, type[ServiceError]] = {404: NotFound, 409: Conflict, 422: InvalidRequest}
_DELAYS = (0.1, 0.3, 1.0, 2.0)


class DigestMismatch(Exception):
    """Downloaded bytes do not have the promised digest."""


class ServiceClient:
    """Calls one other service. Safe calls are repeated while it does not answer."""

    def __init__(self, http: httpx.AsyncClient, *, peer: str, telemetry: Telemetry) -> None:
        self._http = http
        self._peer = peer
        self._telemetry = telemetry

    async def get(self, path: str, **parameters: str | int | None) -> Any:
        """GET JSON. Parameters that are ``None`` are left out.

        Raises:
            NotFound, Conflict, InvalidRequest: the peer refused; its detail and faults are kept.
            Unavailable: the peer did not answer after several tries, or failed.
        """
        query = {name: value for name, value in parameters.items() if value is not None}
        for delay in (*_DELAYS, None):
            try:
                response = await self._http.get(path, params=query, headers=self._telemetry.carrier())
                if response.status_code < 500:
                    return self._read(response)
                problem = f"{self._peer} answered {response.status_code} on {path}"
            except httpx.TransportError as error:
                problem = f"{self._peer} does not answer on {path}: {error!r}"
            if delay is None:
                break
            await asyncio.sleep(delay)
        raise Unavailable(problem)

    def _read(self, response: httpx.Response) -> Any:
        if response.is_success:
            return response.json()
        try:
            body = response.json()
        except ValueError:
            body = {}
        detail = body.get("detail") or f"{self._peer} answered {response.status_code}"
        known = {"message", "field", "line", "column", "row"}
        faults = [
            Fault(**{name: value for name, value in fault.items() if name in known})
            for fault in body.get("errors", ())
        ]
        error = _BY_STATUS.get(response.status_code)
        if error is None:
            raise Unavailable(f"{self._peer} refused: {HTTPStatus(response.status_code).phrase}: {detail}")
        raise error(detail, faults=faults)

    async def download(self, path: str, *, sha256: str, directory: Path) -> Path:
        """Fetch an immutable file into a content-addressed cache, once.

        Args:
            path: path at the peer.
            sha256: digest of the content, hexadecimal; also its name in the cache.
            directory: the cache.

        Returns:
            The file's path.

        Raises:
            NotFound: the peer has no such file.
            DigestMismatch: the content is not what was promised; nothing is kept.
            Unavailable: the peer did not answer after several tries.
        """
        target = directory / sha256
        if target.exists():
            return target
        directory.mkdir(parents=True, exist_ok=True)
        for delay in (*_DELAYS, None):
            try:
                return await self._fetch(path, sha256=sha256, target=target)
            except (httpx.TransportError, Unavailable) as error:
                if delay is None:
                    raise Unavailable(f"{self._peer} does not deliver {path}: {error!r}") from error
                await asyncio.sleep(delay)
        raise AssertionError("unreachable")

    async def _fetch(self, path: str, *, sha256: str, target: Path) -> Path:
        digest = hashlib.sha256()
        descriptor, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:16]}-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                async with self._http.stream("GET", path, headers=self._telemetry.carrier()) as response:
                    if not response.is_success:
                        await response.aread()
                        self._read(response)
                    async for chunk in response.aiter_bytes():
                        digest.update(chunk)
                        file.write(chunk)
            if digest.hexdigest() != sha256:
                raise DigestMismatch(f"{path}: expected sha256 {sha256}, got {digest.hexdigest()}")
            os.replace(partial, target)
        finally:
            Path(partial).unlink(missing_ok=True)
        return target


@asynccontextmanager
async def open_service_client(
    base_url: str, *, peer: str, caller: str, internal_key: str, telemetry: Telemetry
) -> AsyncIterator[ServiceClient]:
    """A client of the service ``peer`` at ``base_url``, in the name of ``caller``, which only reads."""
    identity = SignedIdentity(internal_key=internal_key, client=caller, role=Role.VIEWER)
    async with httpx.AsyncClient(
        base_url=base_url, auth=identity, timeout=httpx.Timeout(30.0, connect=2.0)
    ) as http:
        yield ServiceClient(http, peer=peer, telemetry=telemetry)

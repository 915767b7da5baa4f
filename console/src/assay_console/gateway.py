"""The public API, as the signed-in user may call it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from assay.models import Document, Fault, Page, Problem
from assay_console.error_words import for_people

AnyDocument = TypeVar("AnyDocument", bound=Document)
Query = Mapping[str, str | int | float | Sequence[str] | None]


class ApiError(Exception):
    """The API answered with an error, or not at all (status 0).

    Attributes:
        status: HTTP status; 0 where nobody answered.
        problem: what the platform said.
    """

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title)
        self.status = status
        self.problem = problem

    @property
    def is_refusal(self) -> bool:
        """Whether the caller can do something about it: input that is wrong, missing or in the way.

        A key that is not accepted, or whose role may not do this, is nothing that another input mends.
        """
        return 400 <= self.status < 500 and self.status not in (401, 403)

    @property
    def faults(self) -> Sequence[Fault]:
        """What is wrong with the input, one by one; may be empty."""
        return self.problem.errors


class Gateway:
    """Calls of one user. Every method raises an ApiError where the answer is no success."""

    def __init__(self, http: httpx.AsyncClient, *, api_key: str) -> None:
        self._http = http
        self._headers = {"X-API-Key": api_key}

    async def get(self, path: str, model: type[AnyDocument], *, query: Query | None = None) -> AnyDocument:
        """GET a document."""
        return _parsed(await self._send("GET", path, params=_present(query)), model)

    async def page(
        self,
        path: str,
        model: type[AnyDocument],
        *,
        cursor: str | None = None,
        limit: int,
        query: Query | None = None,
    ) -> Page[AnyDocument]:
        """GET one page of a list."""
        asked = {**(query or {}), "cursor": cursor or None, "limit": limit}
        return await self.get(path, Page[model], query=asked)  # type: ignore[valid-type]

    async def post(
        self,
        path: str,
        model: type[AnyDocument],
        *,
        body: Mapping[str, Any] | None = None,
        query: Query | None = None,
        idempotency_key: str | None = None,
    ) -> AnyDocument:
        """POST JSON."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        answer = await self._send("POST", path, json=body, params=_present(query), headers=headers)
        return _parsed(answer, model)

    async def put(self, path: str, *, body: Mapping[str, Any]) -> None:
        """PUT JSON that nothing is answered to."""
        await self._send("PUT", path, json=body)

    async def delete(self, path: str) -> None:
        """DELETE."""
        await self._send("DELETE", path)

    async def upload(
        self,
        path: str,
        model: type[AnyDocument],
        *,
        content: AsyncIterator[bytes],
        query: Query,
    ) -> AnyDocument:
        """POST bytes as they come; nothing is held back here."""
        headers = {"Content-Type": "application/x-ndjson"}
        answer = await self._send("POST", path, content=content, params=_present(query), headers=headers)
        return _parsed(answer, model)

    async def text(self, path: str, *, query: Query | None = None) -> str:
        """GET what is no JSON, whole."""
        return (await self._send("GET", path, params=_present(query))).text

    @asynccontextmanager
    async def download(self, path: str, *, query: Query | None = None) -> AsyncIterator[httpx.Response]:
        """GET a file; its bytes are read from the answer while the block runs."""
        try:
            async with self._http.stream(
                "GET", _as_path(path), params=_present(query), headers=self._headers
            ) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise _error_of(answer)
                yield answer
        except httpx.TransportError as error:
            raise _unreachable(error) from error

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {**self._headers, **options.pop("headers", {})}
        try:
            answer = await self._http.request(method, _as_path(path), headers=headers, **options)
        except httpx.TransportError as error:
            raise _unreachable(error) from error
        if not answer.is_success:
            raise _error_of(answer)
        return answer


def _as_path(path: str) -> str:
    """The path as it is meant: a name in it that has ``?`` or ``#`` begins no query of its own."""
    return quote(path, safe="/%:@,+~")


def _error_of(answer: httpx.Response) -> ApiError:
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        problem = Problem(title=f"{answer.status_code} {answer.reason_phrase}", status=answer.status_code)
    return ApiError(answer.status_code, for_people(problem))


def _unreachable(error: httpx.TransportError) -> ApiError:
    reason = "it did not answer in time" if isinstance(error, httpx.TimeoutException) else str(error)
    return ApiError(0, Problem(title="The platform does not answer", detail=reason or None))


def _parsed(answer: httpx.Response, model: type[AnyDocument]) -> AnyDocument:
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        detail = f"{answer.request.url.path} answered something unexpected ({where}: {first['msg']})"
        raise ApiError(502, Problem(title="The platform is of another version", detail=detail)) from error


def _present(query: Query | None) -> dict[str, str | int | float | Sequence[str]]:
    return {name: value for name, value in (query or {}).items() if value is not None and value != ""}

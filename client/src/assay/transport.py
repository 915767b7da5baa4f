"""HTTP under the client: key, retries, problem documents."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, TypeVar

import httpx
from pydantic import ValidationError

from assay.errors import (
    AssayError,
    Conflict,
    NotFound,
    PlatformFailed,
    PlatformUnreachable,
    RequestRefused,
)
from assay.models import Document, Page, Problem
from assay.settings import Connection

RETRY_DELAYS_S = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Pauses between tries of a call that may be repeated."""
UPLOAD_CHUNK_BYTES = 256 * 1024
PAGE_SIZE = 200

# A plan renders every row before it is answered, which takes a while on a busy machine.
_TIMEOUT = httpx.Timeout(180.0, connect=5.0)
# The platform reads the whole upload before it answers.
_UPLOAD_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
_TRY_AGAIN = frozenset({429, 502, 503, 504})

AnyDocument = TypeVar("AnyDocument", bound=Document)
Query = Mapping[str, str | int | Sequence[str] | None]
OnBytes = Callable[[int], None]


class Transport:
    """Requests to one platform. Not for use from several threads at once."""

    def __init__(self, connection: Connection, *, retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S) -> None:
        self._url = connection.url
        self._delays = retry_delays_s
        self._http = httpx.Client(
            base_url=connection.url, headers={"X-API-Key": connection.api_key}, timeout=_TIMEOUT
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, model: type[AnyDocument], *, query: Query | None = None) -> AnyDocument:
        """GET a document. Repeated while the platform does not answer. Raises AssayError."""
        response = self._send("GET", path, repeatable=True, params=_present(query))
        return _parsed(response, model)

    def post(
        self,
        path: str,
        model: type[AnyDocument],
        *,
        body: Mapping[str, Any] | None = None,
        query: Query | None = None,
        idempotency_key: str | None = None,
        repeatable: bool = False,
    ) -> AnyDocument:
        """POST JSON. Repeated only if ``repeatable`` or under an idempotency key. Raises AssayError."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        response = self._send(
            "POST",
            path,
            repeatable=repeatable or idempotency_key is not None,
            params=_present(query),
            json=body,
            headers=headers,
        )
        return _parsed(response, model)

    def put(self, path: str, *, body: Mapping[str, Any]) -> None:
        """PUT JSON that nothing is answered to. Repeated while the platform does not answer.

        Raises AssayError.
        """
        self._send("PUT", path, repeatable=True, json=body)

    def delete(self, path: str) -> None:
        """DELETE. Not repeated: the second try could not tell its own success from a thing never there.

        Raises AssayError.
        """
        self._send("DELETE", path, repeatable=False)

    def download(
        self, path: str, *, file: BinaryIO, query: Query | None = None, on_bytes: OnBytes | None = None
    ) -> None:
        """GET a file's bytes into ``file``; ``on_bytes`` hears how many arrived. Raises AssayError.

        Not repeated: what was written stays written. A body that ends early is an error.
        """
        try:
            with self._http.stream("GET", path, params=_present(query)) as response:
                if not response.is_success:
                    response.read()
                    raise refusal(response)
                for piece in response.iter_bytes():
                    file.write(piece)
                    if on_bytes is not None:
                        on_bytes(len(piece))
        except httpx.TransportError as error:
            raise PlatformUnreachable(
                f"{self._url} stopped answering while it sent {path} ({_reason(error)})"
            ) from error

    def upload(
        self,
        path: str,
        model: type[AnyDocument],
        *,
        file: BinaryIO,
        size: int,
        query: Query,
        on_bytes: OnBytes | None = None,
    ) -> AnyDocument:
        """POST a file's bytes, read in pieces; ``on_bytes`` hears how many were sent. Raises AssayError."""
        response = self._send(
            "POST",
            path,
            repeatable=False,
            params=_present(query),
            content=_pieces(file, on_bytes),
            # With the length known, a body that is too large is refused before it was sent.
            headers={"Content-Type": "application/x-ndjson", "Content-Length": str(size)},
            timeout=_UPLOAD_TIMEOUT,
        )
        return _parsed(response, model)

    def pages(
        self, path: str, model: type[AnyDocument], *, query: Query | None = None, limit: int | None = None
    ) -> Iterator[AnyDocument]:
        """Every item of a list, at most ``limit``, page by page as they are asked for. Raises AssayError."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE_SIZE if left is None else min(left, PAGE_SIZE)
            page = self.get(path, Page[model], query={**(query or {}), "cursor": cursor, "limit": size})  # type: ignore[valid-type]
            yield from page.items
            left = None if left is None else left - len(page.items)
            cursor = page.next_cursor
            if cursor is None:
                return

    def _send(self, method: str, path: str, *, repeatable: bool, **options: Any) -> httpx.Response:
        delays = iter(self._delays if repeatable else ())
        while True:
            try:
                response = self._http.request(method, path, **options)
                if response.is_success:
                    return response
                failure: AssayError = refusal(response)
                again = response.status_code in _TRY_AGAIN
            except httpx.TransportError as error:
                failure = PlatformUnreachable(
                    f"{self._url} does not answer ({_reason(error)}). Is the platform running?"
                )
                again = True
            except httpx.InvalidURL as error:
                raise RequestRefused(f"{self._url} is no URL of a platform: {error}") from error
            delay = next(delays, None)
            if not again or delay is None:
                raise failure
            time.sleep(delay)


def refusal(response: httpx.Response) -> AssayError:
    """The error that an unsuccessful answer means."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        problem = None
    status = response.status_code
    detail = (
        problem.detail if problem is not None and problem.detail else f"{status} {response.reason_phrase}"
    )
    match status:
        case 401:
            return RequestRefused(f"the API key is not accepted: {detail}", status=status, problem=problem)
        case 403:
            return RequestRefused(f"the API key may not do this: {detail}", status=status, problem=problem)
        case 404:
            return NotFound(detail, status=status, problem=problem)
        case 409:
            return Conflict(detail, status=status, problem=problem)
    if status >= 500:
        request_id = problem.request_id if problem is not None else None
        trace = f" (request {request_id})" if request_id else ""
        return PlatformFailed(f"the platform failed: {detail}{trace}", status=status, problem=problem)
    return RequestRefused(detail, status=status, problem=problem)


def _parsed(response: httpx.Response, model: type[AnyDocument]) -> AnyDocument:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PlatformFailed(
            f"{response.request.method} {response.request.url} answered something that this client does not "
            f"understand ({where or 'body'}: {first['msg']}); is it an Assay gateway of this version?",
            status=response.status_code,
        ) from error


def _pieces(file: BinaryIO, on_bytes: OnBytes | None) -> Iterator[bytes]:
    while piece := file.read(UPLOAD_CHUNK_BYTES):
        yield piece
        if on_bytes is not None:
            on_bytes(len(piece))


def _present(query: Query | None) -> dict[str, str | int | Sequence[str]]:
    return {name: value for name, value in (query or {}).items() if value is not None}


def _reason(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "time-out"
    return str(error) or type(error).__name__

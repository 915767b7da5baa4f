"""Calls of the public API, against a server that answers as asked."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import httpx
import pytest
import pytest_asyncio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from assay.models import Dataset, Document, Fault, Problem
from assay_console.error_words import for_people
from assay_console.gateway import ApiError, Gateway

KEY = "a-key"
PROBLEM = {
    "title": "The request is not valid",
    "status": 422,
    "detail": "name: too long",
    "request_id": "req-1",
    "errors": [{"message": "too long", "field": "name", "line": 3}],
    "of_a_later_version": True,
}


async def _echo(request: Request) -> Response:
    """What arrived, as JSON."""
    return JSONResponse(
        {
            "id": "1",
            "name": request.url.path,
            "method": request.method,
            "key": request.headers.get("x-api-key"),
            "query": request.query_params.multi_items(),
            "idempotency": request.headers.get("idempotency-key"),
            "type": request.headers.get("content-type"),
            "body": (await request.body()).decode(),
        }
    )


async def _problem(request: Request) -> Response:
    return JSONResponse(PROBLEM, status_code=422, media_type="application/problem+json")


async def _not_json(request: Request) -> Response:
    return PlainTextResponse("<h1>Bad gateway</h1>", status_code=502)


async def _not_a_document(request: Request) -> Response:
    return JSONResponse({"items": "none"})


async def _never(request: Request) -> Response:
    while not await request.is_disconnected():
        await asyncio.sleep(0.02)
    return Response()


async def _torn(request: Request) -> Response:
    """Says that more will come than does."""

    async def part() -> AsyncIterator[bytes]:
        yield b"half"

    return StreamingResponse(part(), headers={"content-length": "8"})


async def _counted(request: Request) -> Response:
    """How an upload arrived: in how many pieces, of how many bytes."""
    sizes = [len(piece) async for piece in request.stream() if piece]
    return JSONResponse(
        {
            "id": "1",
            "pieces": len(sizes),
            "bytes": sum(sizes),
            "length": request.headers.get("content-length"),
            "type": request.headers["content-type"],
            "name": request.query_params["filename"],
        }
    )


async def _file(request: Request) -> Response:
    if request.query_params.get("of") == "nothing":
        return JSONResponse({"title": "Not found", "detail": "no such file"}, status_code=404)

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(64):
            yield bytes([number]) * 4096

    return StreamingResponse(pieces(), media_type="application/zip")


@contextlib.contextmanager
def _served(app: Starlette) -> Iterator[str]:
    """The application on a free port of this machine, in a thread."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    listener.listen()  # from here on calls wait until the server takes them
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def api_url() -> Iterator[str]:
    routes = {
        "/problem": _problem,
        "/not-json": _not_json,
        "/not-a-document": _not_a_document,
        "/never": _never,
        "/torn": _torn,
        "/counted": _counted,
        "/file": _file,
        "/{path:path}": _echo,
    }
    methods = ["GET", "POST", "PUT", "DELETE"]
    with _served(
        Starlette(routes=[Route(path, answer, methods=methods) for path, answer in routes.items()])
    ) as url:
        yield url


@pytest_asyncio.fixture
async def gateway(api_url: str) -> AsyncIterator[Gateway]:
    async with httpx.AsyncClient(base_url=api_url, timeout=10, trust_env=False) as http:
        yield Gateway(http, api_key=KEY)


async def _error_of(call: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await call
    return caught.value


async def test_every_call_has_the_key_and_only_what_was_asked(gateway: Gateway) -> None:
    query = {"name": "a b&c", "state": "", "limit": 0, "dataset": None, "run": ["x", "y"]}
    found = (await gateway.get("/v1/datasets", Document, query=query)).document()
    assert found["key"] == KEY
    assert found["query"] == [["name", "a b&c"], ["limit", "0"], ["run", "x"], ["run", "y"]]


async def test_a_name_in_a_path_begins_no_query(gateway: Gateway) -> None:
    answer = (await gateway.get("/v1/policies/a?limit=1#b/versions", Document)).document()
    assert (answer["name"], answer["query"]) == ("/v1/policies/a%3Flimit=1%23b/versions", [])


async def test_what_is_posted_arrives(gateway: Gateway) -> None:
    made = await gateway.post("/v1/runs", Document, body={"a": [1]}, idempotency_key="once")
    found = made.document()
    assert json.loads(found["body"]) == {"a": [1]}
    assert (found["method"], found["idempotency"]) == ("POST", "once")
    assert found["type"] == "application/json"


@pytest.mark.parametrize("call", [lambda api: api.delete("/v1/x"), lambda api: api.put("/v1/x", body={})])
async def test_what_answers_nothing_is_not_read(
    gateway: Gateway, call: Callable[[Gateway], Awaitable[None]]
) -> None:
    assert await call(gateway) is None


async def test_a_refusal_tells_what_the_platform_said(gateway: Gateway) -> None:
    error = await _error_of(gateway.post("/problem", Document, body={}))
    assert error.status == 422
    assert error.is_refusal
    assert str(error) == "name: too long"
    assert error.problem.request_id == "req-1"
    assert [(fault.field, fault.line, fault.message) for fault in error.faults] == [("name", 3, "too long")]
    assert error.problem.document()["of_a_later_version"] is True


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("there is no dataset 'x'; GET /v1/datasets lists those that there are", "there is no dataset 'x'"),
        (
            "name: String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'; limit: too large",
            "name: Letters, digits, dots, dashes and underscores, at most 100, with a letter or a digit "
            "first; limit: too large",
        ),
        ("GET /v1/datasets", None),
        (None, None),
    ],
)
def test_people_are_not_told_of_calls_and_patterns(said: str | None, told: str | None) -> None:
    problem = for_people(Problem(title="Refused", detail=said, errors=[Fault(message=said or "wrong")]))
    assert problem.detail == told
    assert problem.errors[0].message == (told or said or "wrong")


async def test_an_error_that_is_no_json_is_told_by_its_status(gateway: Gateway) -> None:
    error = await _error_of(gateway.get("/not-json", Document))
    assert error.status == 502
    assert not error.is_refusal
    assert error.problem.title == "502 Bad Gateway"
    assert error.faults == []


async def test_an_answer_of_another_kind_is_told(gateway: Gateway) -> None:
    error = await _error_of(gateway.page("/not-a-document", Dataset, limit=5))
    assert error.status == 502
    assert "/not-a-document answered something unexpected (items:" in str(error)


@pytest.mark.parametrize(
    ("status", "is_refusal"), [(0, False), (400, True), (401, False), (404, True), (409, True), (500, False)]
)
def test_what_the_caller_can_mend(status: int, is_refusal: bool) -> None:
    assert ApiError(status, Problem()).is_refusal is is_refusal


async def test_nobody_listening_has_no_status() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as http:
            error = await _error_of(Gateway(http, api_key=KEY).get("/v1/datasets", Document))
    assert error.status == 0
    assert not error.is_refusal
    assert error.problem.title == "The platform does not answer"
    assert error.problem.detail


async def test_an_answer_that_never_comes_has_no_status(api_url: str) -> None:
    timeout = httpx.Timeout(10, read=0.1)
    async with httpx.AsyncClient(base_url=api_url, timeout=timeout, trust_env=False) as http:
        error = await _error_of(Gateway(http, api_key=KEY).get("/never", Document))
    assert error.status == 0
    assert str(error) == "it did not answer in time"


async def test_an_answer_that_breaks_off_has_no_status(gateway: Gateway) -> None:
    error = await _error_of(gateway.text("/torn"))
    assert error.status == 0


async def test_uploads_go_on_as_they_come(gateway: Gateway) -> None:
    arrived = asyncio.Event()

    async def rows() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 50_000
            arrived.set()

    found = await gateway.upload("/counted", Document, content=rows(), query={"filename": "ä b.jsonl"})
    answer = found.document()
    assert arrived.is_set()
    assert answer["bytes"] == 2_000_000
    assert answer["pieces"] > 1
    assert answer["length"] is None  # nobody has counted them before they were sent
    assert answer["type"] == "application/x-ndjson"
    assert answer["name"] == "ä b.jsonl"


async def test_an_upload_whose_reader_fails_fails_with_it(gateway: Gateway) -> None:
    async def rows() -> AsyncIterator[bytes]:
        yield b"x"
        raise RuntimeError("the browser went away")

    with pytest.raises(RuntimeError, match="went away"):
        await gateway.upload("/counted", Document, content=rows(), query={"filename": "a"})


async def test_downloads_come_piece_by_piece(gateway: Gateway) -> None:
    async with gateway.download("/file") as answer:
        assert answer.headers["content-type"] == "application/zip"
        pieces = [piece async for piece in answer.aiter_bytes()]
    assert b"".join(pieces) == b"".join(bytes([number]) * 4096 for number in range(64))
    assert len(pieces) > 1


async def test_a_download_that_is_refused_tells_why(gateway: Gateway) -> None:
    async def read() -> None:
        async with gateway.download("/file", query={"of": "nothing"}):
            pytest.fail("there is nothing to read")

    error = await _error_of(read())
    assert (error.status, str(error)) == (404, "no such file")


async def test_a_download_that_breaks_off_has_no_status(gateway: Gateway) -> None:
    async def read() -> None:
        async with gateway.download("/torn") as answer:
            async for _ in answer.aiter_bytes():
                pass

    assert (await _error_of(read())).status == 0

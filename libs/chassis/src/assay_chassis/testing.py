"""Pytest plugin: real servers for tests, started on first use, one set per worker of pytest-xdist.

The servers start from synchronous fixtures, in the worker's main thread: they belong to no event loop, so a
test on any loop may use them, and they live as long as the worker. Set ``ASSAY_TEST_MONGO_URI`` to run
against a real MongoDB instead of the embedded server.
"""

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import uvicorn
from starlette.types import ASGIApp

from assay_chassis.identity import Role, SignedIdentity
from assay_chassis.local import LocalServer, ServerNotInstalled, mongo_local, nats_local

INTERNAL_KEY = "the internal key of the tests, 32 bytes and more"
"""What the services under test sign and check identities with."""


def as_client(
    client: str = "tester", *, role: Role = Role.ADMIN, internal_key: str = INTERNAL_KEY
) -> SignedIdentity:
    """``AsyncClient(auth=as_client())``: what access-svc would say of the caller."""
    return SignedIdentity(internal_key=internal_key, client=client, role=role)


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a NATS server with JetStream, shared by the worker's tests: use unique subjects and streams."""
    server = nats_local(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server.url
    _discard(server)


@pytest.fixture(scope="session")
def mongo_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a MongoDB, shared by the worker's tests: put ``database_name`` on top of it."""
    real = os.environ.get("ASSAY_TEST_MONGO_URI")  # noqa: TID251 - settings of the tests, not of a service
    if real:
        yield real
        return
    server = _embedded_mongo(tmp_path_factory)
    server.start()
    yield server.uri
    _discard(server)


@pytest.fixture
def database_name() -> str:
    """A database name nobody else uses, even on a shared MongoDB."""
    return f"test_{uuid.uuid4().hex}"


@pytest.fixture
def killable_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A running NATS server of this test's own: ``kill()`` it, ``restart()`` it."""
    server = nats_local(tmp_path_factory.mktemp("killable_nats"))
    server.start()
    yield server
    _discard(server)


@pytest.fixture
def killable_mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A running embedded store of this test's own, whatever ASSAY_TEST_MONGO_URI.

    ``kill()``, ``restart()`` it.
    """
    server = _embedded_mongo(tmp_path_factory)
    server.start()
    yield server
    _discard(server)


def _embedded_mongo(tmp_path_factory: pytest.TempPathFactory) -> LocalServer:
    try:
        return mongo_local(tmp_path_factory.mktemp("mongo"))
    except ServerNotInstalled as error:
        pytest.skip(f"{error}, or set ASSAY_TEST_MONGO_URI")


def _discard(server: LocalServer) -> None:
    # Nobody reads the data again, and the store takes two seconds to end in order.
    server.kill()
    server.close()


@pytest.fixture
def serve() -> Callable[[ASGIApp], AbstractAsyncContextManager[str]]:
    """``async with serve(app) as base_url``: the application, with its lifespan, behind a real socket."""

    @asynccontextmanager
    async def serving(app: ASGIApp) -> AsyncIterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
            task = asyncio.create_task(server.serve(sockets=[listener]))
            while not server.started:
                if task.done():
                    task.result()
                    raise RuntimeError("the application did not start; its log says why")
                await asyncio.sleep(0.01)
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                server.should_exit = True
                await task

    return serving

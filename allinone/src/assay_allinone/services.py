"""The services in one process: web servers on their own ports, one event loop.

Run as ``python -m assay_allinone.services``; every service reads the settings that it reads on its own. Each
application has its own server, so its lifespan runs exactly as it does alone. When one of them ends, all end,
and whoever supervises the process starts it again.
"""

import asyncio
import contextlib
import importlib
import logging
import signal
import sys
from collections.abc import Iterator, Sequence

import uvicorn

SERVICES = ("dataset", "method", "eval", "metrics", "access")
"""Short names; the package of ``dataset`` is ``dataset_svc``, its port setting ``dataset_port``."""


class _Server(uvicorn.Server):
    """A server that leaves the signals to this process: each of them would take them from the others."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(name: str) -> uvicorn.Server:
    settings = importlib.import_module(f"{name}_svc.settings").Settings()
    application = importlib.import_module(f"{name}_svc.wiring").create_app(settings)
    return _Server(
        uvicorn.Config(
            application,
            host=settings.host,
            port=getattr(settings, f"{name}_port"),
            # The application logs every request with its id; the gateway has the access log.
            access_log=False,
            log_config=None,
            # Open event streams would hold up the end for ever.
            timeout_graceful_shutdown=3,
        )
    )


async def serve(names: Sequence[str] = SERVICES) -> None:
    """Serve until SIGTERM or SIGINT, or until one server ends; each name has a package ``<name>_svc``.

    Raises SystemExit with a code other than 0 where a server ended by itself.
    """
    servers = [_server(name) for name in names]
    interrupted = asyncio.Event()

    def stop() -> None:
        interrupted.set()
        for server in servers:
            server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)

    async def run(server: uvicorn.Server) -> None:
        await server.serve()
        for other in servers:
            other.should_exit = True

    await asyncio.gather(*(run(server) for server in servers))
    if not interrupted.is_set():
        sys.exit("a service ended by itself")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # Each request of one service to another would be logged twice.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(serve())

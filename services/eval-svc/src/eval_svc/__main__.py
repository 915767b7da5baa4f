"""``python -m eval_svc`` serves the API; ``python -m eval_svc worker`` carries runs out."""

import asyncio
import logging
import signal
import sys
from contextlib import suppress

import uvicorn

from eval_svc.settings import Settings
from eval_svc.wiring import create_app, run_worker


async def _worker(settings: Settings) -> None:
    task = asyncio.ensure_future(run_worker(settings))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


def main() -> None:
    """Entry point. Settings come from the environment."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    settings = Settings()
    match sys.argv[1:]:
        case []:
            uvicorn.run(create_app(settings), host=settings.host, port=settings.eval_port, log_config=None)
        case ["worker"]:
            asyncio.run(_worker(settings))
        case _:
            sys.exit("usage: python -m eval_svc [worker]")


if __name__ == "__main__":
    main()

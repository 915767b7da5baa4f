"""``python -m access_svc``: the service on its own, settings from the environment."""

import logging

import uvicorn

from access_svc.settings import Settings
from access_svc.wiring import create_app


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = Settings()
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.access_port,
        access_log=False,
        log_config=None,
    )


if __name__ == "__main__":
    main()

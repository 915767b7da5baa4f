"""``python -m method_svc``: the service on its own, settings from the environment."""

import logging

import uvicorn

from method_svc.settings import Settings
from method_svc.wiring import create_app


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = Settings()
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.method_port,
        access_log=False,
        log_config=None,
    )


if __name__ == "__main__":
    main()

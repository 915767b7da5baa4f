"""``python -m metrics_svc`` serves the API and scores runs."""

import logging
import sys

import uvicorn

from metrics_svc.settings import Settings
from metrics_svc.wiring import create_app


def main() -> None:
    """Entry point. Settings come from the environment."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    settings = Settings()
    uvicorn.run(create_app(settings), host=settings.host, port=settings.metrics_port, log_config=None)


if __name__ == "__main__":
    main()

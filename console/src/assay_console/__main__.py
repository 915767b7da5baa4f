"""``python -m assay_console``: the console as a process of its own."""

import uvicorn

from assay_console.application import create_app
from assay_console.settings import Settings


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = Settings()
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        access_log=False,  # the gateway has one
        timeout_graceful_shutdown=3,  # open event streams would hold up the end for ever
    )


if __name__ == "__main__":
    main()

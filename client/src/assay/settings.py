"""Where the platform is: flags, then environment, then a platform on this machine."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from assay.errors import PlatformUnreachable, RequestRefused

DISCOVERY_FILE = Path("run") / "gateway.json"
"""Written by a platform that runs on this machine, relative to its home; removed when it ends."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Address and key of a platform. ``origin`` says in words where they were found."""

    url: str
    api_key: str = field(repr=False)
    origin: str = "arguments"


@dataclass(frozen=True, slots=True)
class Environment:
    """What the client reads from the environment.

    Attributes:
        url: ``ASSAY_URL``, base URL of the gateway.
        api_key: ``ASSAY_API_KEY``.
        home: ``ASSAY_HOME``, directory of a platform on this machine.
        endpoint_key: ``ASSAY_ENDPOINT_KEY``, secret of a model endpoint that is registered.
        terminal_width: ``COLUMNS``, characters per line; ``None`` where not set.
    """

    url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    home: Path = Path(".assay")
    endpoint_key: str | None = field(default=None, repr=False)
    terminal_width: int | None = None


def read_environment(variables: Mapping[str, str] | None = None) -> Environment:
    """Read ``variables``, or the environment of the process where they are not given."""
    source = os.environ if variables is None else variables
    columns = source.get("COLUMNS", "")
    return Environment(
        url=source.get("ASSAY_URL") or None,
        api_key=source.get("ASSAY_API_KEY") or None,
        home=Path(source.get("ASSAY_HOME") or ".assay"),
        endpoint_key=source.get("ASSAY_ENDPOINT_KEY") or None,
        terminal_width=int(columns) if columns.isdecimal() and int(columns) > 0 else None,
    )


def find_connection(
    *, url: str | None = None, api_key: str | None = None, environment: Environment | None = None
) -> Connection:
    """Find the platform: the arguments win over the environment, that over a platform on this machine.

    Raises:
        PlatformUnreachable: no address was given and no platform runs on this machine.
        RequestRefused: an address was given that is none, or that has no key.
    """
    environment = environment or read_environment()
    url, api_key = url or environment.url, api_key or environment.api_key
    local = _local_platform(environment.home)
    if url is None:
        if local is None:
            raise PlatformUnreachable(
                f"no platform was named and none runs here (no {environment.home / DISCOVERY_FILE}).\n"
                "  Start one with `assay up`, or set ASSAY_URL and ASSAY_API_KEY."
            )
        return Connection(url=local.url, api_key=api_key or local.api_key, origin=local.origin)
    if not url.startswith(("http://", "https://")):
        raise RequestRefused(f"{url!r} is no URL of a platform: write http://host:port or https://host")
    if api_key is None:
        # The key of the local platform belongs to its own address and goes nowhere else.
        if local is not None and local.url.rstrip("/") == url.rstrip("/"):
            return local
        raise RequestRefused(f"an API key is needed for {url}: set ASSAY_API_KEY, or give --api-key")
    return Connection(url=url, api_key=api_key)


def _local_platform(home: Path) -> Connection | None:
    path = home / DISCOVERY_FILE
    try:
        found = json.loads(path.read_text())
        key = Path(found["api_key_file"]).read_text().strip()
        return Connection(url=found["url"], api_key=key, origin=str(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlatformUnreachable(f"{path} cannot be used ({error}): restart the platform") from error

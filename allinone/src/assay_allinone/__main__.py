"""``python -m assay_allinone up``: the platform in the foreground, until Ctrl-C."""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from assay_allinone.gateway import GatewayConfiguration, Upstream, Upstreams
from assay_allinone.platform import PortTaken, RunningPlatform, platform
from assay_allinone.settings import GatewaySettings
from assay_allinone.supervisor import AlreadyRunning
from assay_chassis.local import ServerNotInstalled
from assay_chassis.processes import ServerStartError


def describe(running: RunningPlatform) -> str:
    """What a user needs to know about a running platform, as text."""
    pages = "\n".join(f"  {name:8} {url}" for name, url in running.documentation.items())
    return (
        f"Assay is ready at {running.gateway_url}\n"
        f"API key: {running.api_key_file}\n"
        f"API documentation:\n{pages}\n"
        f"Logs: {running.home / 'logs'}\n"
        "Ctrl-C ends everything."
    )


async def run_until_signal(home: Path | None = None) -> int:
    """Run the platform until SIGINT or SIGTERM and return the exit code.

    0 where it was running, 128 + the signal's number where it was still starting. A second signal does not
    wait for the processes to end in order. Raises as ``platform`` does.
    """
    received: list[signal.Signals] = []
    ready = False
    task = asyncio.current_task()
    assert task is not None

    def stop(number: signal.Signals) -> None:
        received.append(number)
        print("stopping", flush=True)
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        async with platform(home) as running:
            ready = True
            print(describe(running), flush=True)
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        if not received:
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return 0 if ready else 128 + received[0]


def up(home: Path | None) -> int:
    """Run the platform in the foreground.

    Print one clear message where it cannot start, and return the code.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    print("starting the platform; the first start takes up to a minute", flush=True)
    try:
        return asyncio.run(run_until_signal(home))
    except (AlreadyRunning, PortTaken, ServerNotInstalled, ServerStartError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def write_gateway_configuration(path: Path) -> int:
    """Render the gateway's configuration for a container from the environment; see ``GatewaySettings``."""
    settings = GatewaySettings()
    GatewayConfiguration(
        listen=Upstream.of(settings.gateway_listen),
        upstreams=Upstreams(
            **{
                name: Upstream.of(getattr(settings, f"{name}_address"))
                for name in Upstreams.__dataclass_fields__
            }
        ),
        access_log=Path("/dev/stdout"),
    ).write(path)
    return 0


def main() -> int:
    """Parse the command line, run the command, return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m assay_allinone", description="Assay on one machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="run the platform until Ctrl-C")
    start.add_argument("--home", type=Path, help="directory for data, keys and logs (ASSAY_HOME, .assay)")
    render = commands.add_parser("gateway-configuration", help="write Envoy's configuration for a container")
    render.add_argument("path", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.command == "up":
            return up(arguments.home)
        return write_gateway_configuration(arguments.path)
    # A setting that is missing or has the wrong form; an address that is none.
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

"""``python -m assay_serving.testing endpoint|adapter``: serve until SIGTERM or SIGINT."""

import argparse
import asyncio
import logging
import signal
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from assay_serving.adapter import serve_adapter
from assay_serving.testing.adapter import ScriptedBackend
from assay_serving.testing.endpoint import serve_endpoint
from assay_serving.testing.script import Failure, Script

_MAX_INSTANCES = 64


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m assay_serving.testing", description=__doc__)
    parser.add_argument("what", choices=("endpoint", "adapter"))
    parser.add_argument("--listen", default="127.0.0.1:0", help="host:port; port 0 takes any free one")
    parser.add_argument("--address-file", type=Path, help="written with the bound host:port")
    defaults = Script()
    parser.add_argument("--first-token", type=float, default=defaults.first_token, help="seconds")
    parser.add_argument("--chunks", type=int, default=defaults.chunks, help="pieces; 0: one per token")
    parser.add_argument("--interval", type=float, default=defaults.interval, help="seconds between pieces")
    parser.add_argument("--max-model-tokens", type=int, default=defaults.max_model_tokens)
    parser.add_argument("--fail", type=Failure.parse, action="append", default=[], help="kind@number")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(_serve(parser.parse_args()))


async def _serve(options: argparse.Namespace) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        if options.what == "adapter":
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-scripted-")))
            backend = ScriptedBackend(directory=directory)
            serving = serve_adapter(backend, listen=options.listen, max_instances=_MAX_INSTANCES)
            address = await stack.enter_async_context(serving)
        else:
            host, _, port = options.listen.rpartition(":")
            script = Script(
                first_token=options.first_token,
                chunks=options.chunks,
                interval=options.interval,
                max_model_tokens=options.max_model_tokens,
                failures=tuple(options.fail),
            )
            url, _ = await stack.enter_async_context(serve_endpoint(script, host=host, port=int(port)))
            address = url.removeprefix("http://")
        print(f"the scripted {options.what} listens on {address}", flush=True)
        if options.address_file is not None:
            partial = options.address_file.with_suffix(".partial")
            partial.write_text(address)
            partial.replace(options.address_file)
        await ended.wait()


if __name__ == "__main__":
    main()

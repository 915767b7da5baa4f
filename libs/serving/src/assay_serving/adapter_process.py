"""The program of an adapter: settings in, a served backend until a signal ends it."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pydantic import ValidationError
from pydantic_settings import SettingsError

from assay_serving.adapter import serve_adapter
from assay_serving.backend import ServingBackend
from assay_serving.settings import AdapterSettings

Settings = TypeVar("Settings", bound=AdapterSettings)
_OWN_SESSION = Path("/proc/self/autogroup")
_SESSION_NICENESS = "-15"
_REAL_TIME_PRIORITY = 1  # the lowest: it goes before ordinary processes, and before no other real-time one


@contextmanager
def exporting_traces(otlp_endpoint: str | None, *, service: str) -> Iterator[TracerProvider | None]:
    """A tracer provider that exports to the endpoint and flushes at the end; None without an endpoint."""
    if otlp_endpoint is None:
        yield None
        return
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    exporter = OTLPSpanExporter(endpoint=f"{otlp_endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield provider
    finally:
        provider.shutdown()


def run_adapter(settings_class: type[Settings], make_backend: Callable[[Settings], ServingBackend]) -> None:
    """Serve the backend until SIGTERM or SIGINT, then release every instance.

    Once it serves, the bound address is printed and, where wanted, written to `settings.address_file`.
    `make_backend` is called on the event loop. Exits with 1 and a sentence where a setting is wrong or the
    address cannot be bound.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    program = f"assay-adapter-{settings_class.name}"
    try:
        settings = settings_class()
        if settings.prefer_adapter:
            prefer_this_process()
        with asyncio.Runner(loop_factory=_loop_factory(settings)) as runner:
            runner.run(_serve(settings, make_backend, program=program))
    except ValidationError as error:
        sys.exit(f"{program}: {_told(error, prefix=settings_class.model_config.get('env_prefix', ''))}")
    except SettingsError as error:
        sys.exit(f"{program}: {error}: mappings, lists and nested settings are JSON")
    except OSError as error:
        sys.exit(f"{program}: {error}")


async def _serve(
    settings: Settings, make_backend: Callable[[Settings], ServingBackend], *, program: str
) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        backend = make_backend(settings)
    except ValueError as error:  # settings that do not fit together, or this machine
        sys.exit(f"{program}: {error}")
    with exporting_traces(settings.otlp_endpoint, service=program) as tracer_provider:
        serving = serve_adapter(
            backend,
            listen=settings.listen,
            max_instances=settings.max_instances,
            tracer_provider=tracer_provider,
        )
        async with serving as address:
            print(f"{program} listens on {address}", flush=True)
            if settings.address_file is not None:
                partial = settings.address_file.with_suffix(".partial")
                partial.write_text(address)
                partial.replace(settings.address_file)
            await ended.wait()


def prefer_this_process() -> None:
    """Ask Linux to run this thread, which takes the time of what arrives, before everything else.

    It gets a real-time policy, so that it waits for nobody when something comes; other threads and the
    processes that are started from here do not inherit it. Beside that its session is preferred, for the sake
    of the other threads: Linux shares processors between sessions first, and the niceness of a single process
    says nothing to those of other sessions. Both take a privilege (CAP_SYS_NICE); without it, and elsewhere,
    nothing changes.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_REAL_TIME_PRIORITY))
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            _OWN_SESSION.write_text(_SESSION_NICENESS)


def _loop_factory(settings: AdapterSettings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not settings.uvloop:
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _told(error: ValidationError, *, prefix: str) -> str:
    """One line per wrong setting, by the name of its variable, without the value: it may be a secret."""
    lines = [
        f"{prefix}{'__'.join(str(part) for part in each['loc']).upper()}: {each['msg']}"
        for each in error.errors(include_input=False, include_url=False)
    ]
    return "\n".join(lines)

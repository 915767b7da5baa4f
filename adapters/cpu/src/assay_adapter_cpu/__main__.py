"""``python -m assay_adapter_cpu``: serve until SIGTERM or SIGINT."""

import asyncio
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from assay_adapter_cpu.backend import CpuBackend
from assay_adapter_cpu.settings import CpuAdapterSettings
from assay_serving.adapter import serve_adapter


@contextmanager
def exporting_traces(otlp_endpoint: str | None) -> Iterator[TracerProvider | None]:
    """A tracer provider that exports to the endpoint and flushes at the end; None without an endpoint."""
    if otlp_endpoint is None:
        yield None
        return
    provider = TracerProvider(resource=Resource.create({"service.name": "assay-adapter-cpu"}))
    exporter = OTLPSpanExporter(endpoint=f"{otlp_endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield provider
    finally:
        provider.shutdown()


async def run(settings: CpuAdapterSettings) -> None:
    """Serve until a signal to end comes, then release every instance.

    Once it serves, the bound address is printed and, where wanted, written to `settings.address_file`.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    with exporting_traces(settings.otlp_endpoint) as tracer_provider:
        serving = serve_adapter(
            CpuBackend(settings),
            listen=settings.listen,
            max_instances=settings.max_instances,
            tracer_provider=tracer_provider,
        )
        async with serving as address:
            print(f"assay-adapter-cpu listens on {address}", flush=True)
            if settings.address_file is not None:
                partial = settings.address_file.with_suffix(".partial")
                partial.write_text(address)
                partial.replace(settings.address_file)
            await ended.wait()


def main() -> None:
    """Entry point; exits with 1 and a sentence where the address cannot be bound."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        asyncio.run(run(CpuAdapterSettings()))
    except OSError as error:
        sys.exit(f"assay-adapter-cpu: {error}")


if __name__ == "__main__":
    main()

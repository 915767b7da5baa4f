"""Traces across gRPC: a caller's `traceparent` metadata becomes the parent of the adapter's span.

Only OpenTelemetry's API is used: without a tracer provider, which the adapter's program sets up, spans cost
next to nothing and go nowhere.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Metadata = Iterable[tuple[str, str | bytes]]


class CallTracer:
    """Makes one span for each call that the adapter serves; a stream is one call."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("assay_serving", tracer_provider=provider)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def span(self, method: str, metadata: Metadata) -> Iterator[Span]:
        """A server span for `method`, below the caller's span if the metadata names one."""
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        # Not made the current span: a stream's generator may be closed in another context than it began in.
        span = self._tracer.start_span(
            f"ServingAdapter/{method}",
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.method": method},
        )
        try:
            yield span
        except Exception as error:
            span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, str(error)))
            raise
        finally:
            span.end()

"""OpenTelemetry tracing across HTTP, NATS and gRPC. Nothing is exported unless an endpoint is set.

Context travels as a W3C ``traceparent`` value: an HTTP header, a NATS header, gRPC metadata, and a field of
an outbox entry, so that an event that is published later still belongs to the trace of its cause.
"""

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACEPARENT = "traceparent"

Attributes = MutableMapping[str, str | int | float | bool]


class Telemetry:
    """Tracer and meter of one service. Create one per service in ``wiring``; close it at the end."""

    def __init__(self, *, service_name: str, otlp_endpoint: str | None) -> None:
        resource = Resource.create({"service.name": service_name})
        self.service_name = service_name
        self._propagator = TraceContextTextMapPropagator()
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        readers = []
        if otlp_endpoint:
            base = otlp_endpoint.rstrip("/")
            self._traces.add_span_processor(
                BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{base}/v1/traces"))
            )
            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=f"{base}/v1/metrics")))
        self._metrics = MeterProvider(resource=resource, metric_readers=readers, shutdown_on_exit=False)
        self._tracer: trace.Tracer = self._traces.get_tracer("assay")
        self._meter: metrics.Meter = self._metrics.get_meter("assay")

    @contextmanager
    def span(
        self,
        name: str,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        traceparent: str | None = None,
        attributes: Attributes | None = None,
    ) -> Iterator[Span]:
        """Run a block inside a span; its parent is ``traceparent`` if given, else the current span."""
        context: Context | None = None
        if traceparent:
            context = self._propagator.extract({TRACEPARENT: traceparent})
        with self._tracer.start_as_current_span(
            name, context=context, kind=kind, attributes=attributes
        ) as span:
            yield span

    def traceparent(self) -> str | None:
        """``traceparent`` of the current span; ``None`` outside any span."""
        return self.carrier().get(TRACEPARENT)

    def carrier(self) -> dict[str, str]:
        """Headers that hand the current span on; empty outside any span."""
        headers: dict[str, str] = {}
        self._propagator.inject(headers)
        return headers

    def gauge(self, name: str, *, unit: str, description: str, read: Callable[[], float]) -> None:
        """Register a gauge that calls ``read`` whenever metrics are collected."""

        def observe(_: CallbackOptions) -> Iterator[Observation]:
            yield Observation(read())

        self._meter.create_observable_gauge(name, [observe], unit=unit, description=description)

    def close(self) -> None:
        """Export what is buffered and stop the exporters."""
        self._traces.shutdown()
        self._metrics.shutdown()

"""Telemetry: structured logs, OpenTelemetry traces and metrics, Prometheus text.

Metrics are always kept and read through the Prometheus text; traces and metrics leave by OTLP only where the
standard OTEL_EXPORTER_OTLP_* variables name an endpoint. Without one no span is recorded, yet trace ids still travel.
"""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, generate_latest
from pythonjsonlogger.json import JsonFormatter

from services.common.request_context import request_id
from services.common.settings import ExportSettings, load

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

SPANS_AT_ONCE = 64
"""Spans that are exported together: writing hundreds at once holds calls up for tens of milliseconds."""
TRACE_PARENT = "traceparent"
_PROPAGATOR = TraceContextTextMapPropagator()
Attributes = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The instruments of one process. `meter` names things `flotilla_<thing>_<unit>`; labels stay few and bounded."""

    meter: Meter
    tracer: trace.Tracer
    registry: CollectorRegistry
    _shutdown: tuple[Callable[[], object], ...]
    traces_url: str | None = None
    """Where spans are posted by OTLP over HTTP; None where they are not."""
    _gauges: dict[str, list[Callable[[], Observation]]] = field(default_factory=dict)

    def prometheus_text(self) -> str:
        """Return every metric in Prometheus text format 0.0.4."""
        return generate_latest(self.registry).decode()

    def counter(self, name: str, description: str, unit: str = "") -> Counter:
        """Return a counter; Prometheus shows it as `<name>_total`."""
        return self.meter.create_counter(name, unit=unit, description=description)

    def histogram(self, name: str, description: str, buckets: Sequence[float], unit: str = "") -> Histogram:
        """Return a histogram with upper bounds `buckets`, in `unit`."""
        return self.meter.create_histogram(
            name, unit=unit, description=description, explicit_bucket_boundaries_advisory=list(buckets)
        )

    def gauge(
        self, name: str, description: str, read: Callable[[], float], attributes: Attributes | None = None
    ) -> None:
        """Register a gauge that calls `read` when metrics are collected; one name may have several, by attributes."""
        observers = self._gauges.setdefault(name, [])
        observers.append(lambda: Observation(read(), dict(attributes or {})))
        if len(observers) > 1:
            return  # the meter has it already, and would not hear of another

        def observe(_: CallbackOptions) -> list[Observation]:
            return [observer() for observer in observers]

        self.meter.create_observable_gauge(name, [observe], description=description)

    def close(self) -> None:
        """Send what is still to be sent. Blocks for seconds at most."""
        for shutdown in self._shutdown:
            shutdown()


def start(service: str, log_level: str) -> Telemetry:
    """Return the telemetry of the process `service` ("embedding", "gateway", ...) and set up its logs."""
    export = load(ExportSettings)
    _log_to_stderr(service, log_level)
    resource = Resource.create({"service.name": f"flotilla-{service}", "service.namespace": "flotilla"})
    registry = CollectorRegistry()
    readers: list[MetricReader] = [
        PrometheusMetricReader(registry=registry, disable_target_info=True, scope_info_enabled=False)
    ]
    shutdown: list[Callable[[], object]] = []
    if export.metrics:
        readers.append(PeriodicExportingMetricReader(_otlp_metric_exporter(export)))
    meters = MeterProvider(resource=resource, metric_readers=readers, shutdown_on_exit=False)
    shutdown.append(meters.shutdown)
    tracer: trace.Tracer = trace.NoOpTracer()
    if export.traces:
        spans = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = _otlp_span_exporter(export)
        spans.add_span_processor(BatchSpanProcessor(exporter, max_export_batch_size=SPANS_AT_ONCE))
        tracer = spans.get_tracer("flotilla")
        shutdown.append(spans.shutdown)
    return Telemetry(meters.get_meter("flotilla"), tracer, registry, tuple(shutdown), export.traces_url)


def extract(carrier: Mapping[str, str]) -> otel_context.Context:
    """Return the trace context of W3C `traceparent` and `tracestate` in `carrier` (lower-case keys)."""
    return _PROPAGATOR.extract(carrier)


def inject() -> dict[str, str]:
    """Return `traceparent` and `tracestate` of the current span, to send onward."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier


class _RequestFields(logging.Filter):
    """Adds the request id and the trace id of the current context to every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        identifier = request_id.get()
        if identifier is not None:
            record.request_id = identifier
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            record.trace_id = trace.format_trace_id(span.trace_id)
            record.span_id = trace.format_span_id(span.span_id)
        return True


def _log_to_stderr(service: str, level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "{asctime}{levelname}{name}{message}",
            datefmt="%Y-%m-%dT%H:%M:%S%z",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            static_fields={"service": service},
        )
    )
    handler.addFilter(_RequestFields())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("httpx", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _otlp_span_exporter(export: ExportSettings) -> SpanExporter:
    if export.exporter_otlp_protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc  # noqa: PLC0415

        return Grpc()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http  # noqa: PLC0415

    return Http()


def _otlp_metric_exporter(export: ExportSettings) -> MetricExporter:
    if export.exporter_otlp_protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as Grpc  # noqa: PLC0415

        return Grpc()
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as Http  # noqa: PLC0415

    return Http()

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.trace import NoOpTracer
from prometheus_client import CollectorRegistry

from services.common.telemetry import Telemetry


class Readings(Telemetry):
    """Telemetry whose values can be read."""

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def telemetry():
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry, disable_target_info=True, scope_info_enabled=False)
    meters = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    yield Readings(meters.get_meter("test"), NoOpTracer(), registry, ())
    meters.shutdown()

"""Rules, dashboards and autoscaling queries name metrics that exist, and what is generated is up to date."""

import re

import pytest
import yaml

from services.common.ports import GATEWAY, SERVICES
from tools.monitoring.dashboards import dashboards, queries
from tools.monitoring.generate import FOLDER, files
from tools.monitoring.metrics import ROOT, SECTIONS, metrics_of
from tools.monitoring.objectives import SLOS

FUNCTIONS = {
    *("sum", "max", "avg", "min", "rate", "increase", "delta", "histogram_quantile", "vector", "by", "on", "and", "or"),
    *("unless", "group_left", "min_over_time", "le"),
}
OTHERS = {"up", "nv_inference_request_success", "nv_inference_queue_duration_us", "nv_gpu_utilization"}
"""Of Prometheus and of Triton."""
TARGET_LABELS = {"namespace", "pod", "job", "instance", "gpu_uuid", "model", "le"}
GENERATED = files()


def rules():
    for name in ("slo.yml", "alerts.yml"):
        for group in yaml.safe_load((FOLDER / "rules" / name).read_text())["groups"]:
            yield from group["rules"]


RULES = list(rules())
ALERTS = [rule["alert"] for rule in RULES if "alert" in rule]
METRICS = {metric.name: metric for service in SECTIONS for metric in metrics_of(service)}
SERIES = {series for metric in METRICS.values() for series in metric.series}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
LABELS = TARGET_LABELS | {label for metric in METRICS.values() for label in metric.labels} | {"slo", "modality"}


def scaled_objects():
    for path in (ROOT / "k8s/components/autoscaling-keda").glob("*.yaml"):
        document = yaml.safe_load(path.read_text())
        if document["kind"] == "ScaledObject":
            for trigger in document["spec"]["triggers"]:
                if trigger["type"] == "prometheus":
                    yield trigger["metadata"]["query"]


def adapter_rules():
    text = (ROOT / "k8s/components/autoscaling-prometheus-adapter/adapter-rules.yml").read_text()
    return yaml.safe_load(text)["rules"]


def asked_for(promql):
    """The names of series, and the labels, that a query uses."""
    labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", promql))
    for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", promql):
        labels |= {label.strip() for label in group.split(",")}
    bare = re.sub(r"\b(by|on|group_left)\s*\([^)]*\)", " ", re.sub(r"\"[^\"]*\"", "", promql))
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*", bare)) - FUNCTIONS, labels


QUERIES = [
    *(rule["expr"] for rule in RULES),
    *(query for dashboard in dashboards().values() for query in queries(dashboard)),
    *scaled_objects(),
    *(rule["seriesQuery"] for rule in adapter_rules()),
]


def test_every_query_names_what_is_exported():
    for promql in QUERIES:
        series, labels = asked_for(promql)
        assert series <= SERIES | RECORDED | OTHERS, promql
        assert labels <= LABELS, promql


@pytest.mark.parametrize("name", GENERATED)
def test_what_is_generated_is_up_to_date(name):
    assert (FOLDER / name).read_text() == GENERATED[name], "run tools/generate-monitoring"


def test_every_alert_has_its_line_in_the_runbook_and_a_test():
    lines = re.findall(r'^\| <a id="(\w+)"></a>(\w+) \| (\w+) \|', (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    severities = {rule["alert"]: rule["labels"]["severity"] for rule in RULES if "alert" in rule}
    assert {alert: severity for _, alert, severity in lines} == severities
    assert all(anchor == alert.lower() for anchor, alert, _ in lines)
    for rule in RULES:
        if "alert" in rule:
            assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
    tested = (ROOT / "tests/monitoring/rules_test.yml").read_text()
    untested = {alert for alert in ALERTS if not re.search(rf"alertname: {alert}\b", tested)}
    assert untested == {"FlotillaBudgetBurnsFast", "FlotillaBudgetBurns", "FlotillaBudgetBurnsSlowly"}, (
        "they differ in numbers alone from the one that is"
    )


def test_every_modality_has_objectives_of_availability_and_of_latency():
    for slo in ("availability", "latency"):
        assert {one.modality for one in SLOS if one.slo == slo} >= {"language", "embedding", "speech", "vision"}


def test_prometheus_scrapes_the_ports_of_the_fleet():
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    ports = {service.name: service.http_port for service in SERVICES if service.name != GATEWAY.name}
    ports[GATEWAY.name] = GATEWAY.metrics_port
    assert targets == {name: [f"{name}:{port}"] for name, port in ports.items()}


def test_a_dashboard_for_each_service_shows_every_metric_it_exports():
    for service in SECTIONS:
        shown = set().union(*(asked_for(query)[0] for query in queries(dashboards()[f"flotilla-{service}.json"])))
        for metric in metrics_of(service):
            assert shown & set(metric.series), f"{service}: {metric.name}"


def test_the_metrics_of_the_autoscalers_are_served_by_the_adapter():
    served = {rule["name"]["as"] for rule in adapter_rules()}
    for path in (ROOT / "k8s/components/autoscaling-prometheus-adapter").glob("*.yaml"):
        document = yaml.safe_load(path.read_text())
        if document["kind"] == "HorizontalPodAutoscaler":
            asked = {metric["pods"]["metric"]["name"] for metric in document["spec"]["metrics"] if "pods" in metric}
            assert asked and asked <= served

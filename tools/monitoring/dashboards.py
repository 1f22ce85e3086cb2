"""Grafana dashboards: one overview, and for each service one with a panel for every metric that it exports.

https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tools.monitoring.metrics import SECTIONS, Metric, metrics_of
from tools.monitoring.objectives import SLOS
from tools.monitoring.rules import BUDGET, ERRORS

_DATA = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT, _ACROSS = 8, 8, 3
_PLACE = 'namespace=~"$namespace"'
_UNITS = (("_seconds", "s"), ("_bytes_total", "Bps"), ("_rate", "percentunit"), ("_usage", "percentunit"))


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph: `queries` are pairs of PromQL and a legend."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    description: str = ""
    limits: tuple[float, ...] = ()
    """Values from which it is orange, and red."""


def dashboards() -> dict[str, dict[str, Any]]:
    """Return every dashboard by its file name."""
    made = {"flotilla-overview.json": _dashboard("Flotilla: overview", "flotilla-overview", _overview())}
    for service in SECTIONS:
        panels = [*_golden(service), *(_panel(metric, service) for metric in metrics_of(service))]
        uid = f"flotilla-{service}"
        made[f"{uid}.json"] = _dashboard(f"Flotilla: {service}", uid, panels)
    return made


def queries(dashboard: dict[str, Any]) -> list[str]:
    """Return the PromQL of every panel of a dashboard."""
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def _overview() -> list[Panel]:
    services = 'job=~"llm|embedding|asr|vision"'
    return [
        Panel(
            "Serving replicas",
            ((f"max by (service) (flotilla_gateway_serving{{{_PLACE}}})", "{{service}}"),),
            description="As the gateway sees them; 0 is an outage.",
        ),
        Panel(
            "Saturation",
            ((f"avg by (job) (flotilla_saturation{{{_PLACE}}})", "{{job}}"),),
            "percentunit",
            "Work offered over work sustained. The autoscaler aims at 70 %.",
            (0.7, 1.0),
        ),
        Panel(
            "Requests by HTTP",
            (
                (
                    f"sum by (http_route) (rate(http_server_request_duration_seconds_count{{{_PLACE}}}[1m]))",
                    "{{http_route}}",
                ),
            ),
            "reqps",
        ),
        Panel(
            "Failing by HTTP",
            (
                (
                    "sum by (http_response_status_code) (rate(http_server_request_duration_seconds_count"
                    f'{{{_PLACE},http_response_status_code=~"[45].."}}[1m]))',
                    "{{http_response_status_code}}",
                ),
            ),
            "reqps",
        ),
        *(
            Panel(
                f"{slo}: share that fails, an hour",
                ((f'{ERRORS}1h{{slo="{slo}"}}', "{{modality}}"), (f'max({BUDGET}{{slo="{slo}"}})', "budget")),
                "percentunit",
                "Below the budget the objective is met.",
            )
            for slo in dict.fromkeys(slo.slo for slo in SLOS)
        ),
        Panel(
            "Refused",
            (
                (
                    f"sum by (job, reason) (rate(flotilla_admission_rejected_total{{{_PLACE}}}[1m]))",
                    "{{job}} {{reason}}",
                ),
            ),
            "reqps",
        ),
        Panel(
            "Held for a service that is away",
            ((f"sum by (service) (flotilla_gateway_held{{{_PLACE}}})", "{{service}}"),),
        ),
        Panel(
            "Triton: requests",
            (
                (
                    f"sum by (job, model) (rate(nv_inference_request_success{{{_PLACE},{services}}}[1m]))",
                    "{{job}} {{model}}",
                ),
            ),
            "reqps",
        ),
        Panel(
            "Triton: queue time of a request",
            (
                (
                    f"sum by (job, model) (rate(nv_inference_queue_duration_us{{{_PLACE}}}[1m])) / 1e6"
                    f" / (sum by (job, model) (rate(nv_inference_request_success{{{_PLACE}}}[1m])) > 0)",
                    "{{job}} {{model}}",
                ),
            ),
            "s",
        ),
        Panel("GPU utilisation", ((f"nv_gpu_utilization{{{_PLACE}}}", "{{job}} {{gpu_uuid}}"),), "percentunit"),
    ]


def _golden(service: str) -> list[Panel]:
    """Return what is looked at first: how many, how many of them fail, how long they take, how full it is."""
    place = f'{_PLACE},job="{service}"'
    http = service == "gateway"
    metric = "http_server_request_duration_seconds" if http else "rpc_server_call_duration_seconds"
    code = "http_response_status_code" if http else "rpc_response_status_code"
    what = "http_route" if http else "rpc_method"
    return [
        Panel("Calls", ((f"sum by ({code}) (rate({metric}_count{{{place}}}[1m]))", f"{{{{{code}}}}}"),), "reqps"),
        Panel("95 % of calls take less than", ((_quantile(metric, 0.95, place, (what,)), f"{{{{{what}}}}}"),), "s"),
        Panel("Ready", ((f"flotilla_ready{{{place}}}", "{{instance}}"),)),
    ]


def _panel(metric: Metric, service: str) -> Panel:
    place, labels = f'{_PLACE},job="{service}"', metric.labels
    legend = " ".join(f"{{{{{label}}}}}" for label in labels) or "{{instance}}"
    by = f" by ({', '.join(labels or ('instance',))}) "
    unit = next((unit for end, unit in _UNITS if metric.name.endswith(end)), "short")
    title = metric.name.removeprefix("flotilla_")
    limits = (0.7, 1.0) if metric.name == "flotilla_saturation" else ()
    lines: tuple[tuple[str, str], ...]
    match metric.kind:
        case "gauge":
            lines = ((f"max{by}({metric.name}{{{place}}})", legend),)
        case "counter":
            lines, title = ((f"sum{by}(rate({metric.name}{{{place}}}[1m]))", legend),), f"{title} a second"
        case _:
            lines = tuple(
                (_quantile(metric.name, share, place, labels), f"p{share * 100:g} {legend if labels else ''}".strip())
                for share in (0.5, 0.95)
            )
    return Panel(title, lines, unit, metric.meaning, limits)


def _quantile(metric: str, share: float, place: str, labels: Sequence[str]) -> str:
    by = ", ".join(("le", *labels))
    return f"histogram_quantile({share}, sum by ({by}) (rate({metric}_bucket{{{place}}}[5m])))"


def _dashboard(title: str, uid: str, panels: Iterable[Panel]) -> dict[str, Any]:
    return {
        "uid": uid,
        "title": title,
        "tags": ["flotilla"],
        "schemaVersion": 39,
        "timezone": "browser",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
                {
                    "name": "namespace",
                    "type": "query",
                    "datasource": _DATA,
                    "query": {"query": "label_values(flotilla_ready, namespace)", "refId": "namespace"},
                    "includeAll": True,
                    "allValue": ".*",
                    "multi": True,
                    "refresh": 2,
                },
            ]
        },
        "panels": [_json(panel, index) for index, panel in enumerate(panels)],
    }


def _json(panel: Panel, index: int) -> dict[str, Any]:
    colours = zip(("green", "orange", "red"), (None, *panel.limits), strict=False)
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": re.sub(r"`", "", panel.description),
        "datasource": _DATA,
        "gridPos": {"x": index % _ACROSS * _WIDTH, "y": index // _ACROSS * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "thresholds": {
                    "mode": "absolute",
                    "steps": [{"color": colour, "value": value} for colour, value in colours],
                },
                "custom": {"thresholdsStyle": {"mode": "line" if panel.limits else "off"}},
            },
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": "ABCDEF"[number], "datasource": _DATA, "expr": query, "legendFormat": legend}
            for number, (query, legend) in enumerate(panel.queries)
        ],
    }

"""Recording rules and burn-rate alerts of the objectives: several windows, several rates.

https://sre.google/workbook/alerting-on-slos/: an alert fires while the budget burns fast over a long window, and still
does over a short one.
"""

from dataclasses import dataclass
from typing import Any

from tools.monitoring.objectives import SLOS

ERRORS, BUDGET = "flotilla:slo_errors:ratio_rate", "flotilla:slo_budget:ratio"
RUNBOOK = "docs/runbook.md"
_SUMMARY = "{{ $labels.modality }}: {{ $labels.slo }} fails for {{ $value | humanizePercentage }} of requests"


@dataclass(frozen=True, slots=True)
class Burn:
    """Fires while the error budget of 30 days burns `rate` times as fast as it may, over both windows."""

    name: str
    rate: float
    long: str
    short: str
    hold: str
    severity: str
    spent: str


BURNS = (
    Burn("FlotillaBudgetBurnsVeryFast", 14.4, "1h", "5m", "2m", "page", "2 % of the month's budget in an hour"),
    Burn("FlotillaBudgetBurnsFast", 6, "6h", "30m", "15m", "page", "5 % of the month's budget in six hours"),
    Burn("FlotillaBudgetBurns", 3, "1d", "2h", "1h", "ticket", "10 % of the month's budget in a day"),
    Burn("FlotillaBudgetBurnsSlowly", 1, "3d", "6h", "3h", "ticket", "10 % of the month's budget in three days"),
)


def windows() -> list[str]:
    """Return every window that an alert looks at, shortest first."""
    found = {window for burn in BURNS for window in (burn.short, burn.long)}
    return sorted(found, key=lambda window: ("mhd".index(window[-1]), int(window[:-1])))


def groups() -> list[dict[str, Any]]:
    """Return the rule groups in the form of a Prometheus rule file."""
    recorded = [
        {"record": f"{ERRORS}{window}", "expr": slo.ratio.errors(window), "labels": slo.labels}
        for window in windows()
        for slo in SLOS
    ]
    budgets = [{"record": BUDGET, "expr": f"vector({1 - slo.objective:g})", "labels": slo.labels} for slo in SLOS]
    return [
        {"name": "flotilla-slo", "interval": "30s", "rules": [*budgets, *recorded]},
        {"name": "flotilla-slo-alerts", "rules": [_alert(burn) for burn in BURNS]},
    ]


def _alert(burn: Burn) -> dict[str, Any]:
    sides = (
        f"({ERRORS}{window} > on (slo, modality) group_left () ({burn.rate:g} * {BUDGET}))"
        for window in (burn.long, burn.short)
    )
    return {
        "alert": burn.name,
        "expr": " and on (namespace, slo, modality) ".join(sides),
        "for": burn.hold,
        "labels": {"severity": burn.severity},
        "annotations": {
            "summary": _SUMMARY,
            "description": f"The error budget goes {burn.rate:g} times as fast as it may: {burn.spent}.",
            "runbook": f"{RUNBOOK}#{burn.name.lower()}",
        },
    }

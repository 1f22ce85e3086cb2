"""The profile `monitoring`: a Prometheus in a container of its own reads the fleet. Grafana is not tried."""

import time
from collections.abc import Sequence
from typing import Any

import httpx

from tools.cli.console import Problem, console
from tools.containers.compose import Compose

SECONDS = 90.0
_PROFILE = ("--profile", "monitoring")


def try_prometheus(compose: Compose, port: int, services: Sequence[str]) -> None:
    """Start Prometheus beside the fleet, as the profile has it, and take it away again.

    It must reach every service and the gateway, know each one's saturation, and evaluate every rule. Raises Problem.
    """
    compose(*_PROFILE, "up", "--detach", "--no-build", "--no-deps", "prometheus")
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False) as http:
            deadline = time.monotonic() + SECONDS
            while missing := _missing(http, services):
                if time.monotonic() > deadline:
                    raise Problem(f"after {SECONDS:.0f} s Prometheus has not {missing}", "see what it logs")
                time.sleep(1.0)
            rules = _rules(http)
    finally:
        compose(*_PROFILE, "rm", "--stop", "--force", "prometheus")
    console.print(f"  prometheus: reads gateway, {', '.join(services)}; {len(rules)} rules evaluated", markup=False)


def _missing(http: httpx.Client, services: Sequence[str]) -> str:
    """Return what Prometheus does not know yet."""
    try:
        targets = _get(http, "targets")["activeTargets"]
        found = {one["labels"]["job"] for one in targets if one["health"] == "up"}
        if absent := {*services, "gateway"} - found:
            return f"reached {', '.join(sorted(absent))}"
        samples = _get(http, "query", query="flotilla_saturation")["result"]
        if absent := set(services) - {one["metric"]["job"] for one in samples}:
            return f"the saturation of {', '.join(sorted(absent))}"
        wrong = [rule["name"] for rule in _rules(http) if rule["health"] != "ok"]
        return f"evaluated {', '.join(wrong[:5])}" if wrong else ""
    except httpx.TransportError:
        return "started"


def _rules(http: httpx.Client) -> list[dict[str, Any]]:
    return [rule for group in _get(http, "rules")["groups"] for rule in group["rules"]]


def _get(http: httpx.Client, path: str, **parameters: str) -> Any:
    return http.get(path, params=parameters).raise_for_status().json()["data"]

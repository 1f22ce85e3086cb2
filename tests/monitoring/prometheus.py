"""A real Prometheus on a private fleet, with the project's own rules; windows and holds may be shortened."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from services.common.ports import GATEWAY, free_ports
from tests.waiting import until
from tools.fleet.private import PrivateFleet
from tools.monitoring.generate import FOLDER

NAMESPACE = "flotilla"


class Prometheus:
    """What it answers."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def query(self, promql: str) -> list[dict[str, Any]]:
        """Samples of an instant query."""
        answer = await self._http.get("/api/v1/query", params={"query": promql})
        body = answer.json()
        assert body["status"] == "success", (promql, body)
        return body["data"]["result"]

    async def value(self, promql: str) -> float | None:
        """The only sample, None where there is none."""
        found = await self.query(promql)
        assert len(found) <= 1, (promql, found)
        return float(found[0]["value"][1]) if found else None

    async def firing(self) -> set[tuple[str, str]]:
        """Alerts that fire: name, and the service or job."""
        alerts = (await self._http.get("/api/v1/alerts")).json()["data"]["alerts"]
        return {
            (alert["labels"]["alertname"], alert["labels"].get("service") or alert["labels"].get("job", ""))
            for alert in alerts
            if alert["state"] == "firing"
        }

    async def range(self, promql: str, start: float, end: float) -> list[dict[str, Any]]:
        """Samples of every second."""
        params: dict[str, Any] = {"query": promql, "start": start, "end": end, "step": 1}
        return (await self._http.get("/api/v1/query_range", params=params)).json()["data"]["result"]


def configuration(fleet: PrivateFleet) -> dict[str, Any]:
    """prometheus.yml with the addresses of this fleet, and the labels that pods have."""
    text = json.dumps(yaml.safe_load((FOLDER / "prometheus.yml").read_text()))
    config: dict[str, Any] = json.loads(text)
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    running = {process.name: process for process in fleet.processes}
    config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] in running]
    for job in config["scrape_configs"]:
        process = running[job["job_name"]]
        port = process.metrics_port if process.name == GATEWAY.name else process.http_port
        labels = {"namespace": NAMESPACE, "pod": f"{process.name}-0"}
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"], "labels": labels}]
    return config


def shortened(rules: str, holds: str) -> str:
    """Rules whose alerts wait for `holds` only, and whose windows of minutes are seconds and of hours minutes."""
    rules = re.sub(r"interval: \w+", "interval: 1s", re.sub(r"for: \w+", f"for: {holds}", rules))
    smaller = {"m": "s", "h": "m", "d": "m"}
    return re.sub(r"\[(\d+)([mhd])", lambda found: f"[{found[1]}{smaller[found[2]]}", rules)


@asynccontextmanager
async def prometheus(fleet: PrivateFleet, folder: Path, holds: str | None = None) -> AsyncIterator[Prometheus]:
    """Run Prometheus on a fleet; with `holds`, on shortened rules."""
    program = shutil.which("prometheus")
    assert program, "prometheus is not in PATH; run tools/check-monitoring"
    (folder / "rules").mkdir(parents=True)
    for path in (FOLDER / "rules").glob("*.yml"):
        text = path.read_text()
        (folder / "rules" / path.name).write_text(shortened(text, holds) if holds else text)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration(fleet)))
    (port,) = free_ports(1)
    with (folder / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=log,
            stderr=log,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as http:

            async def ready() -> bool:
                assert process.returncode is None, (folder / "log").read_text()
                try:
                    return (await http.get("/-/ready")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(ready, "Prometheus")
            yield Prometheus(http)
    finally:
        process.terminate()
        await process.wait()


def adapter_query(rule: Mapping[str, Any], pod: str) -> str:
    """The query the Prometheus adapter makes of a rule for a pod: its template, filled in as it does."""
    series = re.match(r"\w+", rule["seriesQuery"])
    assert series
    filled = {
        "<<.Series>>": series[0],
        "<<.LabelMatchers>>": f'namespace="{NAMESPACE}",pod=~"{pod}"',
        "<<.GroupBy>>": "pod",
    }
    query = str(rule["metricsQuery"])
    for name, value in filled.items():
        query = query.replace(name, value)
    return query

"""The files that Docker and compose read, held against each other and against the settings."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from services.common.ports import GATEWAY, SERVICES
from services.common.settings import CommonSettings
from tools.containers.images import DOCKERFILES, GOALS_MB

ROOT = Path(__file__).resolve().parents[4]
DOCKERFILE_TEXTS = {name: (ROOT / path).read_text() for name, path in DOCKERFILES.items()}
MODEL_SERVICES = [service.name for service in SERVICES if service is not GATEWAY]
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::?-((?:[^{}]|\$\{[^}]*\})*))?\}")


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def shared_stage(text: str) -> str:
    return text[text.index("# The same in every image") : text.index("FROM python AS packages")]


def test_the_shared_stage_is_the_same_in_every_image():
    assert len({shared_stage(text) for text in DOCKERFILE_TEXTS.values()}) == 1


def test_an_image_of_a_service_has_its_own_code_alone():
    for name in MODEL_SERVICES:
        copied = re.findall(
            r"^COPY (services/\S+|proto/\S+|model_repository/\S+)", DOCKERFILE_TEXTS[name], re.MULTILINE
        )
        others = [path for path in copied for other in MODEL_SERVICES if other != name and f"/{other}" in path]
        assert copied and not others
    assert set(GOALS_MB) == {service.name for service in SERVICES}


def test_health_is_asked_at_the_port_of_the_table():
    for service in SERVICES:
        port = service.metrics_port or service.http_port
        assert f'"/opt/flotilla/healthcheck.py", "{port}"' in DOCKERFILE_TEXTS[service.name]
        assert f'"services.{service.name}"' in DOCKERFILE_TEXTS[service.name]


def test_only_the_gateway_publishes_ports_of_the_fleet_and_on_loopback(compose):
    fleet = {name: compose[name] for name in [*MODEL_SERVICES, "gateway", "models"]}
    assert [name for name, service in fleet.items() if "ports" in service] == ["gateway"]
    for name in ("gateway", "prometheus", "grafana"):
        assert all("127.0.0.1" in port for port in compose[name]["ports"])
    assert all(compose[name]["networks"] == ["fleet"] for name in MODEL_SERVICES)
    whole = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert whole["networks"]["fleet"]["internal"] is True


def test_every_container_is_locked_down(compose):
    for service in compose.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert set(service["deploy"]["resources"]["limits"]) == {"pids", "cpus", "memory"}


def default(text: str) -> str:
    match = VARIABLE.fullmatch(text)
    assert match
    return match[2]


def test_docker_waits_longer_than_a_drain_takes(compose):
    for name in [*MODEL_SERVICES, "gateway"]:
        service = compose[name]
        drain = sum(
            float(default(service["environment"][f"FLOTILLA_DRAIN_{part}_SECONDS"]))
            for part in ("PROPAGATION", "GRACE")
        )
        assert float(default(service["stop_grace_period"]).removesuffix("s")) > drain + 10
    assert {"drain_propagation_seconds", "drain_grace_seconds"} <= set(CommonSettings.model_fields)


def test_the_example_has_every_variable_with_its_default():
    found = {}
    for name in ("compose.yaml", "compose.gpu.yaml"):
        for match in VARIABLE.finditer((ROOT / name).read_text()):
            if not (match[2] or "").startswith("${"):
                found.setdefault(match[1], set()).add(match[2] or "")
    example = dict(
        line.removeprefix("#").split("=", 1)
        for line in (ROOT / ".env.example").read_text().splitlines()
        if re.match(r"#[A-Z_]+=", line)
    )
    example.pop("FLOTILLA_GATEWAY_ALLOW_KEYLESS")  # its default depends on where the gateway is published
    found.pop("FLOTILLA_GATEWAY_ALLOW_KEYLESS", None)
    assert {name: {value} for name, value in example.items()} == {
        name: values - {"true"} if name == "FLOTILLA_PUBLISH_HOST" else values for name, values in found.items()
    }


def test_the_version_is_the_project_s():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"FLOTILLA_VERSION:-{version}" in (ROOT / "compose.yaml").read_text()

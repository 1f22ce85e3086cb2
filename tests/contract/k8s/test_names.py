"""What the manifests name exists in the code: images, programs, ports, paths, variables, metrics, other objects."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings
from starlette.routing import Route

from services.asr.settings import AsrSettings
from services.common.health import Health
from services.common.http import health_app
from services.common.ports import SERVICES as TABLE
from services.common.settings import CommonSettings, ExportSettings
from services.embedding.settings import EmbeddingSettings
from services.gateway.settings import GatewaySettings
from services.llm.settings import LlmSettings
from services.vision.settings import VisionSettings
from tests.contract.k8s.manifests import (
    BUILDS,
    COMPONENTS,
    K8S,
    PROCESSES,
    ROOT,
    SERVICES,
    Object,
    build,
    containers,
    environment,
    of_kind,
    overlay,
    pod_of,
    pods,
    port_numbers,
    values,
    with_components,
)
from tests.integration.gateway.fake_embedding import telemetry
from tools.cli.settings import ToolSettings

SETTINGS: dict[str, type[BaseSettings]] = {
    "llm": LlmSettings,
    "embedding": EmbeddingSettings,
    "asr": AsrSettings,
    "vision": VisionSettings,
    "gateway": GatewaySettings,
    "models": ToolSettings,
}
DOCKERFILES = {
    **{name: ROOT / "services" / name / "Dockerfile" for name in PROCESSES},
    "models": ROOT / "tools" / "model_preparation" / "Dockerfile",
}
OTHERS = {"TMPDIR", "PIP_NO_CACHE_DIR"}


@pytest.fixture(params=BUILDS)
def built(request: pytest.FixtureRequest) -> tuple[Object, ...]:
    return build(request.param)


def all_containers(built: tuple[Object, ...]) -> Iterator[tuple[str, Object]]:
    for name, pod in pods(built).items():
        yield from ((name, container) for container in containers(pod))


def of_pods(autoscaler: Object) -> set[str]:
    """The metrics of pods that a HorizontalPodAutoscaler asks for."""
    return {metric["pods"]["metric"]["name"] for metric in autoscaler["spec"]["metrics"] if "pods" in metric}


def dockerfile_value(path: Path, pattern: str) -> str:
    found = re.findall(pattern, path.read_text(), re.MULTILINE)
    assert found, f"{pattern} in {path}"
    return str(found[-1])


def test_every_image_is_one_that_is_built_here_and_started_as_it_is(built: tuple[Object, ...]) -> None:
    for name, container in all_containers(built):
        image, _, tag = container["image"].partition(":")
        titled = dockerfile_value(DOCKERFILES[name], r'image\.title="([^"]+)"')
        assert titled == f"flotilla-{name}"
        if "nvidia.com/gpu" in str(pods(built)[name]):
            titled = f"{titled}-gpu"
            assert dockerfile_value(DOCKERFILES[name], r"^FROM \S+ AS (gpu)$")
        assert image == titled
        assert tag not in ("", "latest")
        user = dockerfile_value(DOCKERFILES[name], r"^USER (\S+)")
        security = pods(built)[name]["securityContext"]
        assert user == f"{security['runAsUser']}:{security['runAsGroup']}"
        if command := container.get("command"):
            module = ROOT / f"{command[command.index('-m') + 1].replace('.', '/')}.py"
            assert module.is_file()


def test_what_the_images_write_to_is_mounted(built: tuple[Object, ...]) -> None:
    for name, container in all_containers(built):
        if "command" in container:
            continue
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        state = dockerfile_value(DOCKERFILES[name], r"FLOTILLA_STATE_DIR=(\S+)")
        written = {state, environment(built, container).get("TMPDIR", "/tmp"), "/tmp"}
        assert all(any(Path(path).is_relative_to(place) for place in mounted) for path in written)
        if name != "gateway":
            assert dockerfile_value(DOCKERFILES[name], r"FLOTILLA_MODEL_STORE=(\S+)") in mounted


@pytest.mark.parametrize("name", PROCESSES)
def test_ports_are_those_of_the_settings(name: str, built: tuple[Object, ...]) -> None:
    (container,) = pod_of(of_kind(built, "Deployment")[name])["containers"]
    (row,) = (row for row in TABLE if row.name == name)
    ports = {"grpc": row.grpc_port, "http": row.http_port, "metrics": row.metrics_port}
    assert port_numbers(container) == {kind: port for kind, port in ports.items() if port}
    exposed = dockerfile_value(DOCKERFILES[name], r"^EXPOSE (.+)")
    assert sorted(map(int, exposed.split())) == sorted(port_numbers(container).values())
    service = of_kind(built, "Service")[name]["spec"]
    assert {port["name"]: port["port"] for port in service["ports"]}.items() <= port_numbers(container).items()
    assert all(port["targetPort"] == port["name"] for port in service["ports"])


def test_probes_ask_paths_that_are_served_on_the_port_of_health(built: tuple[Object, ...]) -> None:
    app = health_app(Health.of([], []), telemetry())
    served = {route.path for route in app.routes if isinstance(route, Route)}
    for name in PROCESSES:
        (container,) = pod_of(of_kind(built, "Deployment")[name])["containers"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[kind]["httpGet"]
            assert asked["path"] in served
            assert asked["port"] == ("metrics" if name == "gateway" else "http")
        assert container["readinessProbe"]["httpGet"]["path"].endswith("/ready")
        assert container["livenessProbe"]["httpGet"]["path"].endswith("/live")


def test_every_variable_is_a_setting_and_every_value_is_taken(
    built: tuple[Object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, container in all_containers(built):
        found = environment(built, container)
        known = {
            f"{settings.model_config['env_prefix']}{field}".upper()
            for settings in (CommonSettings, ExportSettings, SETTINGS[name])
            for field in settings.model_fields
        }
        assert set(found) - OTHERS <= known
        with monkeypatch.context() as patched:
            for variable, value in found.items():
                patched.setenv(variable, value)
            CommonSettings()
            SETTINGS[name]()


def test_the_gateway_finds_every_service_by_a_name_that_stands_for_its_pods(built: tuple[Object, ...]) -> None:
    (container,) = pod_of(of_kind(built, "Deployment")["gateway"])["containers"]
    found = environment(built, container)
    for name in SERVICES:
        host, _, port = found[f"FLOTILLA_GATEWAY_{name}_ADDRESSES".upper()].partition(":")
        service = of_kind(built, "Service")[host]["spec"]
        assert service["clusterIP"] == "None"
        assert service["publishNotReadyAddresses"]  # the gateway asks each pod itself
        assert service["selector"] == {"app.kubernetes.io/component": name}
        assert int(port) in [it["port"] for it in service["ports"] if it["name"] == "grpc"]


def test_selectors_find_the_pods(built: tuple[Object, ...]) -> None:
    labels = {
        name: it["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
        for kind in ("Deployment", "Job")
        for name, it in of_kind(built, kind).items()
    }
    assert labels == {name: name for name in labels}
    for found in built:
        if found["kind"] == "Deployment":
            continue
        for chosen in values(found, "matchLabels"):
            component = chosen.get("app.kubernetes.io/component")
            assert component is None or component in labels
        for expression in (it for several in values(found, "matchExpressions") for it in several):
            assert set(expression["values"]) <= set(labels)


def test_network_policies_open_ports_that_exist(built: tuple[Object, ...]) -> None:
    numbers = {
        port
        for name in PROCESSES
        for port in port_numbers(pod_of(of_kind(built, "Deployment")[name])["containers"][0]).values()
    }
    outside = {53, 443, 4317, 4318}
    for policy in of_kind(built, "NetworkPolicy").values():
        for port in (port for ports in values(policy["spec"], "ports") for port in ports):
            if isinstance(port["port"], int):
                assert set(range(port["port"], port.get("endPort", port["port"]) + 1)) <= numbers | outside
            else:
                assert port["port"] in ("http", "grpc", "metrics")


def test_what_pods_refer_to_is_there(built: tuple[Object, ...]) -> None:
    made_by_the_operator = {"flotilla-gateway-keys", "flotilla-gateway-tls"}
    claims, config = of_kind(built, "PersistentVolumeClaim"), of_kind(built, "ConfigMap")
    for pod in pods(built).values():
        for volume in pod["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] in made_by_the_operator
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
        assert {reference["name"] for reference in values(pod, "configMapRef")} <= set(config)


@pytest.mark.parametrize("component", [name for name in COMPONENTS if name.startswith("autoscaling")])
def test_metrics_that_scale_are_exported(component: str) -> None:
    documented = set(re.findall(r"^\| `([a-z0-9_]+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    named: set[str] = set()
    built = with_components("base", component)
    for found in of_kind(built, "HorizontalPodAutoscaler").values():
        named |= of_pods(found)
    for found in of_kind(built, "ScaledObject").values():
        for query in values(found["spec"]["triggers"], "query"):
            named |= set(re.findall(r"([a-z_]+)\{", query))
    assert named
    assert named <= documented


def test_the_adapter_serves_the_metrics_that_scale() -> None:
    rules = yaml.safe_load((K8S / "components" / "autoscaling-prometheus-adapter" / "adapter-rules.yml").read_text())
    served = {rule["name"]["as"] for rule in rules["rules"]}
    autoscalers = of_kind(overlay("cpu"), "HorizontalPodAutoscaler")
    assert set().union(*map(of_pods, autoscalers.values())) == served


def test_the_gateway_scales_on_the_one_cpu_that_it_can_use() -> None:
    for name in ("cpu", "keda"):
        (container,) = pod_of(of_kind(overlay(name), "Deployment")["gateway"])["containers"]
        assert container["resources"]["requests"]["cpu"] == "1"
    utilization = [*values(of_kind(overlay("cpu"), "HorizontalPodAutoscaler")["gateway"], "averageUtilization")]
    trigger = of_kind(overlay("keda"), "ScaledObject")["gateway"]["spec"]["triggers"][-1]
    assert (trigger["type"], [int(trigger["metadata"]["value"])]) == ("cpu", utilization)


def test_keda_asks_for_jobs_and_services_that_prometheus_knows() -> None:
    monitors = of_kind(overlay("keda"), "PodMonitor")
    assert {it["spec"]["jobLabel"] for it in monitors.values()} == {"app.kubernetes.io/component"}
    for name, found in of_kind(overlay("keda"), "ScaledObject").items():
        for query in values(found["spec"]["triggers"], "query"):
            labels: dict[str, Any] = dict(re.findall(r'(\w+)="([^"]*)"', query))
            assert labels.pop("namespace") == "flotilla"
            assert labels in ({"job": name}, {"service": name})


def test_every_service_is_a_file_of_its_own() -> None:
    for name in PROCESSES:
        kinds = [it["kind"] for it in yaml.safe_load_all((K8S / "base" / f"{name}.yaml").read_text())]
        assert kinds == ["Service", "Deployment", "PodDisruptionBudget"]

"""The times of the manifests hold what the code needs to stop without a loss and to start at all."""

import inspect
import math

import pytest

from services.common.server import LINGER_SECONDS
from services.common.settings import CommonSettings
from services.common.triton_process import START_SECONDS, TritonProcess
from services.gateway.settings import GatewaySettings
from tests.contract.k8s.manifests import OVERLAYS, PROCESSES, SERVICES, Object, environment, of_kind, overlay, pod_of

TRITON_SECONDS = inspect.signature(TritonProcess._stop).parameters["grace"].default + 2
"""What Triton may take to stop, and its log to end."""
FLUSH_SECONDS = 5
"""For telemetry to leave, and the health port to close."""


def setting(found: dict[str, str], name: str) -> float:
    default = CommonSettings.model_fields[name].default
    return float(found.get(f"FLOTILLA_{name}".upper(), default))


def default(name: str) -> float:
    return float(GatewaySettings.model_fields[name].default)


def seconds(probe: Object) -> int:
    return int(probe["periodSeconds"] * probe["failureThreshold"])


@pytest.fixture(params=OVERLAYS)
def built(request: pytest.FixtureRequest) -> tuple[Object, ...]:
    return overlay(request.param)


@pytest.fixture(params=PROCESSES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pod(built: tuple[Object, ...], name: str) -> Object:
    return pod_of(of_kind(built, "Deployment")[name])


@pytest.fixture
def container(pod: Object) -> Object:
    (found,) = pod["containers"]
    return found


@pytest.fixture
def variables(built: tuple[Object, ...], container: Object) -> dict[str, str]:
    return environment(built, container)


def test_the_grace_of_the_pod_covers_every_step_of_the_drain(
    name: str, pod: Object, container: Object, variables: dict[str, str]
) -> None:
    steps = [
        container["lifecycle"]["preStop"]["sleep"]["seconds"],
        setting(variables, "drain_propagation_seconds"),
        setting(variables, "drain_grace_seconds"),
        2 * LINGER_SECONDS,
        TRITON_SECONDS if name in SERVICES else 0,
        FLUSH_SECONDS,
    ]
    spare = pod["terminationGracePeriodSeconds"] - sum(steps)
    assert 0 <= spare <= 10, steps


def test_calls_in_flight_have_as_long_as_their_deadline(name: str, variables: dict[str, str]) -> None:
    longest = default("audio_timeout_seconds" if name in ("asr", "gateway") else "request_timeout_seconds")
    assert setting(variables, "drain_grace_seconds") >= longest


def test_the_pod_is_out_of_every_endpoint_list_before_it_refuses(
    container: Object, variables: dict[str, str], name: str
) -> None:
    """Readiness has failed as often as it must, and names were resolved anew, before new calls are refused."""
    seen = container["lifecycle"]["preStop"]["sleep"]["seconds"] + setting(variables, "drain_propagation_seconds")
    assert seen >= seconds(container["readinessProbe"])
    if name in SERVICES:
        assert seen >= default("resolve_seconds")


def test_a_gateway_outlives_the_drain_of_no_service_it_talks_to(built: tuple[Object, ...]) -> None:
    deployments = of_kind(built, "Deployment")
    grace = {
        name: setting(environment(built, pod_of(it)["containers"][0]), "drain_grace_seconds")
        for name, it in deployments.items()
    }
    assert grace["gateway"] >= max(grace.values())


def test_a_start_has_the_time_that_triton_has_and_the_proof_of_the_models_after_it(
    name: str, container: Object
) -> None:
    least = 2 * START_SECONDS if name in SERVICES else 30
    assert seconds(container["startupProbe"]) >= least


def test_liveness_is_more_patient_than_readiness(container: Object) -> None:
    assert seconds(container["livenessProbe"]) >= 5 * seconds(container["readinessProbe"])


def test_a_held_request_waits_less_than_its_deadline() -> None:
    built = overlay("keda")
    variables = environment(built, pod_of(of_kind(built, "Deployment")["gateway"])["containers"][0])
    holds = {name: float(variables[f"FLOTILLA_GATEWAY_{name}_HOLD_SECONDS".upper()]) for name in SERVICES}
    assert all(0 < hold < default("request_timeout_seconds") for hold in holds.values())
    objects = of_kind(built, "ScaledObject")
    for name, hold in holds.items():
        assert objects[name]["spec"]["pollingInterval"] * 4 < hold
        assert objects[name]["spec"]["cooldownPeriod"] >= math.ceil(hold)


def test_without_scale_to_zero_nothing_is_held() -> None:
    for name in ("cpu", "gpu"):
        built = overlay(name)
        variables = environment(built, pod_of(of_kind(built, "Deployment")["gateway"])["containers"][0])
        assert not [variable for variable in variables if variable.endswith("_HOLD_SECONDS")]

"""What keeps a pod small and harmless, in every build."""

import pytest

from tests.contract.k8s.manifests import (
    BUILDS,
    OVERLAYS,
    PROCESSES,
    SERVICES,
    Object,
    build,
    containers,
    of_kind,
    overlay,
    pod_of,
    pods,
)

MIB = {"Mi": 1, "Gi": 1024}


def mebibytes(quantity: str) -> int:
    return int(quantity[:-2]) * MIB[quantity[-2:]]


@pytest.fixture(params=BUILDS)
def built(request: pytest.FixtureRequest) -> tuple[Object, ...]:
    return build(request.param)


def test_every_pod_is_confined(built: tuple[Object, ...]) -> None:
    for pod in pods(built).values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False  # the variables of links could be taken for settings
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))
        assert not any("hostPath" in volume for volume in pod["volumes"])
        for container in containers(pod):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            resources = container["resources"]
            assert {"cpu", "memory", "ephemeral-storage"} <= set(resources["requests"]) & set(resources["limits"])


def test_engines_have_whole_cpus_and_memory_that_nobody_takes_back(built: tuple[Object, ...]) -> None:
    for name in SERVICES:
        (container,) = pod_of(of_kind(built, "Deployment")[name])["containers"]
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert int(limits["cpu"]) >= 1
        assert (requests["cpu"], requests["memory"]) == (limits["cpu"], limits["memory"])


def test_shared_memory_is_memory_and_enough_and_counted(built: tuple[Object, ...]) -> None:
    for name in SERVICES:
        pod = pod_of(of_kind(built, "Deployment")[name])
        (container,) = pod["containers"]
        (volume,) = (it for it in pod["volumes"] if it["name"] == "shm")
        assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
        assert volume["emptyDir"]["medium"] == "Memory"
        size = mebibytes(volume["emptyDir"]["sizeLimit"])
        assert 256 <= size <= mebibytes(container["resources"]["limits"]["memory"]) / 2


def test_models_are_written_by_the_job_alone(built: tuple[Object, ...]) -> None:
    for name, pod in pods(built).items():
        for container in containers(pod):
            for mount in container["volumeMounts"]:
                if mount["name"] == "models":
                    assert mount.get("readOnly", False) == (name != "models")


def test_the_loss_of_a_node_or_its_drain_takes_one_replica(built: tuple[Object, ...]) -> None:
    for name in PROCESSES:
        budget = of_kind(built, "PodDisruptionBudget")[name]["spec"]
        assert budget["maxUnavailable"] == 1
        deployment = of_kind(built, "Deployment")[name]["spec"]
        assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert "replicas" not in deployment  # applying must not undo what the autoscaler has decided
        keys = [it["topologyKey"] for it in pod_of(of_kind(built, "Deployment")[name])["topologySpreadConstraints"]]
        assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]


def test_no_secret_is_in_the_repository(built: tuple[Object, ...]) -> None:
    assert not of_kind(built, "Secret")


def test_the_gateway_asks_for_keys(built: tuple[Object, ...]) -> None:
    pod = pod_of(of_kind(built, "Deployment")["gateway"])
    assert {"name": "keys", "mountPath": "/etc/flotilla/keys", "readOnly": True} in pod["containers"][0]["volumeMounts"]
    for config in of_kind(built, "ConfigMap").values():
        assert not [name for name in config["data"] if "KEYLESS" in name]


@pytest.mark.parametrize("name", OVERLAYS)
def test_everything_is_denied_but_what_is_named(name: str) -> None:
    policies = of_kind(overlay(name), "NetworkPolicy")
    assert policies["default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    allowed = [
        source
        for policy in policies.values()
        for rule in policy["spec"].get("ingress", ())
        for source in rule.get("from", [None])
        if policy["metadata"]["name"] != "gateway"
    ]
    assert None not in allowed  # only the gateway is for everybody


@pytest.mark.parametrize("name", SERVICES)
def test_a_gpu_is_asked_for_and_its_taint_is_borne(name: str) -> None:
    pod = pod_of(of_kind(overlay("gpu"), "Deployment")[name])
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    assert "tolerations" not in pod_of(of_kind(overlay("cpu"), "Deployment")[name])

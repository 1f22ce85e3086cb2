"""Every overlay, and every component there is, builds and is valid in the newest four Kubernetes versions."""

import copy
import functools
import json
from collections import Counter

import jsonschema
import kubernetes_validate
import pytest
from kubernetes_validate.utils import all_versions, major_minor

from tests.contract.k8s.crds import SCHEMAS
from tests.contract.k8s.manifests import (
    BUILDS,
    COMPONENTS,
    OVERLAYS,
    PROCESSES,
    Object,
    build,
    of_kind,
    overlay,
    with_components,
)

VERSIONS = sorted({major_minor(version) for version in all_versions()}, key=lambda it: int(it.split(".")[1]))[-4:]
AUTOSCALING = ("autoscaling-keda", "autoscaling-prometheus-adapter")
MIXES = {
    f"all with {chosen}": (*(name for name in COMPONENTS if name not in AUTOSCALING), chosen) for chosen in AUTOSCALING
}
ALL = (*BUILDS, *MIXES)


def objects_of(name: str) -> tuple[Object, ...]:
    return with_components("base", *MIXES[name]) if name in MIXES else build(name)


@functools.cache
def everything() -> tuple[Object, ...]:
    """Every object of every build; what several have alike is there once."""
    found = {json.dumps(it, sort_keys=True): it for built in ALL for it in objects_of(built)}
    return tuple(found.values())


def check(found: Object, version: str) -> None:
    schema = SCHEMAS.get(found["kind"])
    if schema is None:
        kubernetes_validate.validate(found, version, strict=True)
    else:
        jsonschema.validate(found, schema, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("built", ALL)
def test_everything_builds_and_no_object_is_there_twice(built: str) -> None:
    counted = Counter((found["kind"], found["metadata"]["name"]) for found in objects_of(built))
    assert [name for name, count in counted.items() if count > 1] == []
    assert set(PROCESSES) <= set(of_kind(objects_of(built), "Deployment"))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(version: str) -> None:
    for found in everything():
        check(found, version)


def test_an_unknown_field_is_found_in_every_kind() -> None:
    kinds = {found["kind"]: found for found in everything()}
    assert set(SCHEMAS) <= set(kinds)
    for found in kinds.values():
        broken = copy.deepcopy(found)
        broken["spec" if "spec" in broken else "metadata"]["notAField"] = 1
        with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError)):
            check(broken, VERSIONS[-1])


@pytest.mark.parametrize("name", OVERLAYS)
def test_only_one_autoscaler_has_a_say(name: str) -> None:
    targets = Counter(
        found["spec"]["scaleTargetRef"]["name"]
        for kind in ("HorizontalPodAutoscaler", "ScaledObject")
        for found in of_kind(overlay(name), kind).values()
    )
    assert targets == dict.fromkeys(of_kind(overlay(name), "Deployment"), 1)

"""The engine cache: what is found, and every reason to refuse an engine."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.common.engines import (
    SIDECAR,
    Engine,
    EngineCache,
    EngineDamagedError,
    EngineFile,
    EngineKey,
    EngineMismatchError,
    EngineMissingError,
    GateError,
)

KEY = EngineKey(
    triton_model="toy",
    profile="tensorrt-fp16",
    source_sha256="a" * 64,
    builder="tensorrt 11.4.0.1",
    gpu_name="NVIDIA L40S",
    compute_capability="8.9",
    platform="linux-x86_64",
)
LIVE = {
    "source_sha256": "a" * 64,
    "builder": "tensorrt 11.4.0.1",
    "gpu_name": "NVIDIA L40S",
    "compute_capability": "8.9",
    "platform": "linux-x86_64",
}


def publish(store: Path, key: EngineKey = KEY, *, gate: dict[str, Any] | None = None, age_hours: float = 0) -> Engine:
    """Write an engine with one small file into the cache."""
    folder = store / "engines" / key.digest
    folder.mkdir(parents=True)
    content = b"plan of " + key.digest.encode()
    (folder / "model.plan").write_bytes(content)
    file = EngineFile(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    engine = Engine(
        key=key,
        model="toy",
        files={"model.plan": file},
        gate={"passed": True} if gate is None else gate,
        created=datetime.now(UTC) - timedelta(hours=age_hours),
        build_seconds=1.5,
        folder=folder,
    )
    (folder / SIDECAR).write_bytes(engine.sidecar())
    return engine


def require(store: Path, **changed: str) -> Engine:
    return EngineCache(store).require("toy", "tensorrt-fp16", LIVE | changed)


def test_an_engine_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    engine = publish(tmp_path)
    assert EngineCache(tmp_path).all() == [engine]
    assert EngineCache(tmp_path).find("toy", "tensorrt-fp16") == engine
    assert require(tmp_path) == engine


def test_every_field_of_the_key_changes_the_digest() -> None:
    digests = {KEY.model_copy(update={name: "other"}).digest for name in EngineKey.model_fields}
    assert len(digests | {KEY.digest}) == len(EngineKey.model_fields) + 1


def test_no_engine_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(
        EngineMissingError, match=r"no engine for toy .*run: tools/flotilla engines build toy --profile"
    ):
        require(tmp_path)


def test_each_differing_field_is_named_with_both_values(tmp_path: Path) -> None:
    publish(tmp_path)
    with pytest.raises(EngineMismatchError) as raised:
        require(tmp_path, gpu_name="NVIDIA H100", compute_capability="9.0", source_sha256="b" * 64)
    message = str(raised.value)
    assert "gpu_name of the engine is 'NVIDIA L40S', of this machine 'NVIDIA H100'" in message
    assert "compute_capability of the engine is '8.9', of this machine '9.0'" in message
    assert "source_sha256" in message and "platform" not in message and "\n" not in message


def test_a_misspelt_field_is_not_silently_ignored(tmp_path: Path) -> None:
    publish(tmp_path)
    with pytest.raises(ValueError, match="gpu"):
        EngineCache(tmp_path).require("toy", "tensorrt-fp16", {"gpu": "NVIDIA L40S"})


def test_the_engine_that_fits_is_taken_even_if_an_older_one(tmp_path: Path) -> None:
    fitting = publish(tmp_path, age_hours=5)
    publish(tmp_path, KEY.model_copy(update={"gpu_name": "NVIDIA H100"}))
    assert require(tmp_path) == fitting


def test_hardware_compatibility_takes_later_gpus_only(tmp_path: Path) -> None:
    publish(tmp_path, KEY.model_copy(update={"gpu_name": "", "compute_capability": "8.0+"}))
    assert require(tmp_path, gpu_name="NVIDIA H100", compute_capability="9.0")
    assert require(tmp_path, compute_capability="12.0")
    with pytest.raises(EngineMismatchError, match=r"'8\.0\+', of this machine '7\.5'"):
        require(tmp_path, compute_capability="7.5")


@pytest.mark.parametrize(
    ("live", "fits"),
    [
        ("tensorrt 11.4.0.1", True),
        ("tensorrt 11.10.0.0", True),
        ("tensorrt 11.3.9.9", False),
        ("tensorrt 12.0.0.0", False),
        ("onnxruntime 11.4.0.1", False),
    ],
)
def test_version_compatibility_takes_later_releases_of_the_major_version(tmp_path: Path, live: str, fits: bool) -> None:
    publish(tmp_path, KEY.model_copy(update={"compatibility": "hardware=none,version-compatible"}))
    if fits:
        assert require(tmp_path, builder=live)
        return
    with pytest.raises(EngineMismatchError, match="builder"):
        require(tmp_path, builder=live)


def test_an_engine_of_tensorrt_rtx_is_never_chosen_for_triton(tmp_path: Path) -> None:
    publish(tmp_path, KEY.model_copy(update={"builder": "tensorrt-rtx 1.7.1.116"}))
    cache = EngineCache(tmp_path)
    assert len(cache.all()) == 1
    assert cache.find("toy", "tensorrt-fp16") is None
    with pytest.raises(EngineMissingError, match=r"tensorrt-rtx 1\.7\.1\.116 is there, which Triton cannot execute"):
        require(tmp_path)


def test_a_tampered_file_is_known_by_its_digest(tmp_path: Path) -> None:
    engine = publish(tmp_path)
    content = bytearray(engine.path("model.plan").read_bytes())
    content[0] ^= 1
    engine.path("model.plan").write_bytes(content)
    with pytest.raises(EngineDamagedError, match=r"model\.plan was altered: its digest is"):
        require(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    publish(tmp_path).path("model.plan").unlink()
    with pytest.raises(EngineDamagedError, match=r"cannot read .*model\.plan"):
        require(tmp_path)


@pytest.mark.parametrize("length", [0, 1, 40, 400])
def test_a_truncated_sidecar_is_refused(tmp_path: Path, length: int) -> None:
    sidecar = publish(tmp_path).path(SIDECAR)
    sidecar.write_bytes(sidecar.read_bytes()[:length])
    assert EngineCache(tmp_path).all() == []
    with pytest.raises(EngineDamagedError, match=r"engine\.json is damaged or cut short; run: .*prune --damaged"):
        require(tmp_path)


@pytest.mark.parametrize(
    "garbage",
    [b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b" " * (2 << 20), b'{"format": 2}', b"1e999"],
    ids=["null", "list", "empty", "not-utf8", "deep", "large", "format", "number"],
)
def test_garbage_in_place_of_the_sidecar_is_refused(tmp_path: Path, garbage: bytes) -> None:
    publish(tmp_path).path(SIDECAR).write_bytes(garbage)
    with pytest.raises(EngineDamagedError, match=r"engine\.json is damaged"):
        require(tmp_path)


def test_a_file_outside_the_folder_cannot_be_named(tmp_path: Path) -> None:
    sidecar = publish(tmp_path).path(SIDECAR)
    document = json.loads(sidecar.read_bytes())
    document["files"]["../../secret"] = document["files"].pop("model.plan")
    sidecar.write_text(json.dumps(document))
    with pytest.raises(EngineDamagedError, match="files"):
        require(tmp_path)


def test_a_key_that_was_edited_to_fit_is_refused(tmp_path: Path) -> None:
    sidecar = publish(tmp_path, KEY.model_copy(update={"gpu_name": "NVIDIA H100"})).path(SIDECAR)
    sidecar.write_text(sidecar.read_text().replace("NVIDIA H100", "NVIDIA L40S"))
    with pytest.raises(EngineDamagedError, match="altered"):
        require(tmp_path)


def test_an_engine_that_the_gate_refused_is_not_served(tmp_path: Path) -> None:
    engine = publish(tmp_path, gate={"passed": False, "reason": "top-1 agreement 0.61 < 0.99"})
    with pytest.raises(GateError, match=r"refused the engine .*top-1 agreement 0\.61 < 0\.99"):
        require(tmp_path)
    edited = engine.path(SIDECAR).read_text().replace('"passed": false', '"passed": true')
    engine.path(SIDECAR).write_text(edited)
    with pytest.raises(EngineDamagedError, match="altered"):
        require(tmp_path)


def test_what_is_not_an_engine_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "engines" / ".building-1").mkdir(parents=True)
    (tmp_path / "engines" / "timing").mkdir()
    assert EngineCache(tmp_path).all() == []
    assert EngineCache(tmp_path).damaged() == []

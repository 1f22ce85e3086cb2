"""The profile cpu-int8 served for real, and every engine that the start refuses."""

import os
from pathlib import Path

import grpc
import numpy as np
import pytest
from flotilla.embedding.v1 import embedding_pb2 as pb
from flotilla.embedding.v1 import embedding_pb2_grpc

from services.common.engines import EngineCache, EngineKey
from services.common.manifest import load_manifest
from services.common.model_store import ModelStore
from services.common.triton import service_pb2, service_pb2_grpc
from tests.integration.conftest import MODEL
from tests.integration.service_process import ServiceProcess
from tools.engines.precision import convert
from tools.engines.publish import EnginePublisher
from tools.engines.subjects import subject

TRITON_MODEL, PROFILE, GRAPH = "all_minilm_l6_v2", "cpu-int8", "model.onnx"
TEXTS = ("A fleet of small ships", "Ships in a small fleet", "The cook salts the soup")


@pytest.fixture(scope="session")
def quantised(model_store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder with weights in eight bits, as `flotilla engines build` makes it."""
    path = tmp_path_factory.mktemp("quantised") / GRAPH
    convert(subject(TRITON_MODEL, load_manifest(), model_store), PROFILE, path, no_environment, lambda _line: None)
    return path


def no_environment(extra: str) -> Path:
    raise AssertionError(f"the recipe asked for the environment {extra}")


@pytest.fixture
def store(model_store: ModelStore, tmp_path: Path) -> Path:
    """A store with the model and no engines."""
    target = tmp_path / "store"
    for folder in ("blobs/sha256", "models"):
        (target / folder).mkdir(parents=True)
    stored = model_store.model(MODEL)
    assert stored is not None
    for artifact in stored.artifacts.values():
        os.link(model_store.blob_path(artifact.digest), target / "blobs/sha256" / artifact.digest)
    os.link(model_store.index_path(MODEL), target / "models" / f"{MODEL}.json")
    return target


def publish(store: Path, quantised: Path, passed: bool = True, **key: str) -> Path:
    """Publish the quantised graph as an engine, by default one that fits; return where it lies."""
    source = ModelStore(store).artifact(MODEL, GRAPH).name
    fields = {"triton_model": TRITON_MODEL, "profile": PROFILE, "source_sha256": source, **key}
    publisher = EnginePublisher(EngineCache(store))
    gate = {"passed": passed, "reason": "it loses too much"}
    engine = publisher.publish(EngineKey(**fields), MODEL, {GRAPH: quantised}, gate=gate, facts={}, build_seconds=1.0)
    return engine.path(GRAPH)


def environment(store: Path, **settings: str) -> dict[str, str]:
    return {
        "FLOTILLA_MODEL_STORE": str(store),
        "FLOTILLA_EMBEDDING_PROFILE": PROFILE,
        **{f"FLOTILLA_EMBEDDING_{name}": value for name, value in settings.items()},
    }


async def vectors(channel: grpc.aio.Channel) -> np.ndarray:
    answer = await embedding_pb2_grpc.EmbeddingServiceStub(channel).Embed(
        pb.EmbedRequest(inputs=[pb.Input(text=text) for text in TEXTS])
    )
    return np.array([np.frombuffer(one.data, "<f4") for one in answer.embeddings])


async def test_the_encoder_in_eight_bits_is_served_and_says_so(store, quantised, channel, tmp_path):
    original = await vectors(channel)
    publish(store, quantised)
    async with ServiceProcess(tmp_path / "state", environment(store)) as service, service.channel() as own:
        found = await vectors(own)
        cosine = (found * original).sum(axis=1)
        assert (cosine > 0.95).all()
        assert (cosine < 0.99999).any(), "this is the graph in eight bits"
        assert found[0] @ found[1] > found[0] @ found[2]
        models = await embedding_pb2_grpc.EmbeddingServiceStub(own).ListModels(pb.ListModelsRequest())
        assert [(model.id, model.profile) for model in models.models] == [(MODEL, PROFILE)]
        stub = service_pb2_grpc.GRPCInferenceServiceStub(own)
        config = (await stub.ModelConfig(service_pb2.ModelConfigRequest(name=TRITON_MODEL))).config
        assert config.parameters["profile"].string_value == PROFILE
        assert f"'{MODEL}' runs by profile {PROFILE}" in service.messages("INFO")


async def test_without_a_name_it_runs_by_the_default_and_says_why(service):
    (line,) = [text for text in service.messages("INFO") + service.messages("WARNING") if "runs by profile" in text]
    assert line.startswith(f"'{MODEL}' runs by profile cpu-fp32; better ones were passed over: tensorrt-fp16 (")


async def refusal(store: Path, state: Path, **settings: str) -> str:
    service = ServiceProcess(state, environment(store, **settings))
    assert await service.exit_code() == 1
    assert "Traceback" not in service.log
    (message,) = service.messages("ERROR")
    return message


async def test_a_missing_engine_says_what_to_run(store, tmp_path):
    message = await refusal(store, tmp_path)
    assert f"tools/flotilla engines build {TRITON_MODEL} --profile {PROFILE}" in message


async def test_a_tampered_engine_is_refused(store, quantised, tmp_path):
    path = publish(store, quantised)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert f"{path} was altered" in await refusal(store, tmp_path)


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ({"platform": "linux-riscv64"}, "platform of the engine is 'linux-riscv64'"),
        ({"source_sha256": "0" * 64}, "source_sha256"),
    ],
)
async def test_a_foreign_or_stale_engine_is_refused_by_the_field(store, quantised, tmp_path, key, field):
    publish(store, quantised, **key)
    assert field in await refusal(store, tmp_path)


async def test_an_engine_that_the_gate_refused_is_refused(store, quantised, tmp_path):
    publish(store, quantised, passed=False)
    message = await refusal(store, tmp_path)
    assert "accuracy gate" in message
    assert "it loses too much" in message


async def test_a_profile_that_does_not_fit_is_refused_with_the_reason(store, tmp_path):
    message = await refusal(store, tmp_path, PROFILE="tensorrt-fp16", PROFILES="")
    assert "no backend 'tensorrt'" in message


async def test_settings_for_models_that_are_not_there_are_refused(store, tmp_path):
    message = await refusal(store, tmp_path, PROFILES="all-minilm=cpu-int8")
    assert "there is no model 'all-minilm' here; there are: all-minilm-l6-v2" in message


async def test_settings_that_are_no_pairs_are_one_line(store, tmp_path):
    service = ServiceProcess(tmp_path, environment(store, PROFILES="cpu-int8"))
    assert await service.exit_code() == 2
    (line,) = service.log.splitlines()
    assert line.startswith("FLOTILLA_EMBEDDING_PROFILES='cpu-int8': ")
    assert "model=profile" in line

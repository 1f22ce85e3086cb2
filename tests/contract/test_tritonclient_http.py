"""Unmodified tritonclient.http, sync and asyncio, against the gateway in front of a real embedding service."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as sync_http
import tritonclient.http.aio as http
from tritonclient.utils import InferenceServerException

from tests.contract.embedding_fleet import ENCODER, IDS, MASK, TEXT, embedding_fleet
from tests.integration.gateway.gateway import Gateway

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:gevent")


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with embedding_fleet(tmp_path_factory.mktemp("fleet")) as gateway:
        yield gateway


@pytest.fixture
async def client(fleet: Gateway) -> AsyncIterator[http.InferenceServerClient]:
    async with http.InferenceServerClient(f"127.0.0.1:{fleet.http_port}") as triton:
        yield triton


def tensors(binary: bool = True) -> list[Any]:
    inputs = []
    for name, value in (("input_ids", IDS), ("attention_mask", MASK)):
        tensor = http.InferInput(name, list(value.shape), "INT64")
        tensor.set_data_from_numpy(value, binary_data=binary)
        inputs.append(tensor)
    return inputs


def texts(*values: str, binary: bool = True) -> list[Any]:
    array = np.array([[value] for value in values], object)
    tensor = http.InferInput("text", list(array.shape), "BYTES")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return [tensor]


def wanted(**options: Any) -> list[Any]:
    return [http.InferRequestedOutput("sentence_embedding", **options)]


async def vectors(client: Any, **options: Any) -> np.ndarray:
    result = await client.infer(ENCODER, tensors(), outputs=wanted(), **options)
    return result.as_numpy("sentence_embedding")


async def test_health_and_metadata(client: http.InferenceServerClient) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready(ENCODER)
    assert await client.is_model_ready(ENCODER, "1")
    assert not await client.is_model_ready("nope")
    assert not await client.is_model_ready(ENCODER, "7")
    assert (await client.get_server_metadata())["name"] == "flotilla"
    metadata = await client.get_model_metadata(ENCODER)
    assert metadata["outputs"] == [{"name": "sentence_embedding", "datatype": "FP32", "shape": [-1, 384]}]
    assert await client.get_model_metadata(ENCODER, "1") == metadata


async def test_config_and_index(client: http.InferenceServerClient) -> None:
    config = await client.get_model_config(ENCODER)
    assert (config["max_batch_size"], config["input"][0]["data_type"]) == (32, "TYPE_INT64")
    assert config["input"][0]["dims"] == [-1]
    index = await client.get_model_repository_index()
    assert {ENCODER, TEXT} <= {row["name"] for row in index}
    assert {row["state"] for row in index} == {"READY"}


async def test_statistics_count(client: http.InferenceServerClient) -> None:
    async def count() -> int:
        rows = (await client.get_inference_statistics(ENCODER, "1"))["model_stats"]
        return rows[0]["inference_stats"]["success"]["count"]

    before = await count()
    await vectors(client)
    assert await count() == before + 1
    everything = (await client.get_inference_statistics())["model_stats"]
    assert {ENCODER, TEXT} <= {row["name"] for row in everything}


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
async def test_binary_and_json_tensors_are_the_same(
    client: http.InferenceServerClient, binary_in: bool, binary_out: bool
) -> None:
    result = await client.infer(ENCODER, tensors(binary_in), outputs=wanted(binary_data=binary_out), request_id="7")
    array = result.as_numpy("sentence_embedding")
    assert np.array_equal(array, await vectors(client))
    assert np.allclose(np.linalg.norm(array, axis=1), 1, atol=1e-5)
    assert result.get_response()["id"] == "7"


async def test_without_outputs_all_come_in_binary(client: http.InferenceServerClient) -> None:
    result = await client.infer(ENCODER, tensors())
    assert result.as_numpy("sentence_embedding").shape == (2, 384)
    assert result.get_output("sentence_embedding")["parameters"]["binary_data_size"] == 2 * 384 * 4


async def test_one_input_in_json_and_one_in_binary(client: http.InferenceServerClient) -> None:
    mixed = [tensors(False)[0], tensors(True)[1]]
    result = await client.infer(ENCODER, mixed)
    assert np.array_equal(result.as_numpy("sentence_embedding"), await vectors(client))


@pytest.mark.parametrize("binary", [True, False])
async def test_the_ensemble_takes_text(client: http.InferenceServerClient, binary: bool) -> None:
    result = await client.infer(TEXT, texts("hello", "wörld", binary=binary))
    assert result.as_numpy("sentence_embedding").shape == (2, 384)
    alone = await client.infer(TEXT, texts("hello"))
    both = result.as_numpy("sentence_embedding")
    assert np.allclose(alone.as_numpy("sentence_embedding")[0], both[0], atol=1e-5)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_packed_both_ways(client: http.InferenceServerClient, coding: str) -> None:
    packed = await vectors(client, request_compression_algorithm=coding, response_compression_algorithm=coding)
    assert np.array_equal(packed, await vectors(client))


async def test_classification(client: http.InferenceServerClient) -> None:
    result = await client.infer(ENCODER, tensors(), outputs=wanted(class_count=3))
    best = result.as_numpy("sentence_embedding")
    assert best.shape == (2, 3)
    expected = await vectors(client)
    assert int(best[0][0].decode().split(":")[1]) == int(expected[0].argmax())


async def test_shared_memory_is_refused_where_a_tensor_asks_for_it(client: http.InferenceServerClient) -> None:
    inputs = tensors()
    inputs[0].set_shared_memory("region", IDS.nbytes)
    with pytest.raises(InferenceServerException, match="shared memory is not offered") as caught:
        await client.infer(ENCODER, inputs)
    assert caught.value.status() == "400"


_REFUSED: dict[str, Callable[[Any], Any]] = {
    "load": lambda client: client.load_model(ENCODER),
    "unload": lambda client: client.unload_model(ENCODER),
    "trace": lambda client: client.get_trace_settings(ENCODER),
    "trace_update": lambda client: client.update_trace_settings(settings={"trace_level": "OFF"}),
    "log": lambda client: client.get_log_settings(),
    "log_update": lambda client: client.update_log_settings({"log_info": False}),
    "system": lambda client: client.get_system_shared_memory_status(),
    "system_register": lambda client: client.register_system_shared_memory("r", "/r", 8),
    "system_unregister": lambda client: client.unregister_system_shared_memory(),
    "cuda": lambda client: client.get_cuda_shared_memory_status("r"),
    "cuda_unregister": lambda client: client.unregister_cuda_shared_memory("r"),
}


@pytest.mark.parametrize("call", _REFUSED.values(), ids=_REFUSED)
async def test_what_is_not_served_says_so(client: http.InferenceServerClient, call: Callable[[Any], Any]) -> None:
    with pytest.raises(InferenceServerException, match="not served here: ") as caught:
        await call(client)
    assert caught.value.status() == "501"


async def test_an_unknown_model_lists_what_is_loaded(client: http.InferenceServerClient) -> None:
    for call in (client.get_model_metadata, client.get_model_config, client.get_inference_statistics):
        with pytest.raises(InferenceServerException, match=f"'nope' is not loaded; loaded: {ENCODER}") as caught:
            await call("nope")
        assert caught.value.status() == "404"
    with pytest.raises(InferenceServerException, match="loaded: "):
        await client.infer("nope", tensors())


async def test_the_sync_client(fleet: Gateway) -> None:
    def use() -> np.ndarray:
        with sync_http.InferenceServerClient(f"127.0.0.1:{fleet.http_port}", concurrency=2) as client:
            assert client.is_server_ready()
            inputs = []
            for name, value in (("input_ids", IDS), ("attention_mask", MASK)):
                inputs.append(sync_http.InferInput(name, list(value.shape), "INT64").set_data_from_numpy(value))
            pending = client.async_infer(ENCODER, inputs)
            packed = client.infer(ENCODER, inputs, response_compression_algorithm="gzip")
            assert np.array_equal(
                pending.get_result().as_numpy("sentence_embedding"), packed.as_numpy("sentence_embedding")
            )
            return packed.as_numpy("sentence_embedding")

    assert (await asyncio.to_thread(use)).shape == (2, 384)


def body(**changes: Any) -> dict[str, Any]:
    ids = {"name": "input_ids", "shape": [1, 3], "datatype": "INT64", "data": [[101, 7592, 102]], **changes}
    mask = {"name": "attention_mask", "shape": [1, 3], "datatype": "INT64", "data": [1, 1, 1]}
    return {"inputs": [ids, mask]}


_BAD: dict[str, Any] = {
    "negative dimension": body(shape=[1, -3]),
    "huge shape": body(shape=[2**62, 2**62]),
    "shape over int64": body(shape=[2**64, 3]),
    "too few elements": body(data=[1, 2]),
    "ragged": body(data=[[1, 2], [3]]),
    "wrong dtype": body(datatype="FP32"),
    "unknown dtype": body(datatype="INT63"),
    "dtype JSON cannot carry": body(datatype="BF16"),
    "floats for integers": body(data=[1.5, 2, 3]),
    "text for integers": body(data=["a", "b", "c"]),
    "null": body(data=[None, 1, 2]),
    "truth for integers": body(data=[True, 1, 2]),
    "integers over int64": body(data=[2**63, 1, 2]),
    "an object": body(data={"a": 1}),
    "no data": body(data=None),
    "data and binary size": body(parameters={"binary_data_size": 24}),
    "unknown input": body(name="nope"),
    "unknown field": {**body(), "nope": 1},
    "no inputs": {"inputs": []},
    "unknown output": {**body(), "outputs": [{"name": "nope"}]},
    "binary flag": {**body(), "outputs": [{"name": "sentence_embedding", "parameters": {"binary_data": 1}}]},
    "outputs no list": {**body(), "outputs": 3},
    "a list": [body()],
    "token over the vocabulary": body(data=[101, 10**9, 102]),
}


@pytest.mark.parametrize("bad", _BAD.values(), ids=_BAD)
async def test_a_bad_body_is_a_400_and_the_next_call_works(fleet: Gateway, bad: Any) -> None:
    url = f"/v2/models/{ENCODER}/infer"
    answer = await fleet.http.post(url, json=bad)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error"}
    assert (await fleet.http.post(url, json=body())).status_code == 200


def binary_body(size: int, tail: bytes) -> tuple[bytes, dict[str, str]]:
    changed = body(parameters={"binary_data_size": size})
    del changed["inputs"][0]["data"]
    header = httpx.Request("POST", "http://x", json=changed).read()
    return header + tail, {"inference-header-content-length": str(len(header))}


@pytest.mark.parametrize(("size", "tail"), [(24, b""), (24, bytes(23)), (16, bytes(24)), (8, bytes(8)), (-8, b"")])
async def test_wrong_lengths_of_binary_tensors(fleet: Gateway, size: int, tail: bytes) -> None:
    content, headers = binary_body(size, tail)
    answer = await fleet.http.post(f"/v2/models/{ENCODER}/infer", content=content, headers=headers)
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("length", ["-1", "0", "x", "999999", "1", "٣", "9" * 30])
async def test_wrong_lengths_of_the_json(fleet: Gateway, length: str) -> None:
    content, headers = binary_body(24, bytes(24))
    headers = {"inference-header-content-length": length.encode()}
    answer = await fleet.http.post(f"/v2/models/{ENCODER}/infer", content=content, headers=headers)
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("content", [b"", b"\xff\xff", b"{", b"[" * 100_000, b"null", b'{"inputs": NaN}'])
async def test_garbage_is_a_400(fleet: Gateway, content: bytes) -> None:
    for route in ("infer", "generate", "generate_stream"):
        answer = await fleet.http.post(f"/v2/models/{TEXT}/{route}", content=content)
        assert answer.status_code == 400, answer.text
        assert set(answer.json()) == {"error"}


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_bodies_that_are_not_packed_as_they_say(fleet: Gateway, coding: str) -> None:
    answer = await fleet.http.post(
        f"/v2/models/{ENCODER}/infer", content=b"garbage", headers={"content-encoding": coding}
    )
    assert answer.status_code == 400, answer.text


async def test_malformed_texts_are_refused(fleet: Gateway) -> None:
    header = b'{"inputs":[{"name":"text","shape":[1,1],"datatype":"BYTES","parameters":{"binary_data_size":6}}]}'
    headers = {"inference-header-content-length": str(len(header))}
    url = f"/v2/models/{TEXT}/infer"
    answer = await fleet.http.post(url, content=header + b"\xff\xff\xff\xffab", headers=headers)
    assert answer.status_code == 400, answer.text
    assert (await fleet.http.post(url, content=header + b"\x02\x00\x00\x00ab", headers=headers)).status_code == 200


async def test_generate_takes_and_gives_plain_values(fleet: Gateway) -> None:
    url = f"/v2/models/{TEXT}/versions/1/generate"
    answer = await fleet.http.post(url, json={"id": "7", "text": "hello"})
    assert answer.status_code == 200, answer.text
    row = answer.json()
    assert (row["id"], row["model_name"], len(row["sentence_embedding"])) == ("7", TEXT, 384)
    other = await fleet.http.post(
        f"/v2/models/{ENCODER}/generate", json={"input_ids": [101, 7592, 102], "attention_mask": [1, 1, 1]}
    )
    assert np.allclose(other.json()["sentence_embedding"], row["sentence_embedding"], atol=1e-5)


@pytest.mark.parametrize("bad", [{}, {"text": 1}, {"text": [[["a"]]]}, {"text": "a", "other": {}}])
async def test_generate_refuses(fleet: Gateway, bad: dict[str, Any]) -> None:
    answer = await fleet.http.post(f"/v2/models/{TEXT}/generate", json=bad)
    assert answer.status_code == 400, answer.text


async def test_generate_stream_sends_an_event(fleet: Gateway) -> None:
    answer = await fleet.http.post(f"/v2/models/{TEXT}/generate_stream", json={"text": "hello"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.startswith("data: {")
    assert answer.text.count("data: ") == 1


async def test_unknown_routes_and_methods_answer_in_kserve_shape(fleet: Gateway) -> None:
    missing = await fleet.http.get("/v2/nope")
    assert (missing.status_code, set(missing.json())) == (404, {"error"})
    assert isinstance(missing.json()["error"], str)
    wrong = await fleet.http.get(f"/v2/models/{ENCODER}/infer")
    assert (wrong.status_code, isinstance(wrong.json()["error"], str)) == (405, True)

"""`python -m services.gateway` from the outside: start, SIGTERM under load, a port in use."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from services.common.triton import service_pb2, service_pb2_grpc
from tests.integration.gateway.fake_embedding import MODEL, TRITON_MODEL, FakeEmbedding
from tests.integration.gateway.key_files import Keys, bearer
from tests.waiting import until

READY = grpc.ChannelConnectivity.READY
ROOT = Path(__file__).resolve().parents[3]


@asynccontextmanager
async def process(**settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    ports = {f"FLOTILLA_GATEWAY_{name}_PORT": "0" for name in ("HTTP", "GRPC", "METRICS")}
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", **ports, **settings}
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.gateway", cwd=ROOT, env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def records(started: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
    assert started.stderr is not None
    async for line in started.stderr:
        yield json.loads(line)


async def ports(log: AsyncIterator[dict[str, Any]]) -> dict[str, int]:
    """Read the log until the process is ready; return the ports of the API. That of health is opened before."""
    found: dict[str, int] = {}
    async for record in log:
        if opened := re.fullmatch(r"(HTTP|gRPC) listens on .*:(\d+)", record["message"]):
            found[opened[1]] = int(opened[2])
        if record["message"].startswith("ready"):
            return found
    raise AssertionError("it never became ready")


async def http_port(log: AsyncIterator[dict[str, Any]]) -> int:
    """Read the log until the process is ready; return the port of the HTTP API."""
    return (await ports(log))["HTTP"]


async def test_sigterm_finishes_what_is_in_flight_and_exits_0() -> None:
    async with (
        FakeEmbedding().running() as fake,
        process(FLOTILLA_GATEWAY_EMBEDDING_ADDRESSES=fake.address, FLOTILLA_DRAIN_PROPAGATION_SECONDS="0") as started,
    ):
        fake.behave = fake.hang
        log = records(started)
        url = f"http://127.0.0.1:{await http_port(log)}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
            call = asyncio.create_task(client.post("/v1/embeddings", json={"model": MODEL, "input": "a"}))
            await fake.entered.wait()
            started.send_signal(signal.SIGTERM)
            async for record in log:
                if "finishing" in record["message"]:
                    break
            fake.release.set()
            assert (await call).status_code == 200
        messages = [record["message"] async for record in log]
        assert await started.wait() == 0
        assert messages[-1] == "stopped"


async def test_sigterm_sends_goaway_at_once_and_finishes_streams() -> None:
    async with (
        FakeEmbedding().running() as fake,
        process(FLOTILLA_GATEWAY_EMBEDDING_ADDRESSES=fake.address, FLOTILLA_DRAIN_PROPAGATION_SECONDS="0") as started,
    ):
        log = records(started)
        port = (await ports(log))["gRPC"]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer()
            for number in ("1", "2", "3"):
                await call.write(service_pb2.ModelInferRequest(model_name=TRITON_MODEL, id=number))
                assert (await call.read()).infer_response.id == number
                if number == "1":
                    started.send_signal(signal.SIGTERM)
                    await until(lambda: channel.get_state() is not READY, "the caller to hear of it")
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert await call.code() is grpc.StatusCode.OK
        assert [record["message"] async for record in log][-1] == "stopped"
        assert await started.wait() == 0


async def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with process(FLOTILLA_GATEWAY_HTTP_PORT=str(port)) as started:
            errors = [record async for record in records(started) if record["level"] == "ERROR"]
            assert await started.wait() == 1
    assert len(errors) == 1
    assert str(port) in errors[0]["message"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"FLOTILLA_GATEWAY_HOST": "0.0.0.0"}, "FLOTILLA_GATEWAY_KEYS_FILE"),
        ({"FLOTILLA_GATEWAY_KEYS_FILE": "/nowhere/keys.json"}, "cannot read the key file /nowhere/keys.json"),
        ({"FLOTILLA_GATEWAY_TLS_KEY_FILE": "/nowhere/tls.key"}, "FLOTILLA_GATEWAY_TLS_CERTIFICATE_FILE"),
    ],
)
async def test_what_would_not_be_safe_stops_the_start_with_one_line(settings: dict[str, str], words: str) -> None:
    async with process(**settings) as started:
        errors = [record async for record in records(started) if record["level"] == "ERROR"]
        assert await started.wait() == 1
    assert len(errors) == 1
    assert words in errors[0]["message"]


async def test_an_open_address_with_keys_or_the_opt_out_starts(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.json")
    secret = keys.add()
    for settings, status in (
        ({"FLOTILLA_GATEWAY_KEYS_FILE": str(keys.path)}, 401),
        ({"FLOTILLA_GATEWAY_ALLOW_KEYLESS": "true"}, 200),
    ):
        async with process(FLOTILLA_GATEWAY_HOST="0.0.0.0", **settings) as started:
            url = f"http://127.0.0.1:{await http_port(records(started))}/v1/version"
            async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
                assert (await client.get(url)).status_code == status
                assert (await client.get(url, headers=bearer(secret))).status_code == 200

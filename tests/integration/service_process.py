"""A real service process with its own Triton, started for tests."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import grpc
import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from services.common.settings import CommonSettings
from services.common.triton import channel_options
from tests.processes import descendants, stubs_of, triton_of
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
CRASH = re.compile(rf"Triton has died \(exit code -({signal.SIGSEGV:d}|{signal.SIGABRT:d})\)")


class ServiceProcess:
    """`python -m services.<name>` on free ports, with a state folder of its own. Its log goes to a file there."""

    def __init__(
        self,
        state: Path,
        environment: dict[str, str] | None = None,
        name: str = "embedding",
        module: str = "",
    ) -> None:
        prefix = f"FLOTILLA_{name}_".upper()
        self._log_path = state / "service.log"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}",
            "FLOTILLA_STATE_DIR": str(state),
            "FLOTILLA_MODEL_STORE": str(CommonSettings().model_store),
            "FLOTILLA_CPU_THREADS": "2",
            "FLOTILLA_DRAIN_PROPAGATION_SECONDS": "0",
            f"{prefix}GRPC_PORT": "0",
            f"{prefix}HTTP_PORT": "0",
            f"{prefix}MAX_MESSAGE_BYTES": str(MAX_MESSAGE_BYTES),
            **(environment or {}),
        }
        state.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module or f"services.{name}"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    async def __aenter__(self) -> Self:
        try:
            await self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.terminate()
            await self.exit_code()
        assert not (crash := CRASH.search(self.log)), f"{crash[0]}, of itself: no test sends it that signal"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log_path.read_text()

    def records(self) -> list[dict[str, Any]]:
        """The log, one dictionary a line."""
        return [json.loads(line) for line in self.log.splitlines()]

    def messages(self, level: str) -> list[str]:
        return [record["message"] for record in self.records() if record["level"] == level]

    @property
    def address(self) -> str:
        """host:port of the gRPC interface."""
        return self._listens_on("gRPC") or ""

    def _listens_on(self, what: str) -> str | None:
        found = re.search(rf"{what} listens on ([\d.]+:\d+)", self.log)
        return found[1] if found else None

    async def get(self, path: str) -> httpx.Response:
        address = await until(lambda: self._listens_on("HTTP"), "the HTTP port")
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return await client.get(f"http://{address}{path}")

    async def ready(self) -> bool:
        assert self._process.poll() is None, f"the service has exited with {self._process.returncode}:\n{self.log}"
        return bool(self._listens_on("HTTP")) and (await self.get("/v1/health/ready")).status_code == 200

    async def wait_ready(self) -> None:
        await until(self.ready, "readiness", limit=120)

    async def wait_restarted(self) -> None:
        """Return once Triton has been started anew and the service is ready again."""

        async def restarted() -> bool:
            return await self.metric("flotilla_triton_restarts") > 0

        await until(restarted, "Triton to be restarted")
        await self.wait_ready()

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name with these labels."""
        text = (await self.get("/metrics")).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def channel(self, **options: int) -> grpc.aio.Channel:
        more = [(f"grpc.{key}", value) for key, value in options.items()]
        return grpc.aio.insecure_channel(self.address, options=[*channel_options(2 * MAX_MESSAGE_BYTES), *more])

    def descendants(self) -> list[psutil.Process]:
        return descendants(self.pid)

    def triton(self) -> psutil.Process:
        return triton_of(self.pid)

    def stubs(self) -> list[psutil.Process]:
        return stubs_of(self.pid)

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    async def exit_code(self) -> int:
        return await asyncio.to_thread(self._process.wait, 120)

"""A gateway as a process of its own that is stopped and comes back on the same ports."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from services.common.ports import free_ports
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]


class GatewayProcess:
    """One gateway, with its log in a file."""

    def __init__(self, log: Path, **settings: str) -> None:
        self.http_port, self.grpc_port, metrics_port = free_ports(3)
        ports = {"HTTP": self.http_port, "GRPC": self.grpc_port, "METRICS": metrics_port}
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}",
            **{f"FLOTILLA_GATEWAY_{name}_PORT": str(port) for name, port in ports.items()},
            **settings,
        }
        self.log = log
        self._begun = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and return when it is ready."""
        self._begun = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.gateway", cwd=ROOT, env=self._environment, stderr=log
            )
        await self.until_said("ready")

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    async def until_said(self, words: str) -> None:
        """Wait until a line of its log since the start begins so."""
        await until(lambda: any(line.startswith(words) for line in self.messages()), f"'{words}' in {self.log}")

    async def ended(self) -> int:
        """Return the exit code."""
        return await self._process.wait()

    async def kill(self) -> None:
        """End it if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def messages(self) -> list[str]:
        """Return what it has logged since its start."""
        with self.log.open("rb") as log:
            log.seek(self._begun)
            lines = log.read().split(b"\n")[:-1]
        return [json.loads(line)["message"] for line in lines]

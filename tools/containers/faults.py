"""What must hold while things go wrong: a killed service, a stop under load, no network."""

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from services.common.ports import GATEWAY
from tools.cli.console import Problem, console
from tools.containers.command import output
from tools.containers.compose import Compose
from tools.containers.load import NO_ANSWER, Load

WARM_SECONDS = 3.0
DOWN_SECONDS = 5.0
_LOGGED = re.compile(r'"message": "POST (\S+) (\d+) ')


async def kill_under_load(compose: Compose, url: str, modalities: Sequence[str], victim: str) -> None:
    """Kill the container of one service while all are asked: typed errors for it alone, until it is started again."""
    (name,) = (one["Name"] for one in compose.containers() if one["Service"] == victim)
    async with Load(url, modalities) as load:
        await asyncio.sleep(WARM_SECONDS)
        await asyncio.to_thread(output, "docker", "kill", name)
        killed = time.monotonic()
        await asyncio.sleep(DOWN_SECONDS)
        # Not by compose, which wants the containers before it too, and a part of the fleet has no model preparation.
        await asyncio.to_thread(output, "docker", "start", name)
        await load.answered(victim, since=killed)
        healed = time.monotonic() - killed
        for modality in modalities:
            await load.answered(modality, since=time.monotonic())
    for modality in modalities:
        console.print(f"    {modality}: {_ends(load, modality)}", markup=False)
    console.print(f"  {victim} killed, started {DOWN_SECONDS:.0f} s later, answers {healed:.0f} s after the kill")
    for one in load.outcomes:
        if one.status != 200 and (one.modality != victim or one.status == NO_ANSWER or one.error_type == "untyped"):
            raise Problem(f"while {victim} was dead, {one.modality} answered {one.status} {one.error_type}")


async def kill_gateway(compose: Compose, url: str, modalities: Sequence[str]) -> None:
    """Kill the gateway's container while all are asked: its services live on and answer as soon as it is back."""
    before = {one["Service"]: one for one in compose.containers()}
    async with Load(url, modalities) as load:
        await asyncio.sleep(WARM_SECONDS)
        await asyncio.to_thread(output, "docker", "kill", before[GATEWAY.name]["Name"])
        killed = time.monotonic()
        await asyncio.sleep(DOWN_SECONDS)
        await asyncio.to_thread(output, "docker", "start", before[GATEWAY.name]["Name"])
        for modality in modalities:
            await load.answered(modality, since=killed)
        healed = time.monotonic() - killed
    for modality in modalities:
        console.print(f"    {modality}: {_ends(load, modality)}", markup=False)
    console.print(f"  gateway killed, started {DOWN_SECONDS:.0f} s later, all answer {healed:.0f} s after the kill")
    for one in load.outcomes:
        if one.status not in (200, NO_ANSWER) and one.error_type == "untyped":
            raise Problem(f"while the gateway came back, {one.modality} answered {one.status} {one.error_type}")
    for found in compose.containers():
        name = found["Service"]
        if name in modalities and (found["ID"], found["Health"]) != (before[name]["ID"], "healthy"):
            raise Problem(f"the death of the gateway has harmed {name}: {found['Status']}")


async def stop_under_load(compose: Compose, url: str, modalities: Sequence[str]) -> None:
    """Stop the fleet while it works: every request that the gateway took has its whole answer.

    What the gateway logged is what it took. Past its stop Docker's proxy still takes connections and closes them.
    """
    before = _logged(compose)
    async with Load(url, modalities) as load:
        await asyncio.sleep(WARM_SECONDS)
        begin = time.monotonic()
        await asyncio.to_thread(compose, "stop")
        took = time.monotonic() - begin
    statuses = [status for _, status in _logged(compose)[len(before) :]]
    answered = sum(one.status == 200 for one in load.outcomes)
    failed = [status for status in statuses if status != "200"]
    refused = sum(one.status == NO_ANSWER for one in load.outcomes)
    console.print(
        f"  stopped in {took:.1f} s: {len(statuses)} requests taken, {answered} whole answers, {refused} not taken",
        markup=False,
    )
    for modality in modalities:
        console.print(f"    {modality}: {_ends(load, modality)}", markup=False)
    if failed or answered != len(statuses):
        raise Problem(f"{len(statuses)} requests were taken, {answered} answered, {len(failed)} failed: {failed[:5]}")
    killed = {one["Service"]: one["ExitCode"] for one in compose.containers() if one["ExitCode"] not in (0, 143)}
    if killed:
        raise Problem(f"not every container ended by itself: {killed}", "see stop_grace_period in compose.yaml")


@contextmanager
def no_way_out() -> Iterator[None]:
    """Drop what containers send to anything but this machine and each other; Problem when they sent something.

    Takes root and iptables.
    """
    device = output("sh", "-c", "ip route show default | sed -n 's/.* dev \\([^ ]*\\).*/\\1/p' | head -1").strip()
    rule = ["DOCKER-USER", "--out-interface", device, "--jump", "DROP"]
    output("iptables", "--insert", *rule)
    try:
        yield
        listing = output("iptables", "--list", "DOCKER-USER", "--numeric", "--verbose", "--exact").splitlines()
        packets = next(line.split()[0] for line in listing if device in line.split())
    finally:
        output("iptables", "--delete", *rule)
    if packets != "0":
        raise Problem(f"containers sent {packets} packets out of this machine")


def _logged(compose: Compose) -> list[tuple[str, str]]:
    """Return route and status of each request in the gateway's log."""
    return [(match[1], match[2]) for match in _LOGGED.finditer(compose("logs", "--no-log-prefix", "gateway"))]


def _ends(load: Load, modality: str) -> str:
    return ", ".join(f"{count} x {end}" for end, count in load.count(modality).most_common())

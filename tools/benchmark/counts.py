"""What a service counts as running or waiting, from its metrics."""

import asyncio

import httpx

from tools.fleet.state import ProcessState

NAMES = ("flotilla_admission_running", "flotilla_admission_waiting", "flotilla_llm_running", "flotilla_llm_waiting")
REST_SECONDS = 10


async def counts_at_rest(service: ProcessState) -> dict[str, float]:
    """Return the counts as soon as all are zero, or what they are after ten seconds."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.http_port}", trust_env=False) as http:
        for _ in range(REST_SECONDS * 4):
            found = _counts((await http.get("/metrics")).text)
            if not any(found.values()):
                break
            await asyncio.sleep(0.25)
    return found


def _counts(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in NAMES:
            found[name] = found.get(name, 0.0) + float(line.rsplit(maxsplit=1)[-1])
    return found

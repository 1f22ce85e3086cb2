"""Bodies that are nearly right, and bytes that are not at all: never a 5xx, and the next request works."""

import copy
import json
import random
from typing import Any

from tests.integration.gateway.fake_embedding import TRITON_MODEL
from tests.integration.gateway.gateway import Gateway

URL = f"/v2/models/{TRITON_MODEL}/infer"
GOOD: dict[str, Any] = {
    "id": "1",
    "parameters": {"priority": 1},
    "inputs": [
        {"name": "a", "shape": [1, 2], "datatype": "INT32", "data": [[1, 2]]},
        {"name": "b", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}},
    ],
    "outputs": [{"name": "c", "parameters": {"binary_data": True, "classification": 2}}],
}
TAIL = b"\x02\x00\x00\x00hi"
ODD: list[Any] = [
    None, True, 0, -1, 2**31, 2**63, 2**64, 1e308, 0.5, "", "a", "\x00", "INT32", "BYTES", "BF16", [], [[]], [1, "a"],
    {}, {"a": 1}, [[1], [2, 3]], [None], "é" * 1000, {"binary_data_size": -1}, {"binary_data_size": 2**40},
    [2**62, 2**62],
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything in a body."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, part in inner for found in places(part, (*path, key)))]


def spoilt(chance: random.Random) -> bytes:
    """A body with one to three of its parts replaced, removed or added, and its binary part cut or grown."""
    body = json.loads(json.dumps(GOOD))
    for _ in range(chance.randint(1, 3)):
        *way, last = chance.choice([path for path in places(body) if path])
        holder = body
        for step in way:
            holder = holder[step]
        if chance.random() < 0.2:
            del holder[last]
        else:
            holder[last] = copy.deepcopy(chance.choice(ODD))
        if isinstance(holder, dict) and chance.random() < 0.1:
            holder[chance.choice(["data", "shape", "nope", "parameters"])] = copy.deepcopy(chance.choice(ODD))
    return json.dumps(body).encode()


async def test_spoilt_bodies(gateway: Gateway) -> None:
    chance = random.Random(6)  # the same bodies every time
    seen: set[int] = set()
    for _ in range(600):
        header = spoilt(chance)
        tail = chance.choice([TAIL, TAIL, TAIL, TAIL[:-1], TAIL + b"x", b""])
        length = str(len(header) + chance.choice([0, 0, 0, 0, -1, 1, 10**6]))
        answer = await gateway.http.post(
            URL, content=header + tail, headers={"inference-header-content-length": length}
        )
        assert answer.status_code < 500, (header, answer.text)
        assert answer.status_code == 200 or set(answer.json()) == {"error"}, header
        seen.add(answer.status_code)
    assert {200, 400} <= seen
    header = json.dumps(GOOD).encode()
    length = {"inference-header-content-length": str(len(header))}
    assert (await gateway.http.post(URL, content=header + TAIL, headers=length)).status_code == 200


async def test_noise(gateway: Gateway) -> None:
    chance = random.Random(7)
    for address in (URL, "/v2/repository/index"):
        for coding in ("identity", "gzip", "deflate"):
            for size in (0, 1, 100, 100_000):
                answer = await gateway.http.post(
                    address, content=chance.randbytes(size), headers={"content-encoding": coding}
                )
                assert answer.status_code in {200, 400}, answer.text

"""Engines to publish, without a builder."""

from pathlib import Path
from typing import Any

from services.common.engines import Engine, EngineCache, EngineKey
from tools.engines.publish import EnginePublisher

KEY = EngineKey(triton_model="toy", profile="tensorrt-fp16", builder="tensorrt 11.4.0.1", platform="linux-x86_64")


def key(number: int = 0) -> EngineKey:
    """Return one of many keys."""
    return KEY.model_copy(update={"recipe": str(number)})


def publish(store: Path, number: int = 0, content: bytes = b"plan", gate: dict[str, Any] | None = None) -> Engine:
    """Publish an engine of one file."""
    publisher = EnginePublisher(EngineCache(store))
    file = store / f"made-{number}"
    store.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    with publisher.lock("a test"):
        return publisher.publish(
            key(number), "toy", {"model.plan": file}, gate=gate or {"passed": True}, facts={}, build_seconds=1.0
        )

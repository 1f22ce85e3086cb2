"""A real embedding service with its Triton behind a real gateway, for the unmodified Triton clients."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from services.common.model_store import ModelStore
from services.common.settings import CommonSettings
from tests.integration.gateway.gateway import Gateway, running
from tests.integration.service_process import ServiceProcess

ENCODER, TEXT = "all_minilm_l6_v2", "all_minilm_l6_v2_text"
IDS = np.array([[101, 7592, 102], [101, 2088, 102]], np.int64)
MASK = np.ones_like(IDS)


@asynccontextmanager
async def embedding_fleet(state: Path) -> AsyncIterator[Gateway]:
    """Start both and stop them after the block."""
    ModelStore(CommonSettings().model_store).require("all-minilm-l6-v2", ["model.onnx"])
    async with ServiceProcess(state) as service, running(service.address) as gateway:
        yield gateway

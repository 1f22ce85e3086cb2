"""`python -m services.vision`: settings, models, Triton, servicer, run."""

import math
import sys
from collections.abc import Sequence
from typing import Any

import grpc
from flotilla.vision.v1 import vision_pb2_grpc

from services.common.manifest import ManifestError, Model, load_manifest
from services.common.model_store import ModelStore, ModelStoreError
from services.common.runtime_repository import RuntimeModel
from services.common.server import StartupError, run
from services.common.service import Blueprint, Parts, serve
from services.common.settings import load
from services.vision import decoding
from services.vision.assembly import Assembly
from services.vision.repository import runtime_models
from services.vision.servicer import SERVICE_NAME, VisionServicer
from services.vision.settings import VisionSettings


def main() -> int:
    """Run the vision service until SIGTERM; return its exit code."""
    settings = load(VisionSettings)
    decoding.configure()
    service = _Service(settings)
    blueprint = Blueprint("vision", SERVICE_NAME, service.models, service.register, service.cost)
    return run(lambda: serve(settings, blueprint))


class _Service:
    """Builds the service's parts from the models of the manifest."""

    def __init__(self, settings: VisionSettings) -> None:
        self._settings = settings
        self._store = ModelStore(settings.common.model_store)
        self._models: Sequence[Model] = ()
        self._weights: dict[str, float] = {}

    def models(self) -> list[RuntimeModel]:
        """Return the Triton models of every vision model."""
        try:
            self._models = load_manifest(self._settings.common.model_manifest).for_service("vision")
            return [
                part
                for model in self._models
                for part in runtime_models(model, self._store.require(model.id, model.required_artifacts))
            ]
        except (ManifestError, ModelStoreError) as error:
            raise StartupError(str(error)) from None

    async def register(self, parts: Parts, server: grpc.aio.Server) -> None:
        """Prove every graph on known input, then add the servicer."""
        assembly = Assembly(self._settings, parts, self._store)
        tasks = {model.id: await assembly.task(model) for model in self._models}
        self._weights = assembly.weights
        servicer = VisionServicer(tasks, await assembly.pipeline(), parts.admission, self._settings)
        vision_pb2_grpc.add_VisionServiceServicer_to_server(servicer, server)

    def cost(self, request: Any) -> float:
        """Return what a raw KServe request costs in slot-seconds: pixels of its input times the weight of the graph."""
        pixels = math.prod(request.inputs[0].shape) / 3
        return float(pixels * self._weights[request.model_name])


if __name__ == "__main__":
    sys.exit(main())

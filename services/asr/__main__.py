"""`python -m services.asr`: settings, models, Triton, servicers, run."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import grpc
from flotilla.asr.v1 import asr_pb2_grpc
from riva.client.proto import riva_asr_pb2_grpc

from services.asr.assembly import Assembly
from services.asr.files import Engine, Files
from services.asr.live.streams import LiveStreams
from services.asr.model import MEL
from services.asr.repository import runtime_model
from services.asr.riva import servicer as riva_servicer
from services.asr.riva.servicer import RivaServicer
from services.asr.servicer import SERVICE_NAME, AsrServicer
from services.asr.settings import AsrSettings
from services.asr.vad import Vad
from services.common.manifest import ManifestError, Model, load_manifest
from services.common.model_store import ModelStore, ModelStoreError
from services.common.runtime_repository import RuntimeModel
from services.common.server import StartupError, run
from services.common.service import Blueprint, Parts, serve
from services.common.settings import load


def main() -> int:
    """Run the ASR service until SIGTERM; return its exit code."""
    settings = load(AsrSettings)
    service = _Service(settings)
    blueprint = Blueprint("asr", SERVICE_NAME, service.models, service.register, _frames, (riva_servicer.SERVICE_NAME,))
    return run(lambda: serve(settings, blueprint))


class _Service:
    """Builds the service's parts from the models of the manifest."""

    def __init__(self, settings: AsrSettings) -> None:
        self._settings = settings
        self._store = ModelStore(settings.common.model_store)
        self._models: Sequence[Model] = ()

    def models(self) -> list[RuntimeModel]:
        """Return the Triton models of every recogniser."""
        try:
            self._models = load_manifest(self._settings.common.model_manifest).for_service("asr")
            return [
                runtime_model(
                    model,
                    self._store.require(model.id, model.required_artifacts),
                    self._settings.common.cpu_threads,
                )
                for model in self._models
            ]
        except (ManifestError, ModelStoreError) as error:
            raise StartupError(str(error)) from None

    async def register(self, parts: Parts, server: grpc.aio.Server) -> None:
        """Prove every recogniser on known speech, then add the servicers."""
        assembly = Assembly(self._settings, parts, self._store)
        recognitions = {model.id: await assembly.recognition(model) for model in self._models}
        vad = await asyncio.to_thread(Vad)
        engine = Engine(recognitions, vad, parts.admission, parts.load, assembly.instruments)
        files = Files(self._settings, engine)
        live = LiveStreams(recognitions, vad, parts, self._settings)
        models = [recognition.model for recognition in recognitions.values()]
        servicer = AsrServicer(models, files, live)
        asr_pb2_grpc.add_AsrServiceServicer_to_server(servicer, server)
        riva_asr_pb2_grpc.add_RivaSpeechRecognitionServicer_to_server(RivaServicer(servicer), server)


def _frames(request: Any) -> float:
    """Return the mel frames of a raw KServe request."""
    rows, _, frames = next(tensor.shape for tensor in request.inputs if tensor.name == MEL)
    return float(rows * frames)


if __name__ == "__main__":
    sys.exit(main())

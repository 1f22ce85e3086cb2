"""`python -m services.embedding`: settings, models, Triton, servicer, run."""

import math
import sys
from collections.abc import Sequence
from typing import Any

import grpc
from flotilla.embedding.v1 import embedding_pb2_grpc

from services.common.batcher import Batcher, BatchInstruments, BatchLimits
from services.common.contract import check_config
from services.common.manifest import ManifestError, Model, load_manifest
from services.common.model_store import ModelStore, ModelStoreError
from services.common.profiles import profile_of
from services.common.runtime_repository import RuntimeModel
from services.common.server import StartupError, run
from services.common.service import Blueprint, Parts, serve
from services.common.settings import load
from services.embedding.costs import Costs
from services.embedding.embedder import Embedder
from services.embedding.model import Encoder, contracts
from services.embedding.repository import runtime_models
from services.embedding.servicer import SERVICE_NAME, EmbeddingServicer
from services.embedding.settings import EmbeddingSettings
from services.embedding.tokenizer import TextTokenizer
from services.embedding.vectors import Vectors


def main() -> int:
    """Run the embedding service until SIGTERM; return its exit code."""
    settings = load(EmbeddingSettings)
    service = _Service(settings)
    blueprint = Blueprint("embedding", SERVICE_NAME, service.models, service.register, _tokens)
    return run(lambda: serve(settings, blueprint))


class _Service:
    """Builds the service's parts from the models of the manifest."""

    def __init__(self, settings: EmbeddingSettings) -> None:
        self._settings = settings
        self._store = ModelStore(settings.common.model_store)
        self._models: Sequence[Model] = ()

    def models(self) -> list[RuntimeModel]:
        """Return the Triton models of every embedding model: encoder, tokenizer, ensemble."""
        try:
            self._models = load_manifest(self._settings.common.model_manifest).for_service("embedding")
            return [part for model in self._models for part in self._parts(model)]
        except (ManifestError, ModelStoreError) as error:
            raise StartupError(str(error)) from None

    async def register(self, parts: Parts, server: grpc.aio.Server) -> None:
        """Prove every model on known input, then add the servicer."""
        instruments = BatchInstruments(parts.telemetry)
        embedders = {model.id: await self._embedder(model, parts, instruments) for model in self._models}
        servicer = EmbeddingServicer(embedders, parts.admission, self._settings)
        embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server(servicer, server)

    def _parts(self, model: Model) -> list[RuntimeModel]:
        assert model.embedding is not None  # noqa: S101  # the manifest checks it
        return runtime_models(model, model.embedding, self._store.require(model.id, model.required_artifacts))

    async def _embedder(self, model: Model, parts: Parts, instruments: BatchInstruments) -> Embedder:
        settings, facts = self._settings, model.embedding
        assert facts is not None  # noqa: S101  # the manifest checks it
        for name, contract in contracts(model).items():
            check_config(parts.configs[name], contract)
        encoder = Encoder(parts.triton, model, parts.configs[model.triton_name], settings.batch_timeout_seconds)
        await encoder.prove(self._store.artifact(model.id, "selftest.json").read_text())
        limits = BatchLimits(settings.max_batch_items, settings.max_batch_tokens, parts.load.slots)
        await encoder.warm_up(limits, parts.load)
        tokenizer = TextTokenizer(
            self._store.artifact(model.id, "tokenizer.json"), facts.max_tokens, facts.vocabulary_size
        )
        batcher: Batcher[Sequence[int], Vectors] = Batcher(encoder.encode, limits, parts.load, instruments, model.id)
        profile = profile_of(parts.configs[model.triton_name])
        costs = Costs(facts.max_tokens)
        return Embedder(model.id, model.license, profile, model.triton_name, facts, tokenizer, batcher, costs)


def _tokens(request: Any) -> float:
    """Return the padded tokens of a raw KServe request; a text counts as four bytes a token."""
    tensor = request.inputs[0]
    if tensor.datatype == "BYTES":
        return sum(map(len, (*request.raw_input_contents, *tensor.contents.bytes_contents))) / 4
    return float(math.prod(tensor.shape))


if __name__ == "__main__":
    sys.exit(main())

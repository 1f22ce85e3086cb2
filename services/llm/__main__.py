"""`python -m services.llm`: settings, models, Triton, servicer, run."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
from flotilla.llm.v1 import llm_pb2 as pb
from flotilla.llm.v1 import llm_pb2_grpc

from services.common.contract import check_config
from services.common.manifest import LlmFacts, ManifestError, Model, load_manifest
from services.common.model_store import ModelStore, ModelStoreError
from services.common.profiles import profile_of
from services.common.runtime_repository import RuntimeModel
from services.common.server import StartupError, run
from services.common.service import Blueprint, Parts, serve
from services.common.settings import load
from services.llm.chat_template import ChatTemplate
from services.llm.engine_statistics import EngineWatch
from services.llm.generation import Generator
from services.llm.grammars import Grammars
from services.llm.instruments import Instruments
from services.llm.messages import Messages
from services.llm.model import INPUT_IDS, LanguageModel, contracts
from services.llm.plans import Planner
from services.llm.repository import Place, runtime_models
from services.llm.servicer import SERVICE_NAME, LlmServicer, Served
from services.llm.settings import LlmSettings
from services.llm.tokenizer import TextTokenizer
from services.llm.vllm_model import BACKEND, TEXT_INPUT, VllmModel
from services.llm.vllm_model import contract as vllm_contract
from services.llm.vllm_spelling import Spelling
from services.llm.warm_up import prove, warm_up

TEMPLATE = "chat_template.jinja"
BYTES_OF_A_TOKEN = 8
"""Of a prompt spelled for vLLM, separators included."""


def main() -> int:
    """Run the LLM service until SIGTERM; return its exit code."""
    settings = load(LlmSettings)
    service = _Service(settings)
    blueprint = Blueprint("llm", SERVICE_NAME, service.models, service.register, _tokens)
    return run(lambda: serve(settings, blueprint))


class _Service:
    """Builds the service's parts from the models of the manifest."""

    def __init__(self, settings: LlmSettings) -> None:
        self._settings = settings
        self._store = ModelStore(settings.common.model_store)
        self._models: Sequence[Model] = ()
        self._watches: list[asyncio.Task[None]] = []

    def models(self) -> list[RuntimeModel]:
        """Return the Triton models of every language model."""
        try:
            self._models = load_manifest(self._settings.common.model_manifest).for_service("llm")
            return [part for model in self._models for part in self._parts(model)]
        except (ManifestError, ModelStoreError) as error:
            raise StartupError(str(error)) from None

    async def register(self, parts: Parts, server: grpc.aio.Server) -> None:
        """Prove every model on known input, then add the servicer."""
        instruments = Instruments(parts.telemetry)
        parts.load.bounded_by(lambda: parts.admission.running / self._settings.admission_concurrency)
        served = {model.id: await self._served(model, parts, instruments) for model in self._models}
        llm_pb2_grpc.add_LlmServiceServicer_to_server(LlmServicer(served), server)

    def _parts(self, model: Model) -> list[RuntimeModel]:
        assert model.llm is not None  # noqa: S101  # the manifest checks it
        settings = self._settings
        place = Place(
            self._store,
            settings.common.state_dir / "llm" / "repository",
            settings.common.cpu_threads,
            settings.admission_concurrency,
            settings.gpu_memory_utilization,
        )
        return runtime_models(model, model.llm, place)

    async def _served(self, model: Model, parts: Parts, instruments: Instruments) -> Served:
        settings, facts, name = self._settings, model.llm, model.triton_name
        assert facts is not None  # noqa: S101  # the manifest checks it
        engine = self._engine(model, facts, parts)
        await prove(engine, self._store.artifact(model.id, "selftest.json").read_text())
        await warm_up(engine, settings.admission_concurrency, parts.load)
        files = self._store.require(model.id, model.required_artifacts)
        tokenizer = TextTokenizer(files["tokenizer.json"], facts.vocabulary_size)
        template = _template(files, tokenizer, facts)
        watch = EngineWatch(engine, parts.load, settings.admission_concurrency)
        parts.load.bounded_by(lambda: watch.now.kv_cache)
        instruments.watch(model.id, lambda: watch.now)
        self._watches.append(asyncio.create_task(watch.run(settings.statistics_seconds)))
        grammars = Grammars(engine, model.id, instruments, settings.grammar_cache)
        return Served(
            pb.Model(
                id=model.id,
                context_length=facts.context_length,
                vocabulary_size=facts.vocabulary_size,
                triton_model=name,
                license=model.license,
                profile=profile_of(parts.configs[name]),
                chat_template=template.source if template else "",
            ),
            Planner(facts, tokenizer, template, settings.max_prompt_characters),
            Generator(model.id, engine, tokenizer, watch, grammars, parts.admission, instruments),
            Messages(model.id, tokenizer),
        )

    def _engine(self, model: Model, facts: LlmFacts, parts: Parts) -> LanguageModel:
        """Return the model by the backend of its engine, after a look at every configuration."""
        name, settings = model.triton_name, self._settings
        by_vllm = parts.configs[name].backend == BACKEND
        expected = {**contracts(model), **({name: vllm_contract()} if by_vllm else {})}
        for part, contract in expected.items():
            check_config(parts.configs[part], contract)
        if not by_vllm:
            return LanguageModel(parts.triton, name, settings)
        spelling = Spelling(self._store.artifact(model.id, "tokenizer.json"))
        return VllmModel(parts.triton, name, settings, spelling, facts.eos_token_ids)


def _template(files: Mapping[str, Path], tokenizer: TextTokenizer, facts: LlmFacts) -> ChatTemplate | None:
    """Return the chat template of a model that has one."""
    if TEMPLATE not in files:
        return None
    begin, end = facts.bos_token_id, facts.eos_token_ids[0]
    bos = "" if begin is None else tokenizer.token_bytes(begin).decode()
    return ChatTemplate(
        files[TEMPLATE].read_text(encoding="utf-8"), tokenizer, bos, tokenizer.token_bytes(end).decode()
    )


def _tokens(request: Any) -> float:
    """Return the prompt tokens of a raw KServe request; those of a text by its length."""
    for position, tensor in enumerate(request.inputs):
        if tensor.name == INPUT_IDS:
            return float(tensor.shape[0])
        if tensor.name == TEXT_INPUT and request.raw_input_contents:
            return max(1.0, len(request.raw_input_contents[position]) / BYTES_OF_A_TOKEN)
    return 1.0


if __name__ == "__main__":
    sys.exit(main())

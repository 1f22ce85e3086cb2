"""The models of the language model alone in a real Triton, without the service before them."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from services.common.manifest import Model, load_manifest
from services.common.model_store import ModelStore
from services.common.runtime_repository import MODEL_REPOSITORY, RuntimeModel, materialise
from services.common.settings import CommonSettings
from services.common.triton import TritonClient, model_config_pb2
from services.common.triton_process import TritonProcess
from services.llm.model import (
    FAULT,
    GRAMMAR,
    INPUT_IDS,
    LOGPROBS,
    OPTIONS,
    OUTPUT_IDS,
    STATE,
    STATISTICS,
    TOP_IDS,
    TOP_LOGPROBS,
)
from tests.waiting import until

GRAPH = ("openvino_model.xml", "openvino_model.bin")
GRAMMAR_GRAPH = ("grammar_model.xml", "grammar_model.bin")
TEXTS = (
    "openvino_tokenizer.xml",
    "openvino_tokenizer.bin",
    "openvino_detokenizer.xml",
    "openvino_detokenizer.bin",
    "config.json",
    "generation_config.json",
)
OUTPUTS = (OUTPUT_IDS, LOGPROBS, STATE, STATISTICS)
THREADS = 2


def default_model() -> Model:
    return load_manifest().model("smollm2-135m-instruct")


def stored_files(model: Model) -> dict[str, Path]:
    return ModelStore(CommonSettings().model_store).require(model.id, model.required_artifacts)


def runtime_models(model: Model, files: dict[str, Path], parameters: dict[str, str]) -> list[RuntimeModel]:
    def adapt(config: model_config_pb2.ModelConfig) -> None:
        for key in parameters.keys() & config.parameters.keys():
            config.parameters[key].string_value = parameters[key]

    texts = {name: files[name] for name in TEXTS}
    grammar = {name: files[file] for name, file in zip(GRAPH, GRAMMAR_GRAPH, strict=True)}
    graph = {name: files[name] for name in GRAPH}
    parts = {"": graph | texts, "_score": graph, "_grammar": grammar | texts}
    name = model.triton_name
    return [RuntimeModel(name + part, artifacts, name + part, adapt) for part, artifacts in parts.items()]


@dataclass
class Answer:
    """What a stream gave."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: int = 0
    cached: int = -1
    responses: int = 0


class Engine:
    """The three models, called as the service calls them."""

    def __init__(self, client: TritonClient, name: str) -> None:
        self.client, self.name = client, name

    def responses(self, ids: Sequence[int], options: dict[str, Any] | bytes) -> AsyncIterator[dict[str, Any]]:
        content = options if isinstance(options, bytes) else json.dumps(options).encode()
        inputs = {INPUT_IDS: np.array(ids, dtype=np.int32), OPTIONS: np.frombuffer(content, dtype=np.uint8)}
        return self.client.stream(self.name, inputs, OUTPUTS)

    async def answer(self, ids: Sequence[int], **options: Any) -> Answer:
        answer = Answer()
        async for response in self.responses(ids, options):
            answer.ids += response[OUTPUT_IDS].tolist()
            answer.logprobs += response[LOGPROBS].tolist()
            answer.finish, answer.cached = response[STATE].tolist()
            answer.responses += 1
        return answer

    async def statistics(self) -> list[float]:
        (response,) = [response async for response in self.responses([], {})]
        return list(response[STATISTICS].tolist())

    async def rest(self) -> None:
        """Wait until nothing runs or waits."""

        async def idle() -> bool:
            return (await self.statistics())[:3] == [0, 0, 0]

        await until(idle, "the engine to come to rest")

    async def running(self, count: int) -> None:
        """Wait until so many requests run."""

        async def enough() -> bool:
            return (await self.statistics())[0] >= count

        await until(enough, f"{count} requests to run")

    async def scores(self, ids: Sequence[int]) -> dict[str, Any]:
        inputs = {INPUT_IDS: np.array(ids, dtype=np.int32)}
        return await self.client.infer(f"{self.name}_score", inputs, (LOGPROBS, TOP_IDS, TOP_LOGPROBS))

    async def fault(self, grammar: str | bytes) -> str:
        content = grammar if isinstance(grammar, bytes) else grammar.encode()
        inputs = {GRAMMAR: np.frombuffer(content, dtype=np.uint8)}
        return bytes((await self.client.infer(f"{self.name}_grammar", inputs, (FAULT,)))[FAULT]).decode()


@asynccontextmanager
async def running_engine(folder: Path, **parameters: str) -> AsyncIterator[Engine]:
    model = default_model()
    down: asyncio.Queue[str] = asyncio.Queue()
    models = runtime_models(model, stored_files(model), {"threads": str(THREADS)} | parameters)
    materialise(MODEL_REPOSITORY / "llm", folder / "repository", models, None, THREADS)

    async def on_up() -> None:
        """Nothing to do: calls simply succeed again."""

    process = TritonProcess(folder / "repository", folder, down.put, on_up)
    async with process.running(), TritonClient(process.url, on_hang=process.restart) as client:
        yield Engine(client, model.triton_name)
        assert down.empty(), f"Triton had to be restarted: {down.get_nowait()}"

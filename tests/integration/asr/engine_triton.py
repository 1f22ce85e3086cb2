"""The recognisers alone in a real Triton, without the service before them; and the speech they are tried on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper.audio import decode_audio
from numpy.typing import NDArray

from services.asr.mel import log_mel
from services.asr.model import (
    MELS,
    Reading,
    Recogniser,
    Window,
    contract,
)
from services.asr.repository import VOCABULARY, runtime_model
from services.asr.vocabulary import Vocabulary
from services.common.manifest import Model, load_manifest
from services.common.model_store import ModelStore
from services.common.runtime_repository import MODEL_REPOSITORY, materialise
from services.common.settings import CommonSettings
from services.common.triton import TritonClient
from services.common.triton_process import TritonProcess
from tests.integration.service_process import ROOT

SPEECH = ROOT / "tools/export/speech.flac"
TEXT = "rather cold-hearted and rather selfish is to be"
BASE, TINY = "whisper-base", "whisper-tiny.en"
THREADS = 2
SILENCE = 100
"""Frames behind the speech."""


def speech() -> NDArray[np.float32]:
    return np.asarray(decode_audio(str(SPEECH)), dtype=np.float32)


def window_of(samples: NDArray[np.float32], prompt: Sequence[int], **options: Any) -> Window:
    mel = log_mel(samples)
    padded = np.pad(mel, ((0, 0), (0, SILENCE)), constant_values=mel.min())
    return Window(padded, mel.shape[1], prompt, **options)


def stored_files(model: Model) -> dict[str, Path]:
    return ModelStore(CommonSettings().model_store).require(model.id, model.required_artifacts)


@dataclass
class Engine:
    """One recogniser in Triton, with its vocabulary."""

    client: TritonClient
    recogniser: Recogniser
    vocabulary: Vocabulary
    files: dict[str, Path]
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.recogniser.name

    def prompt(self, language: str = "en", **options: Any) -> list[int]:
        return self.vocabulary.prompt(language, **options)

    def text(self, ids: Sequence[int]) -> str:
        return self.vocabulary.text(ids).strip()

    async def read(self, *windows: Window) -> list[Reading]:
        return await self.recogniser.read(windows)

    async def raw(self, tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Send tensors as a KServe client may."""
        return await self.client.infer(self.name, tensors, list(contract().outputs))

    def tensors(self, rows: int = 1, frames: int = 200) -> dict[str, NDArray[Any]]:
        """A valid request."""
        prompt = np.tile(np.array(self.prompt(), dtype=np.int32), (rows, 1))
        numbers = {"frames": frames, "beam_size": 1, "alternatives": 1, "max_new_tokens": 8}
        return {
            "mel": np.full((rows, MELS, frames), -0.5, dtype=np.float32),
            "prompt": prompt,
            "temperature": np.zeros((rows, 1), dtype=np.float32),
            **{name: np.full((rows, 1), value, dtype=np.int32) for name, value in numbers.items()},
            **{name: np.zeros((rows, 1), dtype=np.uint8) for name in ("word_times", "detect_language")},
        }


@asynccontextmanager
async def running_engines(folder: Path) -> AsyncIterator[dict[str, Engine]]:
    models = load_manifest().for_service("asr")
    files = {model.id: stored_files(model) for model in models}
    configs = materialise(
        MODEL_REPOSITORY / "asr",
        folder / "repository",
        [runtime_model(model, files[model.id], THREADS) for model in models],
        None,
        THREADS,
    )
    down: asyncio.Queue[str] = asyncio.Queue()

    async def on_up() -> None:
        """Nothing to do: calls simply succeed again."""

    process = TritonProcess(folder / "repository", folder, down.put, on_up)
    async with process.running(), TritonClient(process.url) as client:
        yield {
            model.id: Engine(
                client,
                Recogniser(client, configs[model.triton_name], timeout=120.0),
                Vocabulary(files[model.id][VOCABULARY], model.asr is not None and model.asr.multilingual),
                files[model.id],
            )
            for model in models
        }
        assert down.empty(), f"Triton had to be restarted: {down.get_nowait()}"

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.model_repository.asr.random_whisper import write_whisper
from tools.export import whisper_graphs

PACKAGE = "model_repository.asr.whisper_base.1"


def part(name: str) -> Any:
    """A module of the Python model."""
    return importlib.import_module(f"{PACKAGE}.{name}")


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Whisper with its graphs."""
    folder = write_whisper(tmp_path_factory.mktemp("whisper"))
    whisper_graphs.export(folder, folder, {})
    return folder


@pytest.fixture(scope="session")
def special(whisper: Path) -> Any:
    return part("special_tokens").read_special_tokens(whisper)


@pytest.fixture(scope="session")
def original(whisper: Path, special: Any) -> Any:
    """The recogniser on CTranslate2, in float32."""
    return part("recogniser").Recogniser(whisper, special, part("device").Device(), "float32")


@pytest.fixture(scope="session")
def on_onnxruntime(whisper: Path, special: Any) -> Any:
    graphs = part("onnxruntime_graphs").OnnxRuntimeGraphs(whisper, part("device").Device(), 4)
    return part("graph_recogniser").GraphRecogniser(graphs, special)


@pytest.fixture
def row() -> Callable[..., Any]:
    return make_row


def make_row(prompt: tuple[int, ...], frames: int = 200, **options: Any) -> Any:
    """A row with the start of its prompt found."""
    rows = part("rows")
    values: dict[str, Any] = {"beam_size": 1, "alternatives": 1, "temperature": 0.0, "max_new_tokens": 20}
    values |= {"word_times": False, "detect_language": False} | options
    no_times = 50363
    first = prompt.index(50258)
    start = tuple(token for token in prompt[first:] if token != no_times)
    return rows.Row(frames, prompt, start, timestamps=no_times not in prompt, **values)

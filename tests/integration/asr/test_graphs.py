"""Whisper as two plain graphs on ONNX Runtime reads real speech as CTranslate2 does in float32."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_whisper.audio import decode_audio

from services.asr.repository import VOCABULARY, engine_files
from services.asr.vocabulary import Vocabulary
from services.common.manifest import load_manifest
from tests.integration.asr.engine_triton import THREADS, TINY, speech, stored_files, window_of
from tests.integration.service_process import ROOT
from tools.export import whisper_graphs

PACKAGE = "model_repository.asr.whisper_base.1"
KENNEDY = ROOT / "tests/data/speech/jfk.flac"


def part(name: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.{name}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    for name, path in engine_files(stored_files(load_manifest().model(TINY))).items():
        (folder / name).symlink_to(path)
    whisper_graphs.export(folder, folder, {})
    return folder


@pytest.mark.parametrize(
    "options",
    [{"word_times": True}, {"beam_size": 5, "alternatives": 2}],
    ids=["greedy, with times of words", "several hypotheses"],
)
def test_speech_is_read_as_ctranslate2_reads_it(folder: Path, options: dict[str, Any]) -> None:
    special, device = part("special_tokens").read_special_tokens(folder), part("device").Device(threads=THREADS)
    original = part("recogniser").Recogniser(folder, special, device, "float32")
    graphs = part("graph_recogniser").GraphRecogniser(
        part("onnxruntime_graphs").OnnxRuntimeGraphs(folder, device, 4), special
    )
    prompt = Vocabulary(folder / VOCABULARY, multilingual=False).prompt("en")
    spoken = [speech()] if "beam_size" in options else [speech(), np.asarray(decode_audio(str(KENNEDY)), np.float32)]
    for samples in spoken:
        window = window_of(samples, prompt)
        values = {"beam_size": 1, "alternatives": 1, "temperature": 0.0, "max_new_tokens": 128, "word_times": False}
        row = part("rows").Row(
            window.frames, tuple(prompt), tuple(prompt), timestamps=True, detect_language=False, **(values | options)
        )
        (expected,) = original.read(window.mel[None], [row], lambda _row: True)
        (found,) = graphs.read(window.mel[None], [row], lambda _row: True)
        assert found.texts == expected.texts
        assert found.scores == pytest.approx(expected.scores, abs=1e-3)
        assert found.no_speech == pytest.approx(expected.no_speech, abs=1e-4)
        assert found.token_times == pytest.approx(expected.token_times, abs=0.021)
        assert found.token_probabilities == pytest.approx(expected.token_probabilities, abs=1e-3)

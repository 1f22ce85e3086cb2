"""The two graphs of a Whisper, judged by the words that are read with them in recordings."""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from services.asr.vocabulary import Vocabulary
from services.common.manifest import Model
from services.common.settings import REPOSITORY_ROOT
from tools.cli.console import Problem
from tools.engines.composed import ComposedSubject, Part
from tools.engines.metrics.transcripts import word_accuracy
from tools.engines.providers.speech_shapes import decoder_profiles, encoder_profiles
from tools.engines.sessions import open_graph
from tools.engines.shapes import Profile
from tools.engines.subjects import Metric, Run, Subject, Tensors
from tools.export.command import ExportRefusedError
from tools.export.whisper_weights import read_network

CORPUS = Path(__file__).parents[1] / "corpus" / "speech.toml"
PACKAGE = "model_repository.asr.whisper_base.1"
MODEL, VOCABULARY = "model.bin", "tokenizer.json"
EXPORTER = "whisper-graphs v1"
"""A change of what tools/export/whisper_graphs.py writes needs a higher version."""
TAKERS = ("tensorrt-fp16", "onnxruntime-cuda-fp16")
FRAMES, MOST_TOKENS = 3000, 128
CALIBRATION_STEPS = (1, 6, 12)
"""Runs of the decoder that are given to a quantiser: single tokens, as nearly all runs are."""
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recording:
    """A window of 30 s and what is said in it."""

    mel: Floats
    """[80, 3000]"""
    frames: int
    text: str


@dataclass(frozen=True, slots=True)
class Whisper:
    """What reading takes beside the graphs."""

    vocabulary: Vocabulary
    special: Any

    def read(self, graphs: RunGraphs, recording: Recording) -> tuple[str, float]:
        """Return what is read, greedily and with time stamps, and the mean log-probability of its tokens."""
        prompt = tuple(self.vocabulary.prompt("en"))
        options = {"timestamps": True, "beam_size": 1, "alternatives": 1, "temperature": 0.0}
        flags = {"word_times": False, "detect_language": False, "max_new_tokens": MOST_TOKENS}
        row = _part("rows").Row(recording.frames, prompt, prompt, **options, **flags)
        recogniser = _part("graph_recogniser").GraphRecogniser(graphs, self.special)
        (reading,) = recogniser.read(recording.mel[None], [row], lambda _row: True)
        return self.vocabulary.text(reading.texts[0]), reading.scores[0]


@dataclass(slots=True)
class RunGraphs:
    """Graphs that are functions of arrays, for the loop over tokens of model_repository/asr."""

    encoder: Run
    decoder: Run
    past_shape: tuple[int, int]
    """Heads and components of a head."""
    most_windows: int = 1
    seen: Callable[[Tensors], None] = field(default=lambda _inputs: None)
    """Told the inputs of every run of the decoder."""

    def windows(self, count: int) -> int:
        """See graphs.py of the model."""
        return count

    def frames(self, count: int) -> int:
        """See graphs.py of the model."""
        return count

    def encode(self, mel: Floats) -> Tensors:
        """See graphs.py of the model."""
        return self.encoder({"mel": mel})

    def past(self, sound: Tensors, windows: int, capacity: int) -> _Past:
        """See graphs.py of the model."""
        heads, width = self.past_shape
        names = [name.replace("cross", "past") for name in sound]
        return _Past(self, sound, {name: np.zeros((windows, heads, capacity, width), np.float32) for name in names})


@dataclass(slots=True)
class _Past:
    graphs: RunGraphs
    sound: Tensors
    kept: dict[str, NDArray[Any]]

    def step(
        self,
        tokens: NDArray[np.int32],
        position: int,
        wanted: Sequence[int],
        parents: NDArray[Any] | None = None,
        *,
        with_scores: bool = False,
    ) -> tuple[Floats, Floats | None]:
        rows, count = tokens.shape
        parents = np.arange(rows) if parents is None else parents
        arrays = (tokens, np.arange(position, position + count), list(wanted), parents)
        names = _part("graphs").INPUTS
        given = {name: np.asarray(array, np.int32) for name, array in zip(names, arrays, strict=True)}
        inputs = {**given, **self.sound, **self.kept}
        self.graphs.seen(inputs)
        outputs = self.graphs.decoder(inputs)
        self.kept = {name: outputs[name.replace("past", "present", 1)] for name in self.kept}
        return np.array(outputs["logits"], np.float32), outputs["scores"] if with_scores else None


def subjects(model: Model, files: Mapping[str, Path]) -> tuple[Subject, ...]:
    """Return the engine of two graphs that are made of the weights in CTranslate2's format."""
    assert model.asr is not None  # noqa: S101  # the manifest checks it
    return (
        ComposedSubject(
            model.id,
            model.triton_name,
            files[MODEL],
            _no_single_graph,
            _no_single_graph,
            compose=partial(_compose, model, files),
            shapes=partial(_profiles, files),
            exporter=EXPORTER,
            takers=TAKERS,
        ),
    )


def recordings() -> list[Recording]:
    """Return the recordings of the corpus."""
    from faster_whisper.audio import decode_audio  # noqa: PLC0415 - slow to import

    from services.asr.mel import log_mel  # noqa: PLC0415

    found = []
    for entry in tomllib.loads(CORPUS.read_text(encoding="utf-8"))["recordings"]:
        mel = log_mel(decode_audio(str(REPOSITORY_ROOT / entry["file"])))
        padded = np.full((len(mel), FRAMES), mel.min(), np.float32)
        padded[:, : mel.shape[1]] = mel
        found.append(Recording(padded, mel.shape[1], entry["text"]))
    return found


def _compose(model: Model, files: Mapping[str, Path], folder: Path) -> tuple[Part, ...]:
    """Write both graphs; each is judged beside the other one in full precision."""
    from tools.export import whisper_graphs  # noqa: PLC0415 - needs onnx

    with _side_by_side(files) as source:
        try:
            whisper_graphs.export(source, folder, {})
            network = read_network(source)
        except ExportRefusedError as error:
            raise Problem(
                f"'{model.id}': {error}", "take the model from the manifest again: tools/models fetch"
            ) from error
        special = _part("special_tokens").read_special_tokens(source)
    assert model.asr is not None  # noqa: S101  # the manifest checks it
    whisper = Whisper(Vocabulary(files[VOCABULARY], model.asr.multilingual), special)
    head = network.heads, network.head_width
    profiles = _profiles(files)
    encoder, decoder = folder / whisper_graphs.ENCODER, folder / whisper_graphs.DECODER

    def judged(place: str, reference: Run, candidate: Run) -> tuple[Metric, ...]:
        other = open_graph(decoder if place == "encoder" else encoder)
        pairs = [(run, other) if place == "encoder" else (other, run) for run in (reference, candidate)]
        return _evaluate(whisper, *(RunGraphs(*pair, head) for pair in pairs))

    def part(place: str, graph: Path, calibration: Callable[[], Iterator[Tensors]], profiles: Any) -> Part:
        subject = Subject(model.id, f"{model.triton_name}_{place}", graph, calibration, partial(judged, place))
        return Part(place, subject, profiles)

    return (
        part("encoder", encoder, _sound, profiles[0]),
        part("decoder", decoder, partial(_steps, whisper, encoder, decoder, head), profiles[1]),
    )


def _evaluate(whisper: Whisper, reference: RunGraphs, candidate: RunGraphs) -> tuple[Metric, ...]:
    from whisper_normalizer.english import EnglishTextNormalizer  # noqa: PLC0415 - slow to import

    plain, spoken = EnglishTextNormalizer(), recordings()
    said = [plain(recording.text) for recording in spoken]
    before, after = ([whisper.read(graphs, one) for one in spoken] for graphs in (reference, candidate))
    old, new = ([plain(text) for text, _ in read] for read in (before, after))
    likely = [float(np.exp(np.mean([score for _, score in read]))) for read in (before, after)]
    words = sum(len(text.split()) for text in said)
    return (
        Metric("word accuracy", word_accuracy(said, old), word_accuracy(said, new), words),
        Metric("words in common with the reference", 1.0, word_accuracy(old, new), words),
        Metric("probability of a token, mean", likely[0], likely[1], words, decides=False),
    )


def _sound() -> Iterator[Tensors]:
    for recording in recordings():
        yield {"mel": recording.mel[None]}


def _steps(whisper: Whisper, encoder: Path, decoder: Path, head: tuple[int, int]) -> Iterator[Tensors]:
    steps: list[Tensors] = []
    graphs = RunGraphs(open_graph(encoder), open_graph(decoder), head, seen=steps.append)
    for recording in recordings():
        steps.clear()
        whisper.read(graphs, recording)
        yield from (steps[number] for number in CALIBRATION_STEPS)


@contextmanager
def _side_by_side(files: Mapping[str, Path]) -> Iterator[Path]:
    """Give a folder with the files of a model, which lie by their digests in the store."""
    with TemporaryDirectory() as folder:
        for name, path in files.items():
            (Path(folder) / name).symlink_to(path.resolve())
        yield Path(folder)


def _profiles(files: Mapping[str, Path]) -> tuple[tuple[Profile, ...], ...]:
    with _side_by_side(files) as folder:
        network = read_network(folder)
    return encoder_profiles(), decoder_profiles(network.decoder_layers, network.heads, network.head_width)


def _no_single_graph(*_: Any) -> NoReturn:
    raise Problem("the model is two graphs, which are judged together", "run: tools/flotilla engines build MODEL")


def _part(name: str) -> Any:
    """Return a module of the Python model, whose package has a version for its name."""
    return importlib.import_module(f"{PACKAGE}.{name}")

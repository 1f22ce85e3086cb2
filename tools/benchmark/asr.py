"""The speech benchmark: files by faster-whisper in process, by Triton and over HTTP; live streams; word error rates."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from services.asr.mel import log_mel
from services.asr.model import MOST_FRAMES, Window, inputs_of
from services.asr.vocabulary import Vocabulary
from services.common.manifest import Manifest, Model
from services.common.model_store import ModelStore
from tools.benchmark.generator import Job
from tools.benchmark.goals import Goal
from tools.benchmark.live_speech import LiveRow, live_row
from tools.benchmark.resident import megabytes_of
from tools.benchmark.rounds import Row, measure_all
from tools.benchmark.speech import RATE, Clip, Samples, clips_of, joined, transcription, wav, word_error_rate
from tools.benchmark.triton import INFER, infer_request, triton_address
from tools.cli.console import Problem
from tools.fleet.private import PrivateFleet, private_fleet

BATCHED, SEQUENTIAL, TRITON, STACK = (
    "faster-whisper in process, batched",
    "faster-whisper in process, sequential",
    "Triton directly (gRPC, mel windows)",
    "whole stack (HTTP, multipart)",
)
BATCH = 8
FILE_GOAL, FILES_GOAL = 0.95, 1.5
WER_GOAL, LIVE_WER_GOAL = 0.03, 0.05
CLOSE_GOAL, SPEECH_GOAL = 700.0, 1200.0
_FILES = 8
"""Files at the same time in the goal."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    data: Path
    clients: tuple[int, ...]
    streams: tuple[int, ...]
    rounds: int


@dataclass(slots=True)
class Result:
    """What was measured. Rates of rows are seconds of audio a second. Memory is in MB for each process."""

    file_seconds: float = 0.0
    files_seconds: float = 0.0
    file: list[Row] = field(default_factory=list)
    files: list[Row] = field(default_factory=list)
    word_error_rates: dict[str, float] = field(default_factory=dict)
    live: list[LiveRow] = field(default_factory=list)
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)

    @property
    def goals(self) -> list[Goal]:
        """Return the goals; those of live streams are for the fewest streams of the first model."""
        goals = [Goal("one file, of the engine", FILE_GOAL, row.ratio) for row in self.file if row.target == STACK]
        goals += [
            Goal(f"{_FILES} files at a time, of sequential faster-whisper", FILES_GOAL, row.ratio)
            for row in self.files
            if row.target == STACK and row.clients == _FILES
        ]
        goals += [
            Goal("word error rate, files", WER_GOAL, rate, True) for rate in [*self.word_error_rates.values()][:1]
        ]
        for row in self.live[:1]:
            goals += [
                Goal("word error rate, live", LIVE_WER_GOAL, row.word_error_rate, True),
                Goal("final result after the client's end, median ms", CLOSE_GOAL, row.after_close, True),
                Goal("final result after the end of speech, median ms", SPEECH_GOAL, row.after_speech, True),
            ]
        return goals


async def run(plan: Plan, state_dir: Path, manifest: Manifest, store: ModelStore, say: Callable[[str], None]) -> Result:
    """Measure everything in one run, the targets in turn in every round."""
    clips, models = clips_of(plan.data), manifest.for_service("asr")
    if not models:
        raise Problem("the manifest has no speech model", "tools/models list")
    result = Result()
    say("starting a fleet of its own")
    async with private_fleet(state_dir / "fleet", services=["asr"]) as fleet:
        result.before = megabytes_of(fleet)
        await _long_file(plan, result, _Files(clips, models[0], fleet), store, say)
        await _many_files(plan, result, _Files(clips, models[0], fleet), say)
        for model in models:
            say(f"{model.id}: word error rate")
            result.word_error_rates[model.id] = await _word_error_rate(fleet.url, model.id, clips)
        for model in models:
            for streams in plan.streams:
                say(f"{model.id}: {streams} live streams")
                result.live.append(
                    await live_row(f"127.0.0.1:{fleet.process('asr').grpc_port}", model.id, clips, streams)
                )
        result.after = megabytes_of(fleet)
    return result


@dataclass(frozen=True, slots=True)
class _Files:
    """The jobs of files for one model."""

    clips: Sequence[Clip]
    model: Model
    fleet: PrivateFleet

    def engine(self, files: Sequence[bytes], method: str = "") -> Job:
        """Return the job of faster-whisper, in process on the very folder that Triton has loaded."""
        folder = self.fleet.state_dir / "asr" / "repository" / self.model.triton_name / "1"
        return _once("faster-whisper", str(folder), files, method=method)

    def stack(self, files: Sequence[bytes], clients: int) -> Job:
        """Return the job of the gateway."""
        fields = {"model": self.model.id, "language": "en"}
        return replace(_once("http", self.fleet.url, [transcription(file, fields) for file in files]), clients=clients)

    def triton(self, requests: Sequence[bytes]) -> Job:
        """Return the job of the service's Triton, with as many batches at a time as it takes to keep it busy."""
        address = triton_address(self.fleet.process("asr").pid)
        return replace(_once("grpc", address, requests, method=INFER), clients=2)


def _once(kind: str, target: str, payloads: Sequence[Any], method: str = "") -> Job:
    return Job(kind, target, payloads, 1, 0, method=method, warmup_seconds=0, limit=len(payloads))


async def _long_file(plan: Plan, result: Result, files: _Files, store: ModelStore, say: Callable[[str], None]) -> None:
    """Measure all clips as one file."""
    samples = joined(files.clips)
    result.file_seconds = len(samples) / RATE
    jobs = {
        BATCHED: files.engine([wav(samples)], "batched"),
        SEQUENTIAL: files.engine([wav(samples)]),
        TRITON: files.triton(_requests(files.model, samples, store)),
        STACK: files.stack([wav(samples)], 1),
    }
    rows = await measure_all(jobs, BATCHED, plan.rounds, say)
    # Rows count requests; a file may be several.
    share = {target: result.file_seconds / len(job.payloads) for target, job in jobs.items()}
    base = share[BATCHED]
    result.file = [
        replace(row, rate=row.rate * share[row.target], ratio=row.ratio * share[row.target] / base) for row in rows
    ]


async def _many_files(plan: Plan, result: Result, files: _Files, say: Callable[[str], None]) -> None:
    """Measure the clips as files, with so many clients at a time."""
    given = [clip.file for clip in files.clips]
    result.files_seconds = sum(clip.seconds for clip in files.clips)
    mean = result.files_seconds / len(given)
    for clients in plan.clients:
        jobs = {SEQUENTIAL: files.engine(given), STACK: files.stack(given, clients)}
        rows = await measure_all(jobs, SEQUENTIAL, plan.rounds, say)
        result.files += [replace(row, rate=row.rate * mean, clients=clients) for row in rows]


def _requests(model: Model, samples: Samples, store: ModelStore) -> list[bytes]:
    """Return requests with a batch of windows each, cut every 30 seconds: the engine's work without any other."""
    vocabulary = Vocabulary(store.artifact(model.id, "tokenizer.json"), multilingual=True)
    prompt = vocabulary.prompt("en")
    floats = samples.astype(np.float32) / 32768
    step = MOST_FRAMES * RATE // 100
    mels = [log_mel(floats[start : start + step]) for start in range(0, len(floats), step)]
    windows = [Window(mel, mel.shape[1], prompt) for mel in mels]
    return [
        infer_request(model.triton_name, inputs_of(windows[start : start + BATCH]))
        for start in range(0, len(windows), BATCH)
    ]


async def _word_error_rate(url: str, model: str, clips: Sequence[Clip]) -> float:
    written = []
    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False) as client:
        for clip in clips:
            post = transcription(clip.file, {"model": model, "language": "en"})
            response = await client.post(post.path, content=post.body, headers={"content-type": post.content_type})
            response.raise_for_status()
            written.append(str(json.loads(response.content)["text"]))
    return word_error_rate([clip.text for clip in clips], written)

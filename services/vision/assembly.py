"""The service's parts put together: graphs proved and warmed up, batchers, tasks, the pipeline."""

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import cv2
import numpy as np

from services.common.batcher import Batcher, BatchInstruments, BatchLimits
from services.common.manifest import Model, VisionFacts
from services.common.model_store import ModelStore
from services.common.profiles import profile_of_all
from services.common.service import Parts
from services.vision import model as graphs
from services.vision.classifier import Classifier
from services.vision.decoding import SizeLimits, decode, inspect
from services.vision.detector import Detector
from services.vision.face_detector import FaceDetector
from services.vision.instruments import Instruments
from services.vision.meter import Meter, Unmetered
from services.vision.model import Graph, Pixels
from services.vision.pipeline import Pipeline, field_of
from services.vision.pool import PixelPool
from services.vision.repository import CHARACTERS, LABELS, graph_artifact, lines_of
from services.vision.settings import VisionSettings
from services.vision.tasks import ServedModel, Task
from services.vision.text_lines import FIND_SHORTEST_SIDE, LEAST_LINE_WIDTH
from services.vision.text_reader import TextReader

Result = TypeVar("Result")
WARM_UP_SIDE = 640
SAMPLE_SIDE = 1024
UNBOUNDED = sys.maxsize


class Assembly:
    """Builds what serves from the parts that every service has."""

    def __init__(self, settings: VisionSettings, parts: Parts, store: ModelStore) -> None:
        self._settings, self._parts, self._store = settings, parts, store
        self._meter = Meter(parts.load)
        self._pool = PixelPool(settings.common.cpu_threads, settings.max_pixel_memory_bytes, self._meter)
        self._instruments = BatchInstruments(parts.telemetry)
        self._unmetered = Unmetered(parts.load.slots)
        self.weights: dict[str, float] = {}
        """Slot-seconds for each pixel of the input, by Triton model name."""

    async def task(self, model: Model) -> Task[Any]:
        """Return a model at work, proved on known input. Raises StartupError when it does not compute right."""
        facts = model.vision
        assert facts is not None  # noqa: S101  # the manifest checks it
        proved = {graph_artifact(model, name): await self._graph(model, name) for name in graphs.contracts(model)}
        match facts.task:
            case "classify" | "detect":
                return await self._of_squares(model, facts, proved["model"])
            case "detect_faces":
                return await self._faces(model, proved["model"])
            case "read_text":
                return await self._reader(model, proved)

    async def pipeline(self) -> Pipeline:
        """Return the pipeline, ready for the first call."""
        limits = SizeLimits(self._settings.max_image_bytes, self._settings.max_pixels, self._settings.max_side)
        weight = await self._decode_weight(limits)
        self._meter.begin()
        return Pipeline(self._pool, self._meter, Instruments(self._parts.telemetry), limits, weight)

    async def _graph(self, model: Model, name: str) -> Graph:
        contract, config = graphs.contracts(model)[name], self._parts.configs[name]
        graph = Graph(self._parts.triton, config, contract, self._settings.batch_timeout_seconds, self._meter)
        await graph.prove(self._store.artifact(model.id, f"{graph_artifact(model, name)}.selftest.npz"))
        return graph

    async def _of_squares(self, model: Model, facts: VisionFacts, graph: Graph) -> Task[Any]:
        size = facts.input_size
        assert size is not None  # noqa: S101  # the manifest checks it
        limits = self._limits(graph)
        await self._warm_up(graph, (limits.items, size, size))
        served = self._served(model, lines_of(self._store.artifact(model.id, LABELS)))
        if facts.task == "classify":
            return Classifier(served, size, self._batcher(graphs.logits, graph, limits), graph.weight)
        batcher = self._batcher(graphs.candidates, graph, limits)
        return Detector(served, size, facts.iou_threshold, batcher, graph.weight)

    async def _faces(self, model: Model, graph: Graph) -> FaceDetector:
        await self._warm_up(graph, (1, WARM_UP_SIDE, WARM_UP_SIDE))
        batcher = self._batcher(graphs.face_grids, graph, self._one_by_one())
        return FaceDetector(self._served(model), self._settings.max_face_side, batcher, graph.weight)

    async def _reader(self, model: Model, proved: dict[str, Graph]) -> TextReader:
        det, cls, rec = proved["det"], proved["cls"], proved["rec"]
        await self._warm_up(det, (1, FIND_SHORTEST_SIDE, FIND_SHORTEST_SIDE))
        await self._warm_up(cls, (self._limits(cls).items, graphs.TEXT_LINE_HEIGHT, graphs.ROTATION_WIDTH))
        await self._warm_up(rec, (self._limits(rec).items, graphs.TEXT_LINE_HEIGHT, LEAST_LINE_WIDTH))
        return TextReader(
            self._served(model),
            lines_of(self._store.artifact(model.id, CHARACTERS)),
            self._batcher(graphs.text_maps, det, self._one_by_one()),
            self._batcher(graphs.upside_down, cls, self._limits(cls)),
            self._batcher(graphs.characters, rec, self._limits(rec, self._settings.max_batch_line_width)),
            self._pool,
            det.weight,
        )

    async def _warm_up(self, graph: Graph, shape: tuple[int, int, int]) -> None:
        await graph.warm_up(shape, self._parts.load.slots)
        self.weights[graph.name] = graph.weight

    def _batcher(
        self, run: Callable[[Graph, Sequence[Pixels]], Awaitable[list[Result]]], graph: Graph, limits: BatchLimits
    ) -> Batcher[Pixels, Result]:
        return Batcher(partial(run, graph), limits, self._unmetered, self._instruments, graph.name)

    def _limits(self, graph: Graph, padded_length: int = UNBOUNDED) -> BatchLimits:
        items = min(self._settings.max_batch_items, graph.max_batch)
        return BatchLimits(items, padded_length, self._parts.load.slots)

    def _one_by_one(self) -> BatchLimits:
        """Pages have sizes of their own, and each is work enough."""
        return BatchLimits(1, UNBOUNDED, self._parts.load.slots)

    def _served(self, model: Model, labels: tuple[str, ...] = ()) -> ServedModel:
        assert model.vision is not None  # noqa: S101  # the manifest checks it
        names = tuple(graphs.contracts(model))
        profile = profile_of_all(self._parts.configs[name] for name in names)
        return ServedModel(model.id, model.vision.task, labels, names, model.license, profile)

    async def _decode_weight(self, limits: SizeLimits) -> float:
        """Return the slot-seconds to decode a pixel, measured on a JPEG of noise and gradients."""
        ramp = np.linspace(0, 255, SAMPLE_SIDE, dtype=np.float32)
        noise = np.random.default_rng(0).normal(0, 8, (SAMPLE_SIDE, SAMPLE_SIDE, 3))
        sample = np.clip(ramp[:, None, None] + noise, 0, 255).astype(np.uint8)
        data = cv2.imencode(".jpg", sample)[1].tobytes()
        header = inspect(data, field_of(0), limits)
        turn = self._pool.start_of(0)
        for _ in range(2):
            began = time.monotonic()
            await self._pool.run(lambda: decode(data, header, field_of(0)), turn)
        return (time.monotonic() - began) / header.pixels

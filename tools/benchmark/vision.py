"""The vision benchmark: classification in process, by Triton, over HTTP; pages read over HTTP beside RapidOCR."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from services.common.manifest import Manifest, Model
from services.common.model_store import ModelStore
from tools.benchmark.generator import Job
from tools.benchmark.goals import Goal
from tools.benchmark.images import in_json, multipart, page_files, photograph_files
from tools.benchmark.in_process import classifier_inputs, plain_inputs
from tools.benchmark.rapidocr import rapidocr
from tools.benchmark.resident import megabytes_of
from tools.benchmark.rounds import Row, measure_all, with_clients
from tools.benchmark.triton import INFER, infer_request, triton_address
from tools.cli.console import Problem
from tools.fleet.private import PrivateFleet, private_fleet

PLAIN, IN_PROCESS, TRITON, MULTIPART, BASE64 = (
    "OpenCV + ONNX Runtime in process",
    "the service's decoding + ONNX Runtime in process",
    "Triton directly (gRPC, tensors)",
    "whole stack (HTTP, multipart)",
    "whole stack (HTTP, base64)",
)
RAPIDOCR, PAGES = "rapidocr in process, sequential", "whole stack (HTTP, multipart), pages"
CLIENTS_OF_GOAL, CLASSIFY_GOAL = 32, 0.8
CONCURRENT_PAGES, OCR_GOAL = 8, 1.2


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    clients: tuple[int, ...]
    rounds: int
    seconds: float
    pages: int
    peer: str | None


@dataclass(slots=True)
class Result:
    """What was measured. Memory is in MB for each process, before and after."""

    classification: list[Row] = field(default_factory=list)
    text: list[Row] = field(default_factory=list)
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)

    @property
    def goals(self) -> list[Goal]:
        """Return the goals that this run says something about."""
        ratios = {row.target: row.ratio for row in self.classification if row.clients == CLIENTS_OF_GOAL}
        goals = [
            Goal(f"{target}, of {base}", CLASSIFY_GOAL, ratios[target] / ratios[base])
            for base in (PLAIN, IN_PROCESS)
            for target in (MULTIPART, BASE64)
            if ratios
        ]
        pages = [Goal(row.target, OCR_GOAL, row.ratio) for row in self.text if row.target == PAGES]
        return [*goals, *(pages if len(self.text) > 1 else ())]


async def run(plan: Plan, state_dir: Path, manifest: Manifest, store: ModelStore, say: Callable[[str], None]) -> Result:
    """Measure everything in one run, the targets in turn in every round."""
    if plan.peer not in (None, "rapidocr"):
        raise Problem(f"there is no peer {plan.peer}", "choose: rapidocr")
    peer = await rapidocr(state_dir / "rapidocr", say) if plan.peer else None
    model = next(model for model in manifest.for_service("vision") if model.vision and model.vision.task == "classify")
    result = Result()
    say("starting a fleet of its own")
    async with private_fleet(state_dir / "fleet", services=["vision"]) as fleet:
        result.before = megabytes_of(fleet)
        jobs = _classification(fleet, model, store, photograph_files())
        for clients in plan.clients:
            chosen = with_clients(jobs, clients, plan.seconds)
            result.classification += await measure_all(chosen, PLAIN, plan.rounds, say)
        reading = _reading(fleet, page_files(plan.pages), peer)
        result.text = await measure_all(reading, RAPIDOCR if peer else PAGES, plan.rounds, say)
        result.after = megabytes_of(fleet)
    return result


def _classification(fleet: PrivateFleet, model: Model, store: ModelStore, files: Sequence[bytes]) -> dict[str, Job]:
    assert model.vision is not None and model.vision.input_size is not None  # noqa: S101  # the manifest checks it
    preparation = partial(classifier_inputs, model.vision.input_size)
    prepare = preparation()
    graph = str(store.artifact(model.id, "model.onnx"))
    requests = [infer_request(model.triton_name, prepare(file)) for file in files]
    posts = {MULTIPART: multipart, BASE64: in_json}
    return {
        PLAIN: Job("onnxruntime", graph, files, 1, 1, preparation=partial(plain_inputs, model.vision.input_size)),
        IN_PROCESS: Job("onnxruntime", graph, files, 1, 1, preparation=preparation),
        TRITON: Job("grpc", triton_address(fleet.process("vision").pid), requests, 1, 1, method=INFER),
        **{
            target: Job("http", fleet.url, [post("/v1/classify", file) for file in files], 1, 1)
            for target, post in posts.items()
        },
    }


def _reading(fleet: PrivateFleet, pages: Sequence[bytes], peer: str | None) -> dict[str, Job]:
    """Return the jobs that read every page once."""
    posts = [multipart("/v1/ocr", page) for page in pages]
    stack = Job("http", fleet.url, posts, CONCURRENT_PAGES, 0, warmup_seconds=0, limit=len(pages))
    if peer is None:
        return {PAGES: stack}
    sequential = Job("rapidocr", "", pages, 1, 0, warmup_seconds=0, limit=len(pages), python=peer)
    return {RAPIDOCR: sequential, PAGES: stack}

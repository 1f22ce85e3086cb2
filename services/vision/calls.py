"""flotilla.vision.v1: requests checked field by field, as calls. Nothing here looks into a picture."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flotilla.vision.v1 import vision_pb2 as pb

from services.common.errors import Kind, ServiceError, invalid
from services.vision import messages
from services.vision.tasks import Options, Task

MOST_RESULTS = 1000
_DEFAULT_THRESHOLD = {"classify": 0.0, "detect": 0.3, "read_text": 0.5, "detect_faces": 0.5}
_DEFAULT_TOP_K = {"classify": 5, "detect": 100, "detect_faces": 100}


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is in order."""

    task: Task[Any]
    options: Options
    images: list[bytes]
    result: Callable[[Any], Any]
    """Makes the message of one picture's Answer."""


class Calls:
    """Makes calls of requests. Every fault is an INVALID_ARGUMENT or NOT_FOUND that names its field."""

    def __init__(self, tasks: Mapping[str, Task[Any]]) -> None:
        """`tasks` by public model id."""
        self._tasks = tasks
        self._indices = {model_id: _indices(task.model.labels) for model_id, task in tasks.items()}

    def classify(self, request: pb.ClassifyRequest, most: int) -> Call:
        """Return the call of a request with at most `most` pictures."""
        return self._call("classify", request, most, messages.classify_result)

    def detect(self, request: pb.DetectRequest, most: int) -> Call:
        """See classify."""
        return self._call("detect", request, most, messages.detect_result)

    def read_text(self, request: pb.ReadTextRequest, most: int) -> Call:
        """See classify."""
        return self._call("read_text", request, most, messages.read_text_result)

    def detect_faces(self, request: pb.DetectFacesRequest, most: int) -> Call:
        """See classify."""
        return self._call("detect_faces", request, most, messages.detect_faces_result)

    def stream(self, request: pb.InferStreamRequest, most: int) -> tuple[str, Call]:
        """Return the name of the request that is set, which is that of its result, and its call."""
        name = request.WhichOneof("request")
        if name is None:
            raise invalid("request", "request: one of classify, detect, read_text, detect_faces must be set")
        call: Call = getattr(self, name)(getattr(request, name), most)
        return name, call

    def _call(self, name: str, request: Any, most: int, result: Callable[[Any], Any]) -> Call:
        task = self._task(name, request.model)
        if not 1 <= len(request.images) <= most:
            raise invalid("images", f"images has {len(request.images)} items; it takes 1 to {most}")
        options = Options(
            threshold=_fraction(request, "threshold", _DEFAULT_THRESHOLD[name]),
            top_k=_top_k(request, _DEFAULT_TOP_K.get(name, 0)),
            iou_threshold=_fraction(request, "iou_threshold", None),
            labels=self._labels(task, getattr(request, "labels", ())),
            annotate=request.annotate,
        )
        return Call(task, options, [image.data for image in request.images], result)

    def _task(self, name: str, model: str) -> Task[Any]:
        suited = {model_id: task for model_id, task in self._tasks.items() if task.model.task == name}
        if not model and len(suited) == 1:
            return next(iter(suited.values()))
        if model in suited:
            return suited[model]
        known = f"models for {name}: {', '.join(suited) or 'none'}"
        if model in self._tasks:
            raise invalid("model", f"model '{model}' is for {self._tasks[model].model.task}; {known}")
        raise ServiceError(
            Kind.NOT_FOUND, f"model '{model}' does not exist; {known}", field="model", code="model_not_found"
        )

    def _labels(self, task: Task[Any], labels: Any) -> frozenset[int] | None:
        if not labels:
            return None
        known, wanted = self._indices[task.model.id], set[int]()
        for position, label in enumerate(labels):
            if label not in known:
                field = f"labels[{position}]"
                raise invalid(field, f"{field}: '{label}' is not a label of '{task.model.id}'; ListModels has them")
            wanted |= known[label]
        return frozenset(wanted)


def _indices(labels: tuple[str, ...]) -> dict[str, set[int]]:
    """Return the class indices of every label; some lists have a label twice."""
    indices: dict[str, set[int]] = {}
    for index, label in enumerate(labels):
        indices.setdefault(label, set()).add(index)
    return indices


def _fraction(request: Any, field: str, default: Any) -> Any:
    """Return an optional field of 0 to 1; `default` where it is unset or the request has no such field."""
    if field not in request.DESCRIPTOR.fields_by_name or not request.HasField(field):
        return default
    value = getattr(request, field)
    if not 0 <= value <= 1:  # NaN as well
        raise invalid(field, f"{field} is {value:g}; it takes 0 to 1")
    return value


def _top_k(request: Any, default: int) -> int:
    if "top_k" not in request.DESCRIPTOR.fields_by_name or not request.HasField("top_k"):
        return default
    if not 1 <= request.top_k <= MOST_RESULTS:
        raise invalid("top_k", f"top_k is {request.top_k}; it takes 1 to {MOST_RESULTS}")
    return int(request.top_k)

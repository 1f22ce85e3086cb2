"""flotilla.vision.v1: results as messages."""

from typing import Any

from flotilla.vision.v1 import vision_pb2 as pb

from services.common.errors import ServiceError
from services.vision.classifier import Classification
from services.vision.detector import Detection
from services.vision.face_detector import Face
from services.vision.pipeline import Answer
from services.vision.tasks import Points, ServedModel
from services.vision.text_reader import TextLine

TASKS = {
    "classify": pb.TASK_CLASSIFY,
    "detect": pb.TASK_DETECT,
    "read_text": pb.TASK_READ_TEXT,
    "detect_faces": pb.TASK_DETECT_FACES,
}


def classify_result(answer: Answer[Classification]) -> pb.ClassifyResult:
    """Return the classes of a picture."""
    rows = [pb.Classification(label=c.label, score=c.score, class_index=c.class_index) for c in answer.found]
    return pb.ClassifyResult(image=_image(answer), classifications=rows)


def detect_result(answer: Answer[Detection]) -> pb.DetectResult:
    """Return the objects of a picture."""
    rows = [
        pb.Detection(label=d.label, confidence=d.score, box=_box(d.box), class_index=d.class_index)
        for d in answer.found
    ]
    return pb.DetectResult(image=_image(answer), detections=rows)


def read_text_result(answer: Answer[TextLine]) -> pb.ReadTextResult:
    """Return the lines of a picture."""
    rows = [pb.TextLine(text=line.text, confidence=line.score, corners=_points(line.corners)) for line in answer.found]
    return pb.ReadTextResult(image=_image(answer), lines=rows)


def detect_faces_result(answer: Answer[Face]) -> pb.DetectFacesResult:
    """Return the faces of a picture."""
    rows = [
        pb.Face(confidence=face.score, box=_box(face.box), landmarks=_points(face.landmarks)) for face in answer.found
    ]
    return pb.DetectFacesResult(image=_image(answer), faces=rows)


def image_error(index: int, error: ServiceError) -> pb.ImageError:
    """Return what is wrong with one picture of a stream."""
    return pb.ImageError(index=index, reason=error.kind.name, message=error.message)


def add_usage(usage: pb.Usage, answer: Answer[Any]) -> None:
    """Count an answered picture."""
    usage.images += 1
    usage.pixels += answer.source.header.pixels
    usage.bytes += len(answer.source.data)


def model(served: ServedModel) -> pb.Model:
    """Return the description of a model."""
    return pb.Model(
        id=served.id,
        task=TASKS[served.task],
        labels=served.labels,
        triton_models=served.triton_models,
        license=served.license,
        profile=served.profile,
    )


def _image(answer: Answer[Any]) -> pb.ImageInfo:
    source = answer.source
    return pb.ImageInfo(
        index=source.index, width=source.header.width, height=source.header.height, annotated=answer.annotated
    )


def _box(box: Points) -> pb.Box:
    return pb.Box(x_min=box[0], y_min=box[1], x_max=box[2], y_max=box[3])


def _points(points: Points) -> list[pb.Point]:
    return [pb.Point(x=x, y=y) for x, y in points]

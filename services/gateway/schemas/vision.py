"""The vision routes: NIM's fields for text and detection, the same shape for classes and faces, and our parameters."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PlainValidator, StringConstraints, model_validator

from services.gateway.schemas.common import ModelId, RequestBody, Text, count, fault

MOST_IMAGES = 64  # of the contract


@dataclass(frozen=True, slots=True)
class ImageSource:
    """One image of a request, not yet loaded."""

    name: str
    """What errors about the image call it: "input[0]", or the form field "file"."""
    field: str
    """The field that has it: "input[0].url"."""
    value: str | bytes
    """The bytes of an upload; or a data URL, base64, or a URL to fetch."""


class ImageItem(RequestBody):
    """An image as NIM's clients send it."""

    type: Literal["image_url"] = "image_url"
    url: str
    """`data:image/png;base64,...`, or a URL of a host that the gateway may fetch from."""


class _Url(RequestBody):
    url: str


class OpenAiImageItem(RequestBody):
    """An image as OpenAI's clients send it."""

    type: Literal["image_url"] = "image_url"
    image_url: _Url | str


_Item = str | ImageItem | OpenAiImageItem


def _read_input(value: Any) -> list[ImageSource]:
    """Return the images. One sentence, where a union would report every branch; no string is copied."""
    items = value if isinstance(value, list) else [value]
    if not items:
        raise fault("input", "must not be empty")
    count("input", items, MOST_IMAGES)
    return [_image(f"input[{i}]", item) for i, item in enumerate(items)]


def _image(name: str, item: Any) -> ImageSource:
    if isinstance(item, ImageSource):
        return item
    if isinstance(item, str):
        return ImageSource(name, name, item)
    if not isinstance(item, dict):
        raise fault(name, "must be an object with type and url, or a string")
    if item.get("type", "image_url") != "image_url":
        raise fault(f"{name}.type", "must be 'image_url'")
    _only(name, item, "type", "url", "image_url")
    if "url" in item and "image_url" in item:
        raise fault(name, "must have either url or image_url")
    field, url = f"{name}.url", item.get("url")
    if "image_url" in item:
        field, url = f"{name}.image_url", item["image_url"]
        if isinstance(url, dict):
            _only(field, url, "url")
            field, url = f"{field}.url", url.get("url")
    if not isinstance(url, str):
        raise fault(field, "must be a string")
    return ImageSource(name, field, url)


def _only(name: str, item: dict[str, Any], *known: str) -> None:
    for key in item:
        if key not in known:
            raise fault(f"{name}.{key}", "is not a parameter of this request")


Images = Annotated[list[ImageSource], PlainValidator(_read_input, json_schema_input_type=_Item | list[_Item])]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
TopK = Annotated[int, Field(ge=1, le=1000)]
Labels = Annotated[list[Annotated[Text, StringConstraints(min_length=1, max_length=256)]], Field(max_length=1000)]


class ImagesRequest(RequestBody):
    """What every vision route takes."""

    model: ModelId | None = None
    """Id of the model. Default: the only model for this task."""
    input: Images
    """1 to 64 images; one may stand without a list. A string is a data URL, or the base64 of a file."""
    annotate: bool = False
    """Also return every image as JPEG with the result drawn into it."""


class ClassifyRequest(ImagesRequest):
    """Images to classify."""

    top_k: TopK | None = None
    """How many classes for each image, 1 to 1,000. Default: 5."""
    threshold: Share | None = None
    """Least score, 0 to 1. Default: 0."""
    labels: Labels | None = None
    """Return only these labels, up to 1,000. Default: all."""


class DetectRequest(ImagesRequest):
    """Images to find objects in."""

    threshold: Share | None = None
    """Least confidence, 0 to 1. Default: 0.3."""
    iou_threshold: Share | None = None
    """Boxes of one label that overlap by more than this are one object, 0 to 1. Default: the model's own."""
    top_k: TopK | None = None
    """At most so many objects for each image, 1 to 1,000. Default: 100."""
    labels: Labels | None = None
    """Return only these labels, up to 1,000. Default: all."""


class FacesRequest(ImagesRequest):
    """Images to find faces in."""

    threshold: Share | None = None
    """Least confidence, 0 to 1. Default: 0.5."""
    top_k: TopK | None = None
    """At most so many faces for each image, 1 to 1,000. Default: 100."""


class OcrRequest(ImagesRequest):
    """Images to read text from."""

    threshold: Share | None = None
    """Least confidence of a line, 0 to 1. Default: 0.5."""
    merge_levels: list[Literal["sentence"]] | None = None
    """NIM's grouping of the text, one for each image. Text comes by lines, which NIM calls `sentence`; words and
    paragraphs are refused."""

    @model_validator(mode="after")
    def _one_level_for_each_image(self) -> "OcrRequest":
        if self.merge_levels is not None and len(self.merge_levels) != len(self.input):
            raise fault("merge_levels", f"has {len(self.merge_levels)} items; it takes one for each image")
        return self


class InferRequest(ImagesRequest):
    """Images for any vision model. The parameters are those of its task; others are refused."""

    model: ModelId | None = None
    """Id of the model; it decides on the task. Required."""
    top_k: TopK | None = None
    """As for the route of the task."""
    threshold: Share | None = None
    """As for the route of the task."""
    iou_threshold: Share | None = None
    """For objects."""
    labels: Labels | None = None
    """For classes and objects."""
    merge_levels: list[str] | None = None
    """For text."""


class ImageRow(BaseModel):
    """What the answer for every image has."""

    index: int
    """Position of the image in the request, from 0."""
    width: int
    """In pixels, after the EXIF orientation."""
    height: int
    """In pixels, after the EXIF orientation."""
    annotated_image: str | None = None
    """Data URL of a JPEG with the result drawn into it, where `annotate` asks for it."""


class Point(BaseModel):
    """A place in an image."""

    x: float
    """0 (left edge) to 1 (right edge)."""
    y: float
    """0 (top edge) to 1 (bottom edge)."""


class Box(BaseModel):
    """An upright rectangle, 0 to 1 from the left and from the top."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    confidence: float


class FaceBox(Box):
    """A face."""

    landmarks: list[Point]
    """Five: the eye on the left of the image, the eye on its right, the tip of the nose, the corner of the mouth on the
    left, the one on the right."""


class Classification(BaseModel):
    """A class of an image."""

    label: str
    score: float
    """Probability, 0 to 1."""


class ClassifyRow(ImageRow):
    """The classes of one image."""

    classifications: list[Classification]
    """Best first."""


class DetectRow(ImageRow):
    """The objects of one image."""

    bounding_boxes: dict[str, list[Box]]
    """By label, most confident first."""


class FacesRow(ImageRow):
    """The faces of one image."""

    bounding_boxes: dict[Literal["face"], list[FaceBox]]
    """Under the label `face`, most confident first."""


class TextPrediction(BaseModel):
    """What a line says."""

    text: str
    confidence: float
    """Mean probability of its characters, 0 to 1."""


class Quadrilateral(BaseModel):
    """Where a line is."""

    type: Literal["quadrilateral"]
    points: list[Point]
    """Four: top left, top right, bottom right, bottom left in the direction of reading."""


class TextDetection(BaseModel):
    """A line of text."""

    text_prediction: TextPrediction
    bounding_box: Quadrilateral


class OcrRow(ImageRow):
    """The text of one image."""

    text_detections: list[TextDetection]
    """In reading order."""


class VisionUsage(BaseModel):
    """What the request has used."""

    images: int
    pixels: int
    """Of all images as sent."""
    images_size_mb: float
    """Size of all images as sent, in millions of bytes."""


class VisionResponse(BaseModel):
    """What every vision route answers."""

    object: Literal["list"]
    model: str
    usage: VisionUsage


class ClassifyResponse(VisionResponse):
    """Classes, in the order of the images."""

    data: list[ClassifyRow]


class DetectResponse(VisionResponse):
    """Objects, in the order of the images."""

    data: list[DetectRow]


class FacesResponse(VisionResponse):
    """Faces, in the order of the images."""

    data: list[FacesRow]


class OcrResponse(VisionResponse):
    """Text, in the order of the images."""

    data: list[OcrRow]


class InferResponse(VisionResponse):
    """The answer of the task's own route."""

    data: list[ClassifyRow] | list[DetectRow] | list[FacesRow] | list[OcrRow]

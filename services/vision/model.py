"""The graphs in Triton. The only file of the service that knows tensor names, shapes and dtypes.

Every graph takes `pixels`: uint8 RGB [batch, height, width, 3]; scaling and layout are part of the graph.
"""

from services.common.contract import Contract, Tensor
from services.common.manifest import Model

PIXELS = "pixels"
LOGITS = "logits"
BOXES, SCORES, CLASSES = "boxes", "scores", "classes"
TEXT_MAP = "text_map"
ROTATED = "probabilities"
CHARACTERS, CONFIDENCES = "characters", "confidences"
HEATMAP, SCALE, OFFSET, LANDMARKS = "heatmap", "scale", "offset", "landmarks"

TEXT_LINE_HEIGHT = 48
ROTATION_WIDTH = 192
"""Width of a line for the graph that tells whether it is upside down."""


def contracts(model: Model) -> dict[str, Contract]:
    """Return the contracts of the model's graphs by Triton model name. The batch dimension is left out.

    classify      pixels [size, size, 3] -> logits [labels]
    detect        pixels [size, size, 3] -> the best candidates before NMS: boxes [candidates, 4] as y_min, x_min,
                  y_max, x_max of 0..1, scores [candidates] best first, classes [candidates], positions in labels.txt
    read_text     _det: pixels [height, width, 3], multiples of 32 -> text_map [height, width], probability of text
                  _cls: pixels [48, 192, 3] -> probabilities [2] that a line is upright, or upside down
                  _rec: pixels [48, width, 3] -> for every step the most likely entry of characters.txt (0 is blank)
                  and its probability: characters [steps], confidences [steps]
    detect_faces  pixels [height, width, 3], multiples of 32 -> on a grid of a quarter of that size: heatmap [h, w],
                  scale [2, h, w], offset [2, h, w], landmarks [10, h, w]
    """
    facts, name = model.vision, model.triton_name
    assert facts is not None  # noqa: S101  # the manifest checks it
    if facts.task in ("classify", "detect"):
        assert facts.input_size is not None and facts.labels is not None  # noqa: S101
        pixels = {PIXELS: Tensor("UINT8", (facts.input_size, facts.input_size, 3))}
        if facts.task == "classify":
            return {name: Contract(pixels, {LOGITS: Tensor("FP32", (facts.labels,))})}
        found = {BOXES: Tensor("FP32", (-1, 4)), SCORES: Tensor("FP32", (-1,)), CLASSES: Tensor("INT32", (-1,))}
        return {name: Contract(pixels, found)}
    any_size = {PIXELS: Tensor("UINT8", (-1, -1, 3))}
    if facts.task == "detect_faces":
        grid = {
            HEATMAP: Tensor("FP32", (-1, -1)),
            SCALE: Tensor("FP32", (2, -1, -1)),
            OFFSET: Tensor("FP32", (2, -1, -1)),
            LANDMARKS: Tensor("FP32", (10, -1, -1)),
        }
        return {name: Contract(any_size, grid)}
    rotation = {PIXELS: Tensor("UINT8", (TEXT_LINE_HEIGHT, ROTATION_WIDTH, 3))}
    line = {PIXELS: Tensor("UINT8", (TEXT_LINE_HEIGHT, -1, 3))}
    steps = {CHARACTERS: Tensor("INT32", (-1,)), CONFIDENCES: Tensor("FP32", (-1,))}
    return {
        f"{name}_det": Contract(any_size, {TEXT_MAP: Tensor("FP32", (-1, -1))}),
        f"{name}_cls": Contract(rotation, {ROTATED: Tensor("FP32", (2,))}),
        f"{name}_rec": Contract(line, steps),
    }

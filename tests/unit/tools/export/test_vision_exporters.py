from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tools.export.command import ExportRefusedError
from tools.export.graphs import compute, save
from tools.export.labels import COCO, IMAGENET
from tools.export.pictures import scenes, text_lines
from tools.export.pp_ocr import characters
from tools.export.ssd import CANDIDATES, CLASS_LOGITS, ENCODINGS, choose, label_ids

ANCHORS = 300
CLASSES = 91


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


@pytest.mark.parametrize(("path", "count"), [(IMAGENET, 1000), (COCO, 80)])
def test_label_lists_are_whole_and_without_doubles(path: Path, count: int) -> None:
    labels = lines(path)
    assert len(labels) == count and len({label.lower() for label in labels}) == count
    assert all(label.strip() == label and label for label in labels)


def test_known_labels_lie_where_they_belong() -> None:
    assert (lines(IMAGENET)[967], lines(IMAGENET)[281]) == ("espresso", "tabby")
    names = dict(zip(label_ids(CLASSES).tolist(), lines(COCO), strict=True))
    known = {1: "person", 13: "stop sign", 17: "cat", 47: "cup", 90: "toothbrush"}
    assert {number: names[number] for number in known} == known


def test_pictures_are_the_same_every_time() -> None:
    assert np.array_equal(scenes(2, 32, 64), scenes(2, 32, 64))
    assert scenes(2, 32, 64).std() > 10 and not np.array_equal(*scenes(2, 32, 64))
    assert text_lines(["FLOTILLA"], 48, 320).shape == (1, 48, 320, 3)


def recogniser_of(listed: str, classes: int) -> onnx.ModelProto:
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "steps", classes])
    model = helper.make_model(helper.make_graph([], "rec", [], [output]))
    helper.set_model_props(model, {"character": listed})
    return model


def test_characters_have_a_blank_before_and_a_space_behind() -> None:
    assert characters(recogniser_of("a\n\u3000\n\u2028", 5)) == ["blank", "a", "\u3000", "\u2028", " "]


def test_a_list_that_does_not_fit_the_classes() -> None:
    with pytest.raises(ExportRefusedError, match="has 9 classes, but 4 characters"):
        characters(recogniser_of("a\nb", 9))


def test_boxes_are_decoded_and_the_best_chosen(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    starts = random.uniform(0, 0.7, size=(ANCHORS, 2))
    anchors = np.hstack([starts, starts + random.uniform(0.1, 0.5, size=(ANCHORS, 2))]).astype(np.float32)
    codes = random.normal(size=(2, ANCHORS, 4)).astype(np.float32)
    logits = random.normal(size=(2, ANCHORS, CLASSES)).astype(np.float32)
    logits[:, :, 0] = logits[:, :, 12] = 50  # the background and a gap: never chosen
    found = chosen(tmp_path / "g.onnx", anchors, codes, logits)

    flat = logits[:, :, label_ids(CLASSES)].reshape(2, -1)
    order = np.argsort(-flat, axis=1)[:, :CANDIDATES]
    scores = 1 / (1 + np.exp(-np.take_along_axis(flat, order, axis=1)))
    assert np.allclose(found["scores"], scores, atol=1e-6)
    assert np.array_equal(found["classes"], order % 80)
    sizes = anchors[:, 2:] - anchors[:, :2]
    centres = codes[..., :2] / 10 * sizes + anchors[:, :2] + sizes / 2
    halves = np.exp(codes[..., 2:] / 5) * sizes / 2
    boxes = np.clip(np.concatenate([centres - halves, centres + halves], axis=2), 0, 1)
    assert np.allclose(found["boxes"], np.take_along_axis(boxes, (order // 80)[..., None], axis=1), atol=1e-5)


def chosen(path: Path, anchors: np.ndarray, codes: np.ndarray, logits: np.ndarray) -> dict[str, np.ndarray]:
    """Run what `choose` appends on given predictions; the trunk is two constants."""
    unused = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", 1, 1, 3])
    graph = helper.make_graph([], "predictions", [unused], [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for name, values in ((ENCODINGS, codes), (CLASS_LOGITS, logits)):
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    choose(model, anchors, CLASSES)
    save(model, path)
    return compute(path, {"pixels": np.zeros((2, 1, 1, 3), np.uint8)})

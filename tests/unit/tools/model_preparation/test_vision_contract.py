from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from services.common.manifest import Model
from tests.unit.tools.model_preparation.tiny_vision import (
    PIXELS,
    vision_model,
    write_classifier,
    write_detector,
    write_reader,
    write_rotation,
)
from tools.cli.console import Problem
from tools.export.selftest import read_selftest, write_selftest
from tools.model_preparation.contract import check_artifacts

READER = vision_model(
    {"task": "read_text"},
    [*(f"{graph}{end}" for graph in ("det", "cls", "rec") for end in (".onnx", ".selftest.npz")), "characters.txt"],
)
CLASSIFIER = vision_model(
    {"task": "classify", "input_size": 32, "labels": 3}, ["model.onnx", "model.selftest.npz", "labels.txt"]
)


def check(model: Model, folder: Path) -> None:
    check_artifacts(model, {path.name: path for path in folder.iterdir()})


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    write_reader(tmp_path / "reader")
    return tmp_path / "reader"


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    write_classifier(tmp_path / "classifier")
    return tmp_path / "classifier"


def test_whole_artifacts_pass(reader: Path, classifier: Path) -> None:
    check(READER, reader)
    check(CLASSIFIER, classifier)


def alter(change: Callable[[dict[str, np.ndarray]], None], path: Path) -> None:
    inputs, outputs = read_selftest(path)
    change(outputs)
    write_selftest(path, inputs, outputs)


def test_other_values_than_the_originals(reader: Path) -> None:
    alter(lambda outputs: outputs["text_map"].__iadd__(0.01), reader / "det.selftest.npz")
    with pytest.raises(Problem, match=r"det\.onnx does not reproduce det\.selftest\.npz: text_map agrees in 0"):
        check(READER, reader)


def test_one_character_of_a_hundred_may_differ(reader: Path) -> None:
    def change(count: int) -> Callable[[dict[str, np.ndarray]], None]:
        return lambda outputs: outputs["characters"].ravel()[:count].__iadd__(1)

    alter(change(1), reader / "rec.selftest.npz")
    check(READER, reader)
    alter(change(2), reader / "rec.selftest.npz")
    with pytest.raises(Problem, match=r"characters agrees in 98\.\d+% of its values, required are 99%"):
        check(READER, reader)


def test_an_output_that_is_not_in_the_selftest(reader: Path) -> None:
    alter(lambda outputs: outputs.pop("confidences") is None, reader / "rec.selftest.npz")
    with pytest.raises(Problem, match="it lacks confidences"):
        check(READER, reader)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + bytes(18)])
def test_a_broken_selftest(reader: Path, content: bytes) -> None:
    (reader / "det.selftest.npz").write_bytes(content)
    with pytest.raises(Problem, match=r"det\.selftest\.npz is not a self-test"):
        check(READER, reader)


def test_inputs_that_do_not_fit(classifier: Path) -> None:
    _, outputs = read_selftest(classifier / "model.selftest.npz")
    write_selftest(classifier / "model.selftest.npz", {"pixels": PIXELS}, outputs)
    with pytest.raises(Problem, match=r"model\.onnx fails on the inputs"):
        check(CLASSIFIER, classifier)


def test_a_graph_of_another_kind(reader: Path) -> None:
    write_detector(reader)
    (reader / "det.onnx").rename(reader / "rec.onnx")
    write_detector(reader)
    with pytest.raises(Problem, match=r"outputs of rec\.onnx are .*text_map.*expected"):
        check(READER, reader)


def test_another_size_than_the_facts_say(classifier: Path) -> None:
    larger = vision_model({"task": "classify", "input_size": 64, "labels": 3}, list(CLASSIFIER.artifacts))
    with pytest.raises(Problem, match=r"inputs of model\.onnx"):
        check(larger, classifier)


def test_a_size_that_must_be_free(reader: Path) -> None:
    (reader / "cls.onnx").rename(reader / "det.onnx")
    write_rotation(reader)
    with pytest.raises(Problem, match=r"inputs of det\.onnx are .*48, 192, 3.*expected"):
        check(READER, reader)


def test_a_damaged_graph(reader: Path) -> None:
    (reader / "cls.onnx").write_bytes(b"damaged")
    with pytest.raises(Problem, match=r"cls\.onnx cannot be loaded"):
        check(READER, reader)


@pytest.mark.parametrize(("content", "lines"), [("one\n", 1), ("one\ntwo\nthree\nfour\n", 4)])
def test_labels_that_do_not_fit_the_classes(classifier: Path, content: str, lines: int) -> None:
    (classifier / "labels.txt").write_text(content, encoding="utf-8")
    with pytest.raises(Problem, match=rf"labels\.txt has {lines} lines, expected 3"):
        check(CLASSIFIER, classifier)


def test_too_few_characters(reader: Path) -> None:
    (reader / "characters.txt").write_text("blank\n", encoding="utf-8")
    with pytest.raises(Problem, match=r"characters\.txt has 1 lines, expected 2 or more"):
        check(READER, reader)


def test_labels_that_are_not_text(classifier: Path) -> None:
    (classifier / "labels.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(Problem, match=r"labels\.txt is not UTF-8"):
        check(CLASSIFIER, classifier)

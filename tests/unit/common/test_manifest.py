import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest

from services.common.manifest import DEFAULT_MANIFEST, ManifestError, load_manifest, parse_manifest, triton_name

MODEL = "all-minilm-l6-v2"


@pytest.fixture
def document() -> dict[str, Any]:
    return tomllib.loads(DEFAULT_MANIFEST.read_text(encoding="utf-8"))


def test_the_manifest_of_the_repository_is_valid() -> None:
    model = load_manifest().model(MODEL)
    assert model.license == "Apache-2.0"
    assert model.embedding is not None and model.embedding.dimensions == 384
    assert model.required_artifacts == ("model.onnx", "selftest.json", "tokenizer.json")
    assert [source.type for source in model.sources] == ["package", "package", "hub"]


@pytest.mark.parametrize(
    ("model_id", "name"),
    [("all-minilm-l6-v2", "all_minilm_l6_v2"), ("whisper-tiny.en", "whisper_tiny_en"), ("PP-OCRv6", "pp_ocrv6")],
)
def test_triton_names(model_id: str, name: str) -> None:
    assert triton_name(model_id) == name


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        (("license",), None, "license"),
        (("license",), 7, "license"),
        (("colour",), "red", "colour"),
        (("service",), "cooking", "service"),
        (("embedding",), None, "embedding"),
        (("embedding", "dimensions"), 0, "embedding.dimensions"),
        (("embedding", "allowed_dimensions"), [768], "allowed_dimensions"),
        (("files", 0, "sha256"), "abc", "files.0.sha256"),
        (("files", 0, "name"), "../../etc/passwd", "files.0.name"),
        (("files", 1, "name"), "config.json", "config.json"),
        (("sources", 2, "revision"), "main", "sources.2.hub.revision"),
        (("sources", 0, "type"), "ftp", "sources.0"),
        (("artifacts", "tokenizer.json"), {"copy": "absent.json"}, "absent.json"),
        (("artifacts", "tokenizer.json"), {"copy": "tokenizer.json", "exporter": "x"}, "artifacts.tokenizer.json"),
        (("artifacts", "tokenizer.json"), {}, "artifacts.tokenizer.json"),
    ],
)
def test_a_wrong_value_is_told_with_its_key(
    document: dict[str, Any], path: tuple[Any, ...], value: Any, key: str
) -> None:
    place = document["models"][MODEL]
    for part in path[:-1]:
        place = place[part]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(ManifestError) as failure:
        parse_manifest(document, Path("models.toml"))
    message = str(failure.value)
    assert key in message and MODEL in message and message.startswith("models.toml: ") and "\n" not in message


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        (("asr",), None, "asr: this table is required"),
        (("asr", "multilingual"), "perhaps", "asr.multilingual"),
        (("sources", 0, "wheels"), [], "sources.0.packages.wheels"),
        (("sources", 0, "members", "model.bin"), None, "sources.0.members: 'model.bin' is missing"),
        (("sources", 0, "members", "other.bin"), ["x"], "sources.0.members: 'other.bin' is not among the files"),
    ],
)
def test_a_wrong_value_of_a_recogniser(document: dict[str, Any], path: tuple[Any, ...], value: Any, key: str) -> None:
    place = document["models"]["whisper-base"]
    for part in path[:-1]:
        place = place[part]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(ManifestError) as failure:
        parse_manifest(document, Path("models.toml"))
    assert key in str(failure.value)


def test_a_file_that_a_source_may_lack_need_not_be_among_its_members(document: dict[str, Any]) -> None:
    table = document["models"]["whisper-base"]
    (licence,) = (file for file in table["files"] if file["name"] == "LICENSE")
    licence["optional"] = True
    del table["sources"][0]["members"]["LICENSE"]
    parse_manifest(document, Path("models.toml"))


def test_two_models_with_one_triton_name(document: dict[str, Any]) -> None:
    document["models"]["all.minilm.l6.v2"] = copy.deepcopy(document["models"][MODEL])
    with pytest.raises(ManifestError, match="same name in Triton"):
        parse_manifest(document, Path("models.toml"))


@pytest.mark.parametrize("document", [{}, {"models": 1}, {"models": {}, "other": 1}, {"models": {"a": 1}}])
def test_a_document_of_another_kind(document: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(document, Path("models.toml"))


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="No such file"):
        load_manifest(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[models", encoding="utf-8")
    with pytest.raises(ManifestError, match="not valid TOML"):
        load_manifest(broken)


def test_unknown_model() -> None:
    with pytest.raises(ManifestError, match="unknown model 'nope'; known are: all-minilm-l6-v2"):
        load_manifest().model("nope")

"""Which artifacts of a speech recogniser are refused, and why."""

import dataclasses
from pathlib import Path

import pytest

from services.asr.repository import SELFTEST
from services.asr.selftest import SelfTest
from services.common.manifest import AsrFacts, load_manifest
from services.common.model_store import ModelStore
from services.common.settings import CommonSettings
from tools.model_preparation.asr_contract import check_asr
from tools.model_preparation.graph_loading import ContractError

ENGLISH = AsrFacts(multilingual=False)


@pytest.fixture(scope="module")
def artifacts() -> dict[str, Path]:
    model = load_manifest().model("whisper-tiny.en")
    return ModelStore(CommonSettings().model_store).require(model.id, model.required_artifacts)


def test_what_was_made_is_accepted(artifacts: dict[str, Path]) -> None:
    check_asr(ENGLISH, artifacts)


@pytest.mark.parametrize("name", ["model.bin", "config.json", "vocabulary.txt", "tokenizer.json", SELFTEST])
def test_a_missing_artifact_is_named(artifacts: dict[str, Path], name: str) -> None:
    with pytest.raises(ContractError, match=f"{name} is missing"):
        check_asr(ENGLISH, {other: path for other, path in artifacts.items() if other != name})


def test_the_manifest_and_the_files_must_agree(artifacts: dict[str, Path]) -> None:
    with pytest.raises(ContractError, match="multilingual is true in the manifest, but not in the files"):
        check_asr(AsrFacts(multilingual=True), artifacts)


def test_a_self_test_that_is_none(artifacts: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / SELFTEST).write_bytes(b"no archive")
    with pytest.raises(ContractError, match=rf"{SELFTEST} is not a self-test"):
        check_asr(ENGLISH, artifacts | {SELFTEST: tmp_path / SELFTEST})


def test_other_tokens_than_those_of_the_self_test(artifacts: dict[str, Path], tmp_path: Path) -> None:
    other = dataclasses.replace(SelfTest.read(artifacts[SELFTEST]), tokens=[1, 2, 3])
    other.write(tmp_path / SELFTEST)
    with pytest.raises(ContractError, match=rf"model\.bin does not reproduce {SELFTEST}"):
        check_asr(ENGLISH, artifacts | {SELFTEST: tmp_path / SELFTEST})


@pytest.mark.parametrize("name", ["model.bin", "config.json"])
def test_files_that_the_engine_cannot_load(artifacts: dict[str, Path], tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(ContractError, match="cannot be loaded by CTranslate2"):
        check_asr(ENGLISH, artifacts | {name: tmp_path / name})

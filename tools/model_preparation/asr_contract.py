"""What a speech recogniser consists of: a model that CTranslate2 loads and that reproduces its self-test."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from services.asr.repository import SELFTEST, engine_files
from services.asr.selftest import SelfTest
from services.common.manifest import AsrFacts
from tools.export.command import ExportRefusedError
from tools.model_preparation.graph_loading import ContractError


def check_asr(facts: AsrFacts, artifacts: Mapping[str, Path]) -> None:
    """Check the model and its self-test. ContractError says what does not hold."""
    try:
        files, path = engine_files(artifacts), artifacts[SELFTEST]
    except KeyError as error:
        raise ContractError(f"{error.args[0]} is missing") from error
    try:
        selftest = SelfTest.read(path)
    except ValueError as error:
        raise ContractError(f"{SELFTEST} is not a self-test: {error}") from error
    if wrong := _fault(facts, selftest, files):
        raise ContractError(f"model.bin does not reproduce {SELFTEST}: {wrong}")


def _fault(facts: AsrFacts, selftest: SelfTest, files: Mapping[str, Path]) -> str | None:
    """Read the window with the files side by side, which need not lie so in the store."""
    from tools.export.whisper_runtime import fault  # noqa: PLC0415 - slow to import, and a full store needs no check

    with TemporaryDirectory() as folder:
        for name, path in files.items():
            (Path(folder) / name).symlink_to(path.resolve())
        try:
            return fault(selftest, Path(folder), multilingual=facts.multilingual)
        except ExportRefusedError as error:
            return str(error)
        except Exception as error:
            raise ContractError("the model cannot be loaded by CTranslate2") from error

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from services.asr.vad import Vad
from services.asr.vocabulary import Vocabulary
from tests.unit.common.conftest import telemetry

__all__ = ["telemetry"]

SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|ja|>", "<|translate|>", "<|transcribe|>")
SPECIAL_AFTER = ("<|startoflm|>", "<|startofprev|>", "<|nocaptions|>", "<|notimestamps|>")


@pytest.fixture(scope="session")
def vad() -> Vad:
    return Vad()


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    """Whisper's in small: a token for each byte, then the special ones, then the time stamps."""
    return build(tmp_path_factory.mktemp("vocabulary"), multilingual=True)


@pytest.fixture(scope="session")
def english(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return build(tmp_path_factory.mktemp("english"), multilingual=False)


def build(folder, multilingual: bool) -> Vocabulary:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in (*SPECIAL, *SPECIAL_AFTER)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return Vocabulary(folder / "tokenizer.json", multilingual)

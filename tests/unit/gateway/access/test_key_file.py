"""The key file: digests at rest, strict, written at once."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.gateway.access.key_file import (
    Key,
    KeyFile,
    KeyFileError,
    KeyLimits,
    covers,
    digest_of,
    id_of,
    new_key,
    read,
    write,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def key(**changes: object) -> tuple[str, Key]:
    secret, identifier, digest = new_key()
    fields = {"id": identifier, "name": "anna", "digest": digest, "created": NOW, **changes}
    return secret, Key.model_validate(fields)


def test_a_key_can_be_told_from_other_texts_and_has_256_random_bits() -> None:
    secret, identifier, digest = new_key()
    prefix, middle, random = secret.split("_")
    assert (prefix, middle, len(bytes.fromhex(random))) == ("flt", identifier, 32)
    assert id_of(secret) == identifier
    assert digest_of(secret) == digest
    assert secret != new_key()[0]


@pytest.mark.parametrize("text", ["", "none", "sk-abc", "flt", "_", "x_y_z"])
def test_other_texts_have_no_id(text: str) -> None:
    assert not id_of(text)


def test_what_is_written_is_read_and_holds_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secret, one = key(models=("a-*",), limits=KeyLimits(tokens_per_day=5), expires=NOW)
    content = KeyFile(keys=(one, key()[1]))
    write(path, content)
    assert read(path) == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret.split("_")[2] not in path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"keys": [{"id": "0123456789ab"}]}',
        '{"keys": [], "more": 1}',
        '{"keys": [{"id": "x", "name": "a", "digest": "SECRET", "created": "2026-01-01T00:00:00Z"}]}',
    ],
)
def test_a_broken_file_is_refused_and_not_quoted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(KeyFileError, match="is broken") as caught:
        read(path)
    assert "SECRET" not in str(caught.value)


def test_two_keys_with_one_id_are_refused() -> None:
    _, one = key()
    with pytest.raises(ValueError, match="same id"):
        KeyFile(keys=(one, one))


@pytest.mark.parametrize(
    ("patterns", "name", "expected"),
    [
        (["*"], "anything", True),
        (["llama-*"], "llama-3", True),
        (["llama-*"], "Llama-3", False),
        (["llama-*"], "", False),
        (["a", "b"], "b", True),
        (["/v1/*"], "/v1/models/x", True),
        (["/v1/*"], "/v2/models", False),
    ],
)
def test_patterns(patterns: list[str], name: str, expected: bool) -> None:
    assert covers(patterns, name) is expected

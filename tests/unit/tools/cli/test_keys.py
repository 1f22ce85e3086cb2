"""`flotilla keys`: what it writes, shows and refuses."""

import re
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.gateway.access.key_file import digest_of, read
from tools.cli.console import Problem
from tools.cli.keys import app


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "keys.json"
    monkeypatch.setenv("FLOTILLA_GATEWAY_KEYS_FILE", str(path))
    return path


def run(*arguments: str) -> Result:
    """Run a command; a Problem comes out as it does in `flotilla`, which turns it into a line."""
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, Problem):
        raise result.exception
    return result


def test_a_key_is_printed_once_and_kept_as_a_digest(path: Path) -> None:
    arguments = ["create", "anna", "--model", "smollm2-*", "--model", "all-*", "--service", "llm", "--priority", "-5"]
    result = run(*arguments, "--limit", "tokens_per_day=2000", "--limit", "concurrency=3", "--expires", "30d")
    secret = result.stdout.strip()
    assert re.fullmatch("flt_[0-9a-f]{12}_[0-9a-f]{64}", secret)
    (key,) = read(path).keys
    assert (key.name, key.models, key.services, key.routes) == ("anna", ("smollm2-*", "all-*"), ("llm",), ("*",))
    assert (key.digest, key.priority) == (digest_of(secret), -5)
    assert (key.limits.tokens_per_day, key.limits.concurrency, key.limits.images_per_day) == (2000, 3, None)
    assert key.expires is not None
    assert (key.expires - key.created).days == 30
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_list_and_revoke(path: Path) -> None:
    for name in ("anna", "bob"):
        run("create", name, "--limit", "images_per_minute=7")
    first, second = read(path).keys
    listed = run("list").stdout
    assert all(text in listed for text in (first.id, second.id, "anna", "bob", "images_per_minute 7", "never"))
    assert first.digest not in listed
    run("revoke", first.id)
    assert [key.id for key in read(path).keys] == [second.id]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "a", "--limit", "coffee=3"), "coffee"),
        (("create", "a", "--limit", "concurrency"), "NAME=NUMBER"),
        (("create", "a", "--limit", "concurrency=0"), "concurrency"),
        (("create", "a", "--limit", "concurrency=many"), "concurrency"),
        (("create", "a", "--expires", "soon"), "is no time"),
        (("create", "a", "--expires", "2001-01-01"), "has passed"),
        (("create", ""), "name"),
        (("revoke", "0123456789ab"), "no key|cannot read"),
        (("list",), "cannot read"),
    ],
)
def test_what_cannot_be_done_is_one_line(path: Path, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(Problem, match=words):
        run(*arguments)
    assert not path.exists()


def test_without_a_file_it_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOTILLA_GATEWAY_KEYS_FILE", raising=False)
    with pytest.raises(Problem, match="no key file"):
        run("list")


def test_a_broken_file_is_left_alone(path: Path) -> None:
    path.write_text("{")
    with pytest.raises(Problem, match="broken"):
        run("create", "anna")
    assert path.read_text() == "{"


@pytest.mark.parametrize("command", ["create", "list", "revoke"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    assert f"Example: tools/keys {command}" in run(command, "--help").output

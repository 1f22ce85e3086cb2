"""Archives of engines: what comes through, and all that is refused."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from services.common.engines import SIDECAR, Engine, EngineCache, EngineDamagedError
from tests.unit.tools.engines.samples import publish
from tools.cli.console import Problem
from tools.engines.archive import read_archive, write_archive
from tools.engines.publish import EnginePublisher

PLAN = b"plan" * 50_000


def receive(archive: Path, store: Path) -> list[Engine]:
    publisher = EnginePublisher(EngineCache(store))
    with publisher.lock("importing"):
        return read_archive(archive, publisher)


def rewritten(archive: Path, change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]]) -> Path:
    """Return a copy of an archive with every member changed."""
    target = archive.with_name("changed.tar")
    with tarfile.open(archive) as origin, tarfile.open(target, "w") as copy:
        for member in origin:
            content = origin.extractfile(member)
            assert content is not None
            info, data = change(member, content.read())
            info.size = len(data) if info.isfile() else 0
            copy.addfile(info, io.BytesIO(data))
    return target


def is_empty(store: Path) -> bool:
    return [path.name for path in (store / "engines").iterdir()] == [".lock"]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    engines = [publish(tmp_path / "from", number, PLAN) for number in range(2)]
    target = tmp_path / "engines.tar"
    write_archive(engines, target)
    return target


def test_engines_arrive_as_they_left(archive: Path, tmp_path: Path) -> None:
    received = receive(archive, tmp_path / "to")
    assert {engine.key for engine in received} == {engine.key for engine in EngineCache(tmp_path / "from").all()}
    assert {engine.path("model.plan").read_bytes() for engine in received} == {PLAN}
    assert len(EngineCache(tmp_path / "to").all()) == 2


def test_a_damaged_engine_is_not_exported(tmp_path: Path) -> None:
    engine = publish(tmp_path)
    engine.path("model.plan").write_bytes(b"other")
    with pytest.raises(EngineDamagedError):
        write_archive([engine], tmp_path / "engines.tar")
    assert not list(tmp_path.glob("*.tar"))


@pytest.mark.parametrize(
    "name",
    ["../../evil", "/tmp/evil", "evil", "a" * 64 + "/../evil", "a" * 64 + "/.hidden", "a" * 64, "a" * 64 + "/a/b"],
)
def test_a_member_outside_an_engine_is_refused(archive: Path, tmp_path: Path, name: str) -> None:
    def move(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name.endswith("model.plan"):
            member.name = name
        return member, content

    with pytest.raises(Problem, match="refused"):
        receive(rewritten(archive, move), tmp_path / "to")
    assert is_empty(tmp_path / "to")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_only_plain_files_are_taken(archive: Path, tmp_path: Path, kind: bytes) -> None:
    def turn(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name.endswith("model.plan"):
            member.type, member.linkname = kind, "/etc/passwd"
        return member, content

    with pytest.raises(Problem, match="refused"):
        receive(rewritten(archive, turn), tmp_path / "to")
    assert is_empty(tmp_path / "to")


def test_an_altered_file_is_refused_and_nothing_is_imported(archive: Path, tmp_path: Path) -> None:
    def alter(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        return member, content.replace(b"plan", b"PLAN", 1) if member.name.endswith("model.plan") else content

    with pytest.raises(Problem, match=r"model\.plan was altered: its digest is"):
        receive(rewritten(archive, alter), tmp_path / "to")
    assert is_empty(tmp_path / "to")


def test_an_engine_under_another_digest_is_refused(archive: Path, tmp_path: Path) -> None:
    def rename(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        member.name = "f" * 64 + member.name[64:]
        return member, content

    with pytest.raises(Problem, match=r"twice|altered"):
        receive(rewritten(archive, rename), tmp_path / "to")
    assert is_empty(tmp_path / "to")


def test_a_missing_sidecar_and_a_huge_one_are_refused(archive: Path, tmp_path: Path) -> None:
    def grow(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        return member, b" " * (2 << 20) if member.name.endswith(SIDECAR) else content

    with pytest.raises(Problem, match="a sidecar of 2097152 bytes"):
        receive(rewritten(archive, grow), tmp_path / "to")

    def misname(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        member.name = member.name.replace(SIDECAR, "other.json")
        return member, content

    with pytest.raises(Problem, match=r"cannot read [0-9a-f]{64}/engine\.json"):
        receive(rewritten(archive, misname), tmp_path / "to")
    assert is_empty(tmp_path / "to")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_archive_is_refused(archive: Path, tmp_path: Path, share: float) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(Problem):
        receive(archive, tmp_path / "to")
    assert is_empty(tmp_path / "to")


def test_garbage_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "garbage").write_bytes(b"\x93garbage" * 500)
    with pytest.raises(Problem, match="no tar file"):
        receive(tmp_path / "garbage", tmp_path / "to")

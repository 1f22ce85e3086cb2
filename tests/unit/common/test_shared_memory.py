"""Too little shared memory stops start-up with one line; little of it is a warning."""

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from services.common.server import StartupError
from services.common.shared_memory import check_shared_memory


@pytest.fixture
def sized(monkeypatch: pytest.MonkeyPatch):
    def size(mib: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=mib << 20))

    return size


def test_too_little_names_the_setting(sized, tmp_path):
    sized(1)
    with pytest.raises(StartupError, match=r"has 1 MiB, Triton takes (at least )?64: set shm_size") as error:
        check_shared_memory(tmp_path)
    assert "\n" not in str(error.value)


def test_none_at_all_is_too_little():
    with pytest.raises(StartupError, match="has 0 MiB"):
        check_shared_memory(Path("/nowhere"))


@pytest.mark.parametrize(("mib", "warnings"), [(64, 1), (256, 0)])
def test_little_is_a_warning(sized, tmp_path, caplog, mib, warnings):
    sized(mib)
    with caplog.at_level(logging.WARNING):
        check_shared_memory(tmp_path)
    assert len(caplog.records) == warnings

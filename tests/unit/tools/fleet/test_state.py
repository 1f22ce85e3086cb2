import os

import pytest

from tools.fleet.state import FleetState, ProcessState, StateFile, alive, created


@pytest.fixture
def state_file(tmp_path):
    return StateFile(tmp_path)


def own_state():
    return FleetState(os.getpid(), created(os.getpid()), [ProcessState("gateway", "127.0.0.1", 8001, 8000, 8002)])


def test_what_is_written_is_read_back(state_file):
    state_file.write(own_state())
    assert state_file.read() == own_state()
    assert state_file.running() == own_state()


def test_a_reused_pid_is_not_the_supervisor(state_file):
    state = own_state()
    state.created -= 100
    state_file.write(state)
    assert state_file.running() is None


def test_a_process_that_is_gone_is_not_alive():
    assert created(2**22 + 1) is None
    assert not alive(2**22 + 1, 1.0)
    assert not alive(None, None)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"pid": "many"}'])
def test_a_damaged_file_is_no_fleet(state_file, damage):
    state_file.path.write_bytes(damage)
    assert state_file.running() is None


def test_only_one_holds_the_lock(state_file):
    with state_file.locked() as ours, StateFile(state_file.path.parent).locked() as theirs:
        assert (ours, theirs) == (True, False)
    with state_file.locked() as again:
        assert again

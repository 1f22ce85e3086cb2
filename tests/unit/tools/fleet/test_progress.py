import io

import pytest
from rich.console import Console

from tools.fleet.health import Health, Phase
from tools.fleet.progress import Progress, duration
from tools.fleet.state import ProcessState
from tools.fleet.summary import print_summary

GATEWAY = ProcessState("gateway", "0.0.0.0", 9001, 9000, 9002, pid=1)


@pytest.mark.parametrize(("seconds", "expected"), [(5.9, "5s"), (64, "1m04s"), (3720, "1h02m")])
def test_durations(seconds, expected):
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        (Health(GATEWAY, ready=True), "ready"),
        (Health(GATEWAY), "starting"),
        (Health(GATEWAY, phases=[Phase(name="load", state="running")]), "load"),
        (Health(GATEWAY, message="waits for embedding"), "waits for embedding"),
        (Health(ProcessState("asr", "h", 1, 2, pid=1, stopping=True)), "draining"),
        (Health(ProcessState("asr", "h", 1, 2, stopping=True)), "stopped"),
    ],
)
def test_the_state_in_a_few_words(health, expected):
    assert health.summary == expected


def test_without_a_terminal_each_change_is_one_line():
    console = Console(file=io.StringIO())
    with Progress(console, "Starting") as progress:
        progress.update([Health(GATEWAY)])
        progress.update([Health(GATEWAY)])
        progress.update([Health(GATEWAY, ready=True)])
    assert console.file.getvalue().splitlines() == ["Starting", "  gateway: starting (0 s)", "  gateway: ready (0 s)"]


def test_a_terminal_sees_the_phases():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Progress(console, "Starting") as progress:
        progress.update([Health(GATEWAY, phases=[Phase(name="load", state="done", seconds=1.25)])])
        progress.update([Health(GATEWAY, ready=True)], line=True)
    assert "load 1.2 s" in console.file.getvalue()
    assert "Ctrl-C drains" in console.file.getvalue()


def test_the_requests_name_the_ports_of_this_fleet():
    console = Console(file=io.StringIO(), width=200)
    print_summary(console, [ProcessState("embedding", "127.0.0.1", 50062, 9062), GATEWAY], "python3")
    text = console.file.getvalue()
    assert "curl http://127.0.0.1:9000/v1/embeddings" in text
    assert 'insecure_channel("127.0.0.1:9001")' in text
    assert "127.0.0.1:9002/metrics" in text

import asyncio
import logging
import os
import signal

import pytest

from services.common.errors import Kind, ServiceError
from services.common.health import Health
from services.common.server import Lifecycle, StartupError
from services.common.settings import CommonSettings
from tests.waiting import until


class Listener:
    def __init__(self):
        self.events = []

    async def start(self):
        self.events.append("start")

    async def stop(self, grace):
        self.events.append("stop")


@pytest.fixture
def lifecycle(telemetry):
    settings = CommonSettings(drain_propagation_seconds=0)
    return Lifecycle(settings, Health.of(("s",), ("load",)), telemetry)


@pytest.mark.parametrize(
    "error", [StartupError("no model"), ServiceError(Kind.INTERNAL, "no model"), OSError(2, "no model", "/x")]
)
async def test_a_start_that_fails_is_one_line_and_exit_1(lifecycle, caplog, error):
    async def start():
        raise error

    assert await lifecycle.run(("127.0.0.1", 0), start) == 1
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "cannot start" in record.getMessage()
    assert "no model" in record.getMessage()
    assert record.exc_info is None


async def test_an_unexpected_failure_is_logged_and_exit_1(lifecycle, caplog):
    async def start():
        raise ZeroDivisionError

    assert await lifecycle.run(("127.0.0.1", 0), start) == 1
    assert any(record.exc_info for record in caplog.records)


async def test_sigterm_drains_in_order(lifecycle):
    listener = Listener()

    async def start():
        with lifecycle.health.phase("load"):
            lifecycle.closing.callback(lambda: listener.events.append("closed"))
        return [listener]

    async def terminate():
        await until(lambda: lifecycle.health.ready)
        os.kill(os.getpid(), signal.SIGTERM)

    terminating = asyncio.ensure_future(terminate())
    assert await lifecycle.run(("127.0.0.1", 0), start) == 0
    await terminating
    assert listener.events == ["start", "stop", "closed"]
    assert lifecycle.refusing
    assert not lifecycle.health.ready

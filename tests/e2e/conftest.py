"""One fleet for a module, started by the command a user has, on free ports."""

from collections.abc import AsyncIterator

import pytest

from tools.fleet.private import PrivateFleet, private_fleet


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrivateFleet]:
    async with private_fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running

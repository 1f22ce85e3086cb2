import pytest

from services.vision import decoding
from tests.unit.common.conftest import telemetry

__all__ = ["configured", "telemetry"]


@pytest.fixture(autouse=True)
def configured() -> None:
    decoding.configure()

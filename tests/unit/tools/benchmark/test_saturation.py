import pytest

from tools.benchmark import saturation
from tools.benchmark.generator import Measurement
from tools.benchmark.saturation import Plan, Reading, Share, requests_for
from tools.cli.console import Problem
from tools.cli.saturation_table import saturation_table

PLAN = Plan("embedding", clients=8, trials=8, hold=30)


class Service:
    """Sustains so many requests a second; the gauge reads what it is told to."""

    def __init__(self, sustained, reads=lambda share: share):
        self.sustained, self._reads = sustained, reads
        self.met = self.missed = 0.0
        self.rate = 0.0

    async def quiet(self):
        self.rate = 0.0

    async def calls(self):
        return self.met, self.missed

    async def read(self, began):
        share = self.rate / self.sustained
        return Reading(0.0, self._reads(share), share, 1.0, min(1.0, 1.5 * share))

    async def measure(self, job):
        self.rate = job.arrivals or 1.2 * self.sustained
        good = min(1.0, self.sustained / self.rate)
        self.met += good * 100
        self.missed += (1 - good) * 100
        return Measurement(latencies=[0.1] * round(self.rate * job.seconds), seconds=job.seconds)


@pytest.fixture
def harness(monkeypatch):
    def make(service):
        monkeypatch.setattr(saturation, "measure", service.measure)
        return saturation._Harness(PLAN, "http://127.0.0.1:1", [], service, lambda _: None)

    return make


async def test_capacity_is_found_to_a_few_percent(harness):
    trials = []
    found = await harness(Service(100)).capacity(trials)
    assert 97 <= found <= 106  # 95 % in time are enough
    assert len(trials) == PLAN.trials


@pytest.mark.parametrize(("more", "grows"), [(0.0, False), (0.01, False), (0.05, True)])
def test_a_queue_that_grows_is_seen_before_calls_are_late(more, grows):
    latencies = [1.0 + more * number / 10 for number in range(450)]  # ten a second
    assert (saturation._growth(latencies, 45.0) > saturation.GROWTH) is grows


async def test_a_service_that_sustains_nothing_is_said(harness):
    with pytest.raises(Problem, match="no request succeeded"):
        await harness(Service(1e-9)).capacity([])


def readings(values):
    return [Reading(float(at), value, 1.0, 1.0, 0.8) for at, value in enumerate(values)]


@pytest.mark.parametrize(
    ("share", "value", "met"),
    [(0.5, 0.5, True), (0.5, 0.3, False), (1.0, 0.95, True), (1.0, 1.2, False), (2.0, 1.9, True), (2.0, 1.4, False)],
)
def test_the_gauge_is_held_to_its_bounds_after_fifteen_seconds(share, value, met):
    rising = [value * at / 15 for at in range(15)]
    assert Share(share, 10.0, readings(rising + [value] * 15)).met is met


def test_a_gauge_that_is_late_does_not_count_as_right():
    assert not Share(1.0, 10.0, readings([0.5] * 17 + [1.0] * 10)).met


def test_no_reading_is_no_success():
    assert not Share(1.0, 10.0, []).met


def test_the_table_says_what_was_read_and_wanted():
    result = saturation.Result("embedding", 10.0, [(10.0, 1.0, True)], [Share(1.0, 10.0, readings([1.0] * 20), 0.99)])
    columns = [list(column.cells) for column in saturation_table(result).columns]
    assert [cells[0] for cells in columns] == [
        *("1 x", "10", "1.00", "1.00", "1.00", "1.00", "0.9 to 1.1", "yes", "80%", "99%"),
    ]


def test_a_service_without_the_gauge_is_said():
    with pytest.raises(Problem, match="there is no service gateway"):
        requests_for("gateway", "")

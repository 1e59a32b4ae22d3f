"""An interlock made of a monitor opens for whatever is wrong with the reading, and for nothing else."""

import math

import pytest

from drivers import DeviceTimeout, Identity, Ok, OpenContext, OptionError, Reading, RoleError, Trip, open_device
from drivers.interlocks.limit import LimitInterlock, LimitOptions
from drivers.options import parse
from drivers.registry import check_options
from drivers.testing import InterlockContract

PANEL = {"rows": 96, "cols": 128}
MOCK = {"slm": PANEL, "display": PANEL}
THERMOMETER = {"monitor": "mock.monitor", "monitor_options": {"quantity": "temperature"}, "unit": "degC"}


def opened(**options):
    return open_device("limit.interlock", "chiller", {**THERMOMETER, **options}, OpenContext({"mock": MOCK}))


class TestMockThermometerAsInterlock(InterlockContract):
    def open(self):
        return opened(low=-50, high=100)

    def trip(self):
        return opened(high=-50)


class Scripted:
    """A monitor that reads what it is told."""

    unit = "W"

    def __init__(self):
        self.name, self.value, self.at_s, self.error, self.is_closed = "power", 1.0, 0.0, None, False

    def read(self, timeout_s=2.0):
        if self.error:
            raise self.error
        return Reading(self.value, self.unit, self.at_s)

    def identify(self):
        return Identity("Acme", "P", "1")

    def safe_state(self, timeout_s=5.0):
        pass

    def close(self):
        self.is_closed = True


@pytest.fixture
def monitor():
    return Scripted()


@pytest.fixture
def clock(monkeypatch):
    """The host's clock, in a list of one number [s]."""
    now_s = [100.0]
    monkeypatch.setattr("drivers.interlocks.limit.time.monotonic", lambda: now_s[0])
    return now_s


def watching(monitor, **limits):
    options = parse(LimitOptions, {"monitor": "acme", "unit": "W", **limits}, "devices.limit")
    return LimitInterlock("limit", monitor, options)


@pytest.mark.parametrize(
    ("value", "is_closed"),
    [(0.5, True), (2.0, True), (0.49, False), (2.01, False), (math.nan, False), (math.inf, False), (-math.inf, False)],
)
def test_light_may_be_on_within_the_limits_only(monitor, value, is_closed):
    monitor.value = value
    answer = watching(monitor, low=0.5, high=2).check()
    assert isinstance(answer, Ok if is_closed else Trip)


@pytest.mark.parametrize("error", [DeviceTimeout("power does not answer"), OSError("unplugged")])
def test_reading_that_fails_opens_it_and_one_that_works_closes_it_again(monitor, error):
    interlock = watching(monitor, high=2)
    monitor.error = error
    answer = interlock.check()
    assert isinstance(answer, Trip)
    assert str(error) in answer.reason
    monitor.error = None
    assert interlock.check() == Ok()


def test_reading_whose_time_stands_still_opens_it(monitor, clock):
    interlock = watching(monitor, high=2, stale_s=10)
    assert interlock.check() == Ok()
    clock[0] += 9.0
    assert interlock.check() == Ok()
    clock[0] += 2.0
    answer = interlock.check()
    assert isinstance(answer, Trip)
    assert "stale" in answer.reason
    monitor.at_s = 1.0
    assert interlock.check() == Ok()


def test_unit_that_changes_opens_it(monitor):
    interlock = watching(monitor, high=2)
    monitor.unit = "dBm"
    assert isinstance(interlock.check(), Trip)


def test_monitor_is_closed_with_it(monitor):
    with watching(monitor, high=2):
        pass
    assert monitor.is_closed


def test_monitor_in_another_unit_is_refused_and_closed():
    context = OpenContext({"mock": MOCK})
    with pytest.raises(RoleError, match="another unit"):
        open_device("limit.interlock", "chiller", {**THERMOMETER, "unit": "K", "high": 300}, context)
    assert context.resources.held() == ()


def test_backend_that_is_no_monitor_is_refused():
    with pytest.raises(RoleError):
        opened(monitor="mock.camera", monitor_options={}, high=1)


@pytest.mark.parametrize("limits", [{}, {"low": 2, "high": 1}, {"high": 1, "stale_s": 0}])
def test_limits_that_make_no_sense_are_refused(limits):
    with pytest.raises(OptionError):
        opened(**limits)


def test_mistake_in_the_monitors_options_is_found_without_opening_it():
    options = {**THERMOMETER, "monitor_options": {"quantity": "colour"}, "high": 1}
    with pytest.raises(OptionError):
        check_options("limit.interlock", "interlock", options, OpenContext({"mock": MOCK}))

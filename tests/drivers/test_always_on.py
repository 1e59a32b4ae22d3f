"""A light that no program can switch is a light source that keeps every promise but darkness, and says so."""

import pytest

from drivers import CapabilityError, LightSource, OpenContext, OptionError, find_backend, open_device, open_role
from drivers.testing import DeviceContract


def opened(**options):
    return open_device("always-on", "source", {"lamp": "halogen lamp", **options}, OpenContext())


class TestAlwaysOn(DeviceContract):
    protocol = LightSource

    def open(self):
        return opened()

    def use(self, device):
        return device.on()


def test_it_fills_the_role_of_a_source():
    assert open_role("always-on", "source", "source", {}, OpenContext()).is_on


@pytest.mark.parametrize("dark_by", ["nothing", "modulators"])
def test_it_never_says_that_it_is_off(dark_by):
    with opened(dark_by=dark_by) as lamp:
        assert lamp.is_on
        lamp.on()
        lamp.safe_state()
        assert lamp.is_on
        assert lamp.snapshot()["is_on"] is True


def test_off_is_refused_and_says_what_to_do():
    with opened() as lamp, pytest.raises(CapabilityError, match="cannot be switched off by a program") as refusal:
        lamp.off()
    assert "dark_by" in refusal.value.hint
    assert refusal.value.safe == "the light is on"


def test_blank_panels_serve_as_dark_where_the_station_says_so():
    with opened(dark_by="modulators") as lamp:
        lamp.off()
        assert lamp.is_on
        assert lamp.snapshot()["dark_by"] == "modulators"


def test_what_serves_as_dark_is_one_of_two_things():
    with pytest.raises(OptionError):
        opened(dark_by="hope")


def test_backend_warns():
    assert "cannot be switched off" in find_backend("always-on").warning

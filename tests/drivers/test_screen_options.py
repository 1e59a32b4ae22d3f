"""Options of the full-screen display, and how it packs levels; the display itself is tried in tests/endpoints."""

from __future__ import annotations

import numpy as np
import pytest

from drivers import DeviceFacts, OpenContext, OptionError
from drivers.modulators.screen import SCREEN, pack
from drivers.options import parse


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"monitor": 1},
        {"monitor": "HDMI-1", "packing": "rgb10"},
        {"monitor": "HDMI-1", "shape": []},
        {"monitor": "HDMI-1", "shape": [1080]},
        {"monitor": "HDMI-1", "shape": [0, 1920]},
        {"monitor": "HDMI-1", "shape": "1080x1920"},
        {"monitor": "HDMI-1", "settle_s": 0},
        {"monitor": "HDMI-1", "serial": 60},
        {"monitor": "HDMI-1", "number": 2},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(OptionError):
        parse(SCREEN.options, options, "devices.slm")


def test_what_is_known_without_opening():
    def known(**options):
        return SCREEN.describe(parse(SCREEN.options, {"monitor": "HDMI-1", **options}, "devices.slm"), OpenContext())

    assert known(shape=[1200, 1920], packing="rgb334") == DeviceFacts((1200, 1920), levels=1024)
    assert known() == DeviceFacts(levels=256)


def test_gray_levels_are_bytes_of_one_channel():
    levels = np.arange(256).reshape(16, 16)
    assert np.array_equal(pack(levels, "gray8"), levels)
    assert pack(levels, "gray8").dtype == np.uint8


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, np.uint8])
def test_ten_bits_go_to_the_high_bits_of_three_channels(dtype):
    levels = np.array([[0, 1, 15, 16, 127, 128, 726 % 256, 255]], dtype)
    if dtype is not np.uint8:
        levels = np.concatenate([levels, np.array([[726, 1023]], dtype)], axis=1)
    red, green, blue = (part.astype(int) for part in np.moveaxis(pack(levels, "rgb334"), 2, 0))
    assert np.array_equal((red >> 5) << 7 | (green >> 5) << 4 | blue >> 4, levels)


def test_bits_of_one_level():
    """726 is 0b101_101_0110: 5 of 8 in red, 5 of 8 in green, 6 of 16 in blue."""
    assert pack(np.array([[726]]), "rgb334").tolist() == [[[5 << 5, 5 << 5, 6 << 4]]]


def test_no_monitors_are_found_where_there_is_no_session(monkeypatch):
    monkeypatch.setenv("DISPLAY", "")
    monkeypatch.setenv("WAYLAND_DISPLAY", "")
    assert SCREEN.discover() == []

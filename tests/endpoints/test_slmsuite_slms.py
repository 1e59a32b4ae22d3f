"""slmsuite's SLM classes: its simulated one, its window on a monitor, and its panel of mirrors on a monitor."""

from __future__ import annotations

import sys
import threading
import time
import types
from typing import Any

import numpy as np
import pytest
from processes import LIMIT_S

from drivers import (
    CapabilityError,
    DeviceProtocolError,
    DeviceTimeout,
    NotConnected,
    OpenContext,
    OptionError,
    open_device,
)
from drivers.libraries.loading import load
from drivers.testing import ModulatorContract, require_module

INSTALL = "pip install labctl[endpoints]"


@pytest.fixture(autouse=True)
def slmsuite_is_there() -> None:
    require_module("slmsuite", INSTALL)


def slm(target: str, arguments: dict[str, Any], **options: Any) -> Any:
    table = {"target": target, "arguments": arguments, **options}
    return open_device("slmsuite.slm", "slm", table, OpenContext())


class TestSimulated(ModulatorContract):
    def open(self) -> Any:
        return slm("simulated", {"resolution": [256, 128], "bitdepth": 10}, settle_s=0.02)

    def test_levels_go_out_as_they_are(self, device: Any) -> None:
        levels = np.arange(128 * 256).reshape(128, 256) % 1024
        device.show(levels)
        assert np.array_equal(device._slm.display, levels)

    def test_a_correction_of_the_wavefront_is_not_applied(self, device: Any) -> None:
        device._slm.source["phase"] = np.full(device.shape, 1.0)
        device.show(np.full(device.shape, 700, np.uint16))
        assert np.all(device._slm.display == 700)

    def test_panel_without_a_time_to_settle_is_refused(self) -> None:
        with pytest.raises(CapabilityError, match="settle"):
            slm("simulated", {"resolution": [256, 128]})

    def test_graphics_card_is_refused(self) -> None:
        with pytest.raises(CapabilityError, match="memory"):
            slm("simulated", {"resolution": [256, 128], "gpu": True}, settle_s=0.02)


class TestOwnClass(ModulatorContract):
    """A class of one's own, by its path; made here, so that slmsuite is not imported where it is not installed."""

    @pytest.fixture(autouse=True)
    def own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        simulated = load("slmsuite.hardware.slms.simulated:SimulatedSLM")
        self.hangs, self.wrong = threading.Event(), False

        class Own(simulated):  # type: ignore[misc]
            def _set_phase_hw(slf, display: np.ndarray) -> None:
                while self.hangs.is_set():
                    time.sleep(0.01)
                if self.wrong:
                    slf.display = display + 1

            def set_phase(slf, *arguments: Any, **named: Any) -> Any:
                super().set_phase(*arguments, **named)
                return slf.display

        module = types.ModuleType("my_slm")
        module.MySlm = Own  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "my_slm", module)

    def open(self) -> Any:
        return slm("my_slm:MySlm", {"resolution": [256, 128]}, settle_s=0.02)

    def test_a_panel_that_hangs_times_out_and_goes_on(self, device: Any) -> None:
        self.hangs.set()
        began_s = time.monotonic()
        for _ in range(2):
            with pytest.raises(DeviceTimeout):
                device.show(np.zeros(device.shape, np.uint8), 0.3)
        assert time.monotonic() - began_s < LIMIT_S
        self.hangs.clear()
        assert device.show(np.ones(device.shape, np.uint8), 5.0).frame_id == 1

    def test_a_panel_that_hangs_can_be_closed(self) -> None:
        device = self.open()
        self.hangs.set()
        began_s = time.monotonic()
        with pytest.raises(DeviceTimeout):
            device.close()
        assert time.monotonic() - began_s < LIMIT_S
        self.hangs.clear()
        device.close()

    def test_levels_that_change_on_their_way_are_refused(self, device: Any) -> None:
        self.wrong = True
        with pytest.raises(DeviceProtocolError, match="other gray levels"):
            device.blank()
        self.wrong = False

    def test_arguments_that_the_class_does_not_take_are_refused(self) -> None:
        with pytest.raises(NotConnected, match="color"):
            slm("my_slm:MySlm", {"resolution": [256, 128], "color": 1}, settle_s=0.02)

    def test_class_that_does_not_exist_is_refused(self) -> None:
        with pytest.raises(NotConnected, match="import"):
            slm("my_slm:YourSlm", {})
        with pytest.raises(NotConnected, match="import"):
            slm("no_such_module:Slm", {})


@pytest.mark.usefixtures("second_monitor")
class TestScreenMirrored(ModulatorContract):
    @pytest.fixture(autouse=True)
    def pyglet_is_there(self) -> None:
        require_module("pyglet", INSTALL)

    def open(self) -> Any:
        return slm("screenmirrored", {"display_number": 1, "pitch_um": [8.0, 8.0]}, settle_s=0.05)

    def test_the_monitor_shows_every_level_exactly(self, device: Any) -> None:
        require_module("mss", INSTALL)
        assert device.shape == (1080, 1920)
        levels = (np.add.outer(np.arange(1080), np.arange(1920)) % 256).astype(np.uint8)
        for shown in (levels, levels[::-1, ::-1]):
            device.show(shown, 10.0)
            assert np.array_equal(_grabbed(), np.repeat(shown[:, :, None], 3, axis=2))

    def test_monitor_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(NotConnected, match="display"):
            slm("screenmirrored", {"display_number": 7}, settle_s=0.05)


def _grabbed() -> np.ndarray:
    """(1080, 1920, 3) uint8: what the second monitor shows."""
    import mss

    with mss.MSS() as grabber:
        shot = grabber.grab({"left": 1280, "top": 0, "width": 1920, "height": 1080})
    return np.asarray(shot)[:, :, :3]


def test_unknown_family_is_refused_with_those_that_exist() -> None:
    with pytest.raises(OptionError) as refused:
        slm("holoeey", {})
    assert "holoeye" in refused.value.expected


@pytest.mark.usefixtures("second_monitor")
class TestTexasInstruments(ModulatorContract):
    """540 × 960 mirrors, each held by 2 × 2 electrodes, which are pixels of a monitor. No controller is used."""

    @pytest.fixture(autouse=True)
    def libraries_are_there(self) -> None:
        require_module("pyglet", INSTALL)
        require_module("yaml", INSTALL)

    def open(self) -> Any:
        return slm("texasinstruments", {"model_name": "p47", "display_number": 1}, settle_s=0.01)

    def test_the_monitor_shows_the_electrodes_of_each_level(self, device: Any) -> None:
        require_module("mss", INSTALL)
        assert (device.shape, device.levels) == ((540, 960), 16)
        levels = np.add.outer(np.arange(540), np.arange(960)) % 16
        device.show(levels, 10.0)
        # The memory cell of each level, and the electrode that each of its bits drives: from the maker's table.
        memory = np.array([3, 2, 1, 7, 0, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12])[levels]
        electrodes = np.empty((1080, 1920), np.uint8)
        for bit, (row, column) in {2: (0, 0), 3: (0, 1), 0: (1, 0), 1: (1, 1)}.items():
            electrodes[row::2, column::2] = 255 * (memory >> bit & 1)
        assert np.array_equal(_grabbed(), np.repeat(electrodes[:, :, None], 3, axis=2))

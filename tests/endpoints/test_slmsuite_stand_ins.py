"""slmsuite's classes for panels whose vendors' libraries cannot be had here, on stand-ins for these: contract fakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_ins import Hamamatsu, Holoeye, Meadowlark, Santec

from drivers import DeviceError, NotConnected, OpenContext, open_device
from drivers.testing import ModulatorContract, require_module


@pytest.fixture(autouse=True)
def slmsuite_is_there() -> None:
    require_module("slmsuite", "pip install labctl[endpoints]")


def slm(target: str, arguments: dict[str, Any]) -> Any:
    table = {"target": target, "arguments": arguments, "settle_s": 0.05}
    return open_device("slmsuite.slm", "slm", table, OpenContext())


class OnAStandIn(ModulatorContract):
    library: Any

    def test_it_says_that_it_is_a_fake(self, device: Any) -> None:
        assert "contract fake" in device.identify().vendor

    def test_every_level_arrives_as_it_is(self, device: Any) -> None:
        levels = np.arange(np.prod(device.shape)).reshape(device.shape) % device.levels
        for shown in (levels, levels[::-1, ::-1], np.asfortranarray(levels)):
            device.show(shown)
            assert np.array_equal(self.library.shown, shown)

    def test_the_panel_is_blank_after_closing(self) -> None:
        device = self.open()
        device.show(np.full(device.shape, device.levels - 1, np.uint16))
        device.close()
        assert not self.library.shown.any()

    def test_a_frame_that_the_library_refuses_is_an_error(self, device: Any) -> None:
        self.library.refuse = True
        with pytest.raises(DeviceError):
            device.show(np.zeros(device.shape, np.uint8))
        self.library.refuse = False
        assert device.blank().frame_id == 1


class TestHoloeye(OnAStandIn):
    @pytest.fixture(autouse=True)
    def stand_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.library = Holoeye(monkeypatch)

    def open(self) -> Any:
        return slm("holoeye", {"preselect": "serial:0001", "wav_um": 0.633})

    def test_the_wavelength_reaches_the_panel(self, device: Any) -> None:
        assert self.library.wavelength_nm == 633.0


class TestSantec(OnAStandIn):
    @pytest.fixture(autouse=True)
    def stand_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.library = Santec(monkeypatch)

    def open(self) -> Any:
        return slm("santec", {"slm_number": 1, "display_number": 2, "wav_um": 0.633})

    def test_the_phase_table_is_that_of_the_wavelength(self, device: Any) -> None:
        assert self.library.wavelength_nm == 633
        assert device.levels == 1024


class TestHamamatsu(OnAStandIn):
    @pytest.fixture(autouse=True)
    def stand_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.library = Hamamatsu(monkeypatch)

    def open(self) -> Any:
        return slm("hamamatsu", {"serial_number": "FAKE000001", "wav_um": 0.633})

    def test_another_serial_number_is_refused(self) -> None:
        with pytest.raises(NotConnected, match="LSH0803"):
            slm("hamamatsu", {"serial_number": "LSH0803"})


class TestMeadowlark(OnAStandIn):
    @pytest.fixture(autouse=True)
    def stand_in(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.library = Meadowlark(monkeypatch, tmp_path)

    def open(self) -> Any:
        return slm("meadowlark", {**self.library.arguments, "wav_um": 0.633})

    def test_the_lookup_table_is_the_one_asked_for(self, device: Any) -> None:
        assert self.library.lut == str(self.library.lut_path).encode()

    def test_a_lookup_table_that_does_not_load_is_refused(self) -> None:
        self.library.lut_loads = False
        with pytest.raises(NotConnected, match="lookup table"):
            self.open()

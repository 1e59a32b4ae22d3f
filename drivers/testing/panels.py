"""The contract of modulators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drivers.errors import CapabilityError
from drivers.protocols import Modulator, SequencePanel, ShowReceipt
from drivers.testing.contract import DeviceContract


class ModulatorContract(DeviceContract):
    """SLMs and displays."""

    protocol = Modulator

    def use(self, device: Any) -> object:
        return device.blank()

    def test_receipts_count_frames_from_one(self, device: Any) -> None:
        receipts = [device.show(np.zeros(device.shape, np.uint8)), device.blank()]
        assert all(isinstance(receipt, ShowReceipt) for receipt in receipts)
        assert [receipt.frame_id for receipt in receipts] == [1, 2]
        assert receipts[0].shown_at_s <= receipts[1].shown_at_s

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int64])
    def test_any_integer_type_is_shown(self, device: Any, dtype: Any) -> None:
        highest = min(device.levels - 1, int(np.iinfo(dtype).max))
        levels = (np.arange(np.prod(device.shape)) % (highest + 1)).reshape(device.shape).astype(dtype)
        levels[-1, -1] = highest
        device.show(levels)

    def test_another_shape_is_refused(self, device: Any) -> None:
        rows, cols = device.shape
        with pytest.raises(CapabilityError) as error:
            device.show(np.zeros((rows + 1, cols), np.uint8))
        assert error.value.expected
        assert error.value.seen

    @pytest.mark.parametrize("dtype", [np.float64, bool])
    def test_levels_that_are_not_integers_are_refused(self, device: Any, dtype: Any) -> None:
        with pytest.raises(CapabilityError):
            device.show(np.zeros(device.shape, dtype))

    @pytest.mark.parametrize("beyond", [-1, 0])
    def test_levels_out_of_range_are_refused(self, device: Any, beyond: int) -> None:
        levels = np.zeros(device.shape, np.int64)
        levels[0, 0] = -1 if beyond < 0 else device.levels
        with pytest.raises(CapabilityError):
            device.show(levels)

    def test_settling_and_refresh_are_known(self, device: Any) -> None:
        assert device.settle_s > 0
        assert device.refresh_hz > 0
        assert device.levels >= 2


class SequencePanelContract(ModulatorContract):
    """Modulators that play a list."""

    protocol = SequencePanel

    def test_a_list_counts_each_of_its_patterns(self, device: Any) -> None:
        patterns = [np.full(device.shape, level, np.uint16) for level in (0, device.levels - 1, 0)]
        receipt = device.show_sequence(patterns, 2)
        assert isinstance(receipt, ShowReceipt)
        assert receipt.frame_id == 1
        assert device.show(patterns[0]).frame_id == 4

    @pytest.mark.parametrize(("patterns", "frames_each"), [(0, 1), (1, 0)])
    def test_impossible_list_is_refused(self, device: Any, patterns: int, frames_each: int) -> None:
        with pytest.raises(CapabilityError):
            device.show_sequence([np.zeros(device.shape, np.uint8)] * patterns, frames_each)

    def test_list_that_is_too_long_is_refused(self, device: Any) -> None:
        with pytest.raises(CapabilityError):
            device.show_sequence([np.zeros(device.shape, np.uint8)] * (device.sequence_max + 1), 1)

    def test_list_with_a_level_out_of_range_is_refused_whole(self, device: Any) -> None:
        patterns = [np.full(device.shape, level, np.int64) for level in (0, device.levels)]
        with pytest.raises(CapabilityError):
            device.show_sequence(patterns, 1)
        assert device.blank().frame_id == 1

"""The contract of cameras."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest

from drivers.errors import CapabilityError, DeviceProtocolError, DeviceTimeout
from drivers.protocols import Camera, FrameBlock, Restorable, Roi, TriggeredCamera, TriggerMode, can
from drivers.testing.contract import DeviceContract

FETCH_S = 60.0
"""In which the few frames that a test asks for have come: a machine that has more to do takes several times as long as
one that has not, and a network loses frames then [s]."""


class CameraContract(DeviceContract):
    """Cameras.

    Attributes
    ----------
    roi
        A small region that the camera can be set to.
    period_tolerance_rel
        How far the time between two exposures may be from ``frame_period_s``, relative. Only a camera whose exposures
        are paced by the host's software needs more than this [1].
    exposure_is_fixed
        The camera has no exposure that can be set: it must say one value, and refuse every other.
    """

    protocol = Camera
    roi = Roi(16, 8, 64, 32)
    period_tolerance_rel = 0.05
    exposure_is_fixed = False

    def use(self, device: Any) -> object:
        return device.arm(1)

    def now_s(self, camera: Any) -> float | None:
        """The time on the clock that stamps the frames, or None where the test cannot read it [s]."""
        return None

    def expose(self, camera: Any, exposure_s: float) -> None:
        """Set the exposure where the camera's can be set."""
        if not self.exposure_is_fixed:
            camera.exposure_s = exposure_s

    @pytest.fixture
    def camera(self, device: Any) -> Any:
        device.roi = self.roi
        return device

    def test_roi_is_the_full_sensor_at_opening(self, device: Any) -> None:
        assert (device.roi.x, device.roi.y, *device.roi.shape) == (0, 0, *device.shape)

    def test_roi_reads_back(self, camera: Any) -> None:
        assert camera.roi == self.roi

    @pytest.mark.parametrize("off", [Roi(-16, 0, 64, 32), Roi(0, 0, 100_000, 32), Roi(0, 0, 64, 0)])
    def test_roi_off_the_sensor_is_refused(self, camera: Any, off: Roi) -> None:
        with pytest.raises(CapabilityError):
            camera.roi = off
        assert camera.roi == self.roi

    def test_exposure_reads_back_what_the_device_made_of_it(self, camera: Any) -> None:
        if self.exposure_is_fixed:
            fixed_s = camera.exposure_s
            with pytest.raises(CapabilityError):
                camera.exposure_s = 0.9 * fixed_s
            camera.exposure_s = fixed_s
            assert camera.exposure_s == fixed_s
        else:
            camera.exposure_s = 0.0051234
            assert camera.exposure_s == pytest.approx(0.0051234, rel=0.01)
        assert camera.frame_period_s >= camera.exposure_s

    @pytest.mark.parametrize("exposure_s", [0.0, -1.0, 1e9])
    def test_exposure_out_of_range_is_refused(self, camera: Any, exposure_s: float) -> None:
        with pytest.raises(CapabilityError):
            camera.exposure_s = exposure_s

    def test_where_settings_can_be_restored_only_what_differs_is_applied(self, camera: Any) -> None:
        restorable: bool = can(camera, Restorable)
        if not restorable:
            return
        self.expose(camera, 0.004)
        before = json.loads(json.dumps(camera.snapshot()))
        self.expose(camera, 0.005)
        changed = set() if self.exposure_is_fixed else {"exposure_s"}
        assert set(camera.restore(before)) == changed
        self.expose(camera, 0.005)
        camera.roi = Roi(0, 0, *camera.shape[::-1])
        assert set(camera.restore(before)) == {"roi_px", *changed}
        assert camera.roi == self.roi
        assert camera.exposure_s == pytest.approx(before["exposure_s"], rel=1e-6)
        camera.arm(1)
        with pytest.raises(DeviceProtocolError):
            camera.restore(before)

    def test_sequence_comes_complete(self, camera: Any) -> None:
        camera.arm(3)
        block = camera.fetch(FETCH_S)
        assert isinstance(block, FrameBlock)
        assert block.frames.shape == (3, *camera.roi.shape)
        assert block.frames.dtype == np.uint16
        assert block.frames.max() < 2**camera.bit_depth
        assert block.dropped == 0
        assert np.array_equal(np.diff(block.sequence), [1, 1])
        assert block.device_sequence.shape == (3,)
        assert np.diff(block.device_time_s) == pytest.approx(camera.frame_period_s, rel=self.period_tolerance_rel)
        assert np.all(np.diff(block.host_time_s) >= 0)
        assert np.all((block.saturated_fraction >= 0) & (block.saturated_fraction <= 1))

    def test_no_frame_began_before_arm(self, camera: Any) -> None:
        if self.now_s(camera) is None:
            pytest.skip("this camera's clock cannot be read by a test")
        for pause in (0.0, 0.3, 1.4, 2.7):
            time.sleep(pause * camera.frame_period_s)
            before_s = self.now_s(camera)
            assert before_s is not None
            camera.arm(2)
            assert camera.fetch(FETCH_S).device_time_s[0] >= before_s

    def test_skipped_frames_are_numbered(self, camera: Any) -> None:
        camera.arm(1)
        first = camera.fetch(FETCH_S).sequence[0]
        camera.arm(2, skip=3)
        assert camera.fetch(FETCH_S).sequence[0] >= first + 4

    def test_numbers_go_on_whatever_is_set_or_stopped(self, camera: Any) -> None:
        numbers: list[int] = []
        camera.arm(2)
        numbers += camera.fetch(FETCH_S).sequence.tolist()
        self.expose(camera, 0.004)
        camera.arm(1)
        camera.stop()
        camera.arm(1)
        numbers += camera.fetch(FETCH_S).sequence.tolist()
        camera.roi = Roi(0, 0, *camera.shape[::-1])
        camera.safe_state()
        camera.arm(1)
        numbers += camera.fetch(FETCH_S).sequence.tolist()
        assert numbers[0] >= 0
        assert np.all(np.diff(numbers) >= 1)

    def test_frames_are_copies(self, camera: Any) -> None:
        camera.arm(1)
        block = camera.fetch(FETCH_S)
        before = block.frames.copy()
        camera.arm(1)
        camera.fetch(FETCH_S)
        assert np.array_equal(block.frames, before)

    def test_fetch_without_arm_is_refused(self, camera: Any) -> None:
        with pytest.raises(DeviceProtocolError):
            camera.fetch(1.0)

    def test_fetch_after_stop_is_refused(self, camera: Any) -> None:
        camera.arm(1)
        camera.stop()
        camera.stop()
        with pytest.raises(DeviceProtocolError):
            camera.fetch(1.0)

    def test_arm_twice_is_refused(self, camera: Any) -> None:
        camera.arm(1)
        with pytest.raises(DeviceProtocolError):
            camera.arm(1)

    @pytest.mark.parametrize(("n", "skip"), [(0, 0), (-1, 0), (1, -1)])
    def test_impossible_sequence_is_refused(self, camera: Any, n: int, skip: int) -> None:
        with pytest.raises(CapabilityError):
            camera.arm(n, skip)

    def test_frames_that_take_longer_than_the_timeout_time_out_and_stay_armed(self, camera: Any) -> None:
        self.expose(camera, 0.010)
        camera.arm(1, skip=100)
        with pytest.raises(DeviceTimeout):
            camera.fetch(0.1)
        with pytest.raises(DeviceProtocolError):
            camera.arm(1)
        camera.stop()

    def test_safe_state_ends_the_sequence(self, camera: Any) -> None:
        camera.arm(1)
        camera.safe_state()
        camera.arm(1)
        assert len(camera.fetch(FETCH_S).frames) == 1


class TriggeredCameraContract(CameraContract):
    """Cameras that keep step with a panel. A subclass whose camera waits for a panel's edges overrides `play`."""

    protocol = TriggeredCamera

    def play(self, camera: Any, exposures: int) -> None:
        """Make the panel's triggers for so many exposures; nothing where the camera is the one that triggers."""

    def test_trigger_modes_are_known(self, device: Any) -> None:
        assert device.trigger_modes
        assert all(isinstance(mode, TriggerMode) for mode in device.trigger_modes)

    def test_one_frame_of_each_pattern_is_kept(self, camera: Any) -> None:
        camera.arm_sequence(4, 3)
        self.play(camera, 12)
        block = camera.fetch(FETCH_S)
        assert len(block.frames) == 4
        assert np.array_equal(np.diff(block.sequence), [3, 3, 3])

    @pytest.mark.parametrize(("n", "frames_each"), [(0, 1), (1, 0)])
    def test_impossible_list_is_refused(self, camera: Any, n: int, frames_each: int) -> None:
        with pytest.raises(CapabilityError):
            camera.arm_sequence(n, frames_each)

"""What every backend must pass. A backend's test file subclasses one of these and says how to open its device.

class TestMockSlm(ModulatorContract):
    def open(self):
        return open_device("mock.slm", "slm", {}, OpenContext())
"""

import json

import numpy as np
import pytest

from drivers.errors import CapabilityError, DeviceLost, DeviceProtocolError, DeviceTimeout
from drivers.protocols import Camera, Device, FrameBlock, Identity, LightSource, Modulator, Roi, ShowReceipt


class DeviceContract:
    """Every instrument."""

    protocol = Device

    def open(self):
        raise NotImplementedError

    def use(self, device):
        """Something that needs the device to be there."""
        return device.identify()

    @pytest.fixture
    def device(self):
        with self.open() as device:
            yield device

    def test_device_satisfies_its_protocol(self, device):
        assert isinstance(device, self.protocol)

    def test_identity_names_vendor_model_and_serial(self, device):
        identity = device.identify()
        assert isinstance(identity, Identity)
        assert identity.vendor
        assert identity.model
        assert identity.serial

    def test_snapshot_is_plain_json(self, device):
        snapshot = device.snapshot()
        assert json.loads(json.dumps(snapshot, allow_nan=False)) == snapshot

    def test_safe_state_is_idempotent_and_valid_after_close(self, device):
        device.safe_state()
        device.safe_state()
        device.close()
        device.safe_state()

    def test_close_twice_is_harmless(self, device):
        device.close()
        device.close()

    def test_use_after_close_says_that_the_device_is_gone(self, device):
        device.close()
        with pytest.raises(DeviceLost):
            self.use(device)

    def test_device_opens_again_after_close(self, device):
        device.close()
        with self.open() as again:
            assert again.identify().model


class ModulatorContract(DeviceContract):
    """SLMs and displays."""

    protocol = Modulator

    def use(self, device):
        return device.blank()

    def test_receipts_count_frames_from_one(self, device):
        receipts = [device.show(np.zeros(device.shape, np.uint8)), device.blank()]
        assert all(isinstance(receipt, ShowReceipt) for receipt in receipts)
        assert [receipt.frame_id for receipt in receipts] == [1, 2]
        assert receipts[0].shown_at_s <= receipts[1].shown_at_s

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
    def test_any_integer_type_is_shown(self, device, dtype):
        device.show(np.full(device.shape, min(device.levels - 1, np.iinfo(dtype).max), dtype))

    def test_another_shape_is_refused(self, device):
        rows, cols = device.shape
        with pytest.raises(CapabilityError) as error:
            device.show(np.zeros((rows + 1, cols), np.uint8))
        assert error.value.expected
        assert error.value.seen

    @pytest.mark.parametrize("dtype", [np.float64, bool])
    def test_levels_that_are_not_integers_are_refused(self, device, dtype):
        with pytest.raises(CapabilityError):
            device.show(np.zeros(device.shape, dtype))

    @pytest.mark.parametrize("beyond", [-1, 0])
    def test_levels_out_of_range_are_refused(self, device, beyond):
        levels = np.zeros(device.shape, np.int64)
        levels[0, 0] = -1 if beyond < 0 else device.levels
        with pytest.raises(CapabilityError):
            device.show(levels)

    def test_settling_and_refresh_are_known(self, device):
        assert device.settle_s > 0
        assert device.refresh_hz > 0
        assert device.levels >= 2


class CameraContract(DeviceContract):
    """Cameras. ``roi`` is a small region that the camera can be set to."""

    protocol = Camera
    roi = Roi(16, 8, 64, 32)

    def use(self, device):
        device.arm(1)

    @pytest.fixture
    def camera(self, device):
        device.roi = self.roi
        return device

    def test_roi_is_the_full_sensor_at_opening(self, device):
        assert (device.roi.x, device.roi.y, *device.roi.shape) == (0, 0, *device.shape)

    def test_roi_reads_back(self, camera):
        assert camera.roi == self.roi

    @pytest.mark.parametrize("off", [Roi(-16, 0, 64, 32), Roi(0, 0, 100_000, 32), Roi(0, 0, 64, 0)])
    def test_roi_off_the_sensor_is_refused(self, camera, off):
        with pytest.raises(CapabilityError):
            camera.roi = off
        assert camera.roi == self.roi

    def test_exposure_reads_back_what_the_device_made_of_it(self, camera):
        camera.exposure_s = 0.0051234
        assert camera.exposure_s == pytest.approx(0.0051234, rel=0.01)
        assert camera.frame_period_s >= camera.exposure_s

    @pytest.mark.parametrize("exposure_s", [0.0, -1.0, 1e9])
    def test_exposure_out_of_range_is_refused(self, camera, exposure_s):
        with pytest.raises(CapabilityError):
            camera.exposure_s = exposure_s

    def test_sequence_comes_complete(self, camera):
        camera.arm(3)
        block = camera.fetch(5.0)
        assert isinstance(block, FrameBlock)
        assert block.frames.shape == (3, *camera.roi.shape)
        assert block.frames.dtype == np.uint16
        assert block.frames.max() < 2**camera.bit_depth
        assert block.dropped == 0
        assert np.array_equal(np.diff(block.sequence), [1, 1])
        assert np.diff(block.device_time_s) == pytest.approx(camera.frame_period_s, rel=0.05)
        assert np.all(np.diff(block.host_time_s) >= 0)
        assert np.all((block.saturated_fraction >= 0) & (block.saturated_fraction <= 1))

    def test_skipped_frames_are_numbered(self, camera):
        camera.arm(1)
        first = camera.fetch(5.0).sequence[0]
        camera.arm(2, skip=3)
        assert camera.fetch(5.0).sequence[0] >= first + 4

    def test_frames_are_copies(self, camera):
        camera.arm(1)
        block = camera.fetch(5.0)
        before = block.frames.copy()
        camera.arm(1)
        camera.fetch(5.0)
        assert np.array_equal(block.frames, before)

    def test_fetch_without_arm_is_refused(self, camera):
        with pytest.raises(DeviceProtocolError):
            camera.fetch(1.0)

    def test_fetch_after_stop_is_refused(self, camera):
        camera.arm(1)
        camera.stop()
        camera.stop()
        with pytest.raises(DeviceProtocolError):
            camera.fetch(1.0)

    def test_arm_twice_is_refused(self, camera):
        camera.arm(1)
        with pytest.raises(DeviceProtocolError):
            camera.arm(1)

    @pytest.mark.parametrize(("n", "skip"), [(0, 0), (-1, 0), (1, -1)])
    def test_impossible_sequence_is_refused(self, camera, n, skip):
        with pytest.raises(CapabilityError):
            camera.arm(n, skip)

    def test_frames_that_take_longer_than_the_timeout_time_out(self, camera):
        camera.exposure_s = 0.010
        camera.arm(1, skip=100)
        with pytest.raises(DeviceTimeout):
            camera.fetch(0.1)
        camera.stop()

    def test_safe_state_ends_the_sequence(self, camera):
        camera.arm(1)
        camera.safe_state()
        camera.arm(1)
        assert len(camera.fetch(5.0).frames) == 1


class LightSourceContract(DeviceContract):
    """Lasers, LEDs, shutters."""

    protocol = LightSource

    def use(self, device):
        device.on()

    def test_light_is_off_at_opening(self, device):
        assert not device.is_on

    def test_on_and_off_read_back(self, device):
        device.on()
        assert device.is_on
        device.off()
        assert not device.is_on

    def test_safe_state_is_dark(self, device):
        device.on()
        device.safe_state()
        assert not device.is_on

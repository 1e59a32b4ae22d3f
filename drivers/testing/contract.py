"""The contract of every instrument, and of the small ones: light sources, monitors, interlocks."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from drivers.errors import CapabilityError, DeviceLost
from drivers.protocols import (
    Device,
    Identity,
    Interlock,
    LightSource,
    Monitor,
    Ok,
    Reading,
    Restorable,
    Trip,
    can,
    is_a,
    members,
)


class DeviceContract:
    """Every instrument. A subclass says how to open one."""

    protocol: ClassVar[Any] = Device

    def open(self) -> Any:
        """A freshly opened device."""
        raise NotImplementedError

    def use(self, device: Any) -> object:
        """Something that needs the device to be there."""
        return device.identify()

    @pytest.fixture
    def device(self) -> Iterator[Any]:
        with self.open() as device:
            yield device

    def test_device_satisfies_its_protocol(self, device: Any) -> None:
        fits: bool = is_a(device, self.protocol)
        assert fits, f"{type(device).__name__} lacks {[n for n in members(self.protocol) if not hasattr(device, n)]}"

    def test_calls_that_can_wait_take_a_timeout(self, device: Any) -> None:
        for name in members(self.protocol):
            method = getattr(self.protocol, name, None)
            if inspect.isfunction(method) and "timeout_s" in inspect.signature(method).parameters:
                assert "timeout_s" in inspect.signature(getattr(device, name)).parameters, name

    def test_identity_names_vendor_model_and_serial(self, device: Any) -> None:
        identity = device.identify()
        assert isinstance(identity, Identity)
        assert identity.vendor
        assert identity.model
        assert identity.serial

    def test_snapshot_is_plain_json(self, device: Any) -> None:
        snapshot = device.snapshot()
        assert json.loads(json.dumps(snapshot, allow_nan=False)) == snapshot

    def test_where_settings_can_be_restored_only_this_devices_own_are(self, device: Any) -> None:
        if can(device, Restorable):
            before = json.loads(json.dumps(device.snapshot()))
            assert device.restore(before) == ()  # nothing differs
            with pytest.raises(CapabilityError):
                device.restore({**before, "serial": "of another device"})

    def test_safe_state_is_idempotent_and_valid_after_close(self, device: Any) -> None:
        device.safe_state()
        device.safe_state()
        device.close()
        device.safe_state()

    def test_close_twice_is_harmless(self, device: Any) -> None:
        device.close()
        device.close()

    def test_use_after_close_says_that_the_device_is_gone(self, device: Any) -> None:
        device.close()
        with pytest.raises(DeviceLost):
            self.use(device)

    def test_device_opens_again_after_close(self, device: Any) -> None:
        device.close()
        with self.open() as again:
            assert again.identify().model


class LightSourceContract(DeviceContract):
    """Lasers, LEDs, shutters."""

    protocol = LightSource

    def use(self, device: Any) -> object:
        return device.on()

    def test_light_is_off_at_opening(self, device: Any) -> None:
        assert not device.is_on

    def test_on_and_off_read_back(self, device: Any) -> None:
        device.on()
        assert device.is_on
        device.off()
        assert not device.is_on

    def test_safe_state_is_dark(self, device: Any) -> None:
        device.on()
        device.safe_state()
        assert not device.is_on


class MonitorContract(DeviceContract):
    """Power meters, thermometers."""

    protocol = Monitor

    def use(self, device: Any) -> object:
        return device.read()

    def test_reading_has_a_finite_value_in_the_monitors_unit(self, device: Any) -> None:
        reading = device.read(timeout_s=2.0)
        assert isinstance(reading, Reading)
        assert math.isfinite(reading.value)
        assert device.unit
        assert reading.unit == device.unit

    def test_time_of_a_reading_does_not_run_backwards(self, device: Any) -> None:
        first, second = device.read(), device.read()
        assert second.at_s >= first.at_s


class InterlockContract(DeviceContract):
    """Interlocks. A subclass whose test can open the contact overrides `trip`."""

    protocol = Interlock

    def use(self, device: Any) -> object:
        return device.check()

    def trip(self) -> Any:
        """An interlock that is open, or None where the test cannot make one."""
        return None

    def test_check_answers_in_the_contracts_words(self, device: Any) -> None:
        assert isinstance(device.check(timeout_s=2.0), (Ok, Trip))

    def test_open_interlock_says_why(self) -> None:
        device = self.trip()
        if device is None:
            pytest.skip("this interlock cannot be opened by a test")
        with device:
            answer = device.check()
            assert isinstance(answer, Trip)
            assert answer.reason

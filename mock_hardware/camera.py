"""The mock bench's camera as an instrument, and what its faults do to a sequence."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers import checks
from drivers.counting import Order
from drivers.errors import DeviceLost, DeviceProtocolError, DeviceTimeout
from drivers.hosttime import host_time_s
from drivers.pixels import saturated_fraction
from drivers.protocols import FrameBlock, Moment, Roi, TriggerMode
from mock_hardware import noise
from mock_hardware.bench import Frame, MockBench
from mock_hardware.devices import MockDevice
from mock_hardware.native import hang

_EXPOSURE_STEP_S = 1e-6
_GARBAGE = 1 << 43


@dataclass(frozen=True)
class _Delivered:
    """A frame on its way to the host: pixels, and the metadata that the camera sends with them."""

    dn: NDArray[np.uint16]
    sequence: int
    start_s: float


class MockCamera(MockDevice):
    """The camera. Frames take device time, not wall time: they are exposed and rendered in `fetch`, none before."""

    model = "MockCamera"
    trigger_modes = (TriggerMode.SOFTWARE,)

    def __init__(self, name: str, bench: MockBench, on_close: Callable[[], None] | None = None) -> None:
        super().__init__(name, bench, on_close)
        config = bench.config.camera
        self.shape = config.rows, config.cols
        self.bit_depth = config.bit_depth
        self._roi = Roi(0, 0, config.cols, config.rows)
        self._armed: Order | None = None
        self._opened_at = bench.sequence
        self._last: NDArray[np.uint16] | None = None
        self._before: NDArray[np.uint16] | None = None
        self._held: NDArray[np.uint16] | None = None
        self._dark_until = 0.0
        bench.exposure_s = config.exposure_s

    @property
    def exposure_s(self) -> float:
        """Rounded to microseconds [s]."""
        return self.bench.exposure_s

    @exposure_s.setter
    def exposure_s(self, value: float) -> None:
        self._idle("set the exposure")
        config = self.bench.config.camera
        checks.exposure_set(self.name, value, (config.exposure_min_s, config.exposure_max_s))
        self.bench.exposure_s = round(value / _EXPOSURE_STEP_S) * _EXPOSURE_STEP_S

    @property
    def roi(self) -> Roi:
        """Any region of the sensor."""
        return self._roi

    @roi.setter
    def roi(self, value: Roi) -> None:
        self._idle("set the region of interest")
        checks.roi_set(self.name, value, self.shape)
        self._roi = value
        self._last = self._before = self._held = None

    @property
    def frame_period_s(self) -> float:
        return self.bench.frame_period_s

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        roi = self._roi
        return {
            "serial": self.identify().serial,
            "shape_px": list(self.shape),
            "bit_depth": self.bit_depth,
            "exposure_s": self.exposure_s,
            "frame_period_s": self.frame_period_s,
            "roi_px": {"x": roi.x, "y": roi.y, "width": roi.width, "height": roi.height},
        }

    def arm(self, n: int, skip: int = 0) -> None:
        self._idle("arm")
        checks.frames_armed(self.name, n, skip)
        self._armed = Order(n, skip)

    def arm_sequence(self, n: int, frames_each: int) -> None:
        """Ask for one frame of each of ``n`` patterns that the panels play: of ``frames_each`` exposures the last."""
        self._idle("arm")
        checks.list_armed(self.name, n, frames_each)
        self._armed = Order(n, frames_each - 1, frames_each - 1)

    def now(self) -> Moment:
        """The bench's device time, and the number of the next frame."""
        return self.bench.now()

    def continue_at(self, device_time_s: float, sequence: int) -> None:
        """Move the bench to that time and frame number; the camera's count goes on from there."""
        self._idle("continue at another time")
        self.bench.continue_at(Moment(device_time_s, sequence))
        self._opened_at = 0

    def fetch(self, timeout_s: float) -> FrameBlock:
        """The armed frames.

        Raises
        ------
        DeviceTimeout
            When they last longer than ``timeout_s`` on the device's clock. They stay armed.
        DeviceProtocolError
            When none are armed.
        DeviceLost
            When the fault script disconnects the camera; from then on it is closed.
        OSError
            When the fault script says that the disk is full.
        """
        bench = self.bench
        if self._armed is None:
            raise DeviceProtocolError(
                "fetch without arm", device=self.name, action="fetch", hint="arm(n) starts a sequence"
            )
        order = self._armed
        last = bench.sequence + order.exposures - 1
        self._transport_faults(last)
        late = bench.faults.due("delay", last)
        needed_s = order.exposures * self.frame_period_s + (late.amount if late else 0.0)
        if needed_s > timeout_s:
            raise DeviceTimeout(
                f"{order.n} frames of {order.exposures} exposures did not arrive in time",
                device=self.name,
                action="fetch",
                expected=f"within {timeout_s:g} s",
                seen=f"they take {needed_s:g} s",
            )
        bench.pass_frames(order.skip)
        dropped, delivered = self._dropped(), self._delivered()
        while len(delivered) < order.n:
            bench.pass_frames(order.between)
            dropped += self._dropped()
            delivered += self._delivered()
        self._armed = None
        return self._block(self._in_order(delivered[: order.n]), dropped)

    def stop(self, timeout_s: float = 2.0) -> None:
        self._armed = None

    def _make_safe(self) -> None:
        self.stop()

    def _block(self, delivered: list[_Delivered], dropped: int) -> FrameBlock:
        frames = np.stack([frame.dn for frame in delivered])
        device_sequence = np.array([frame.sequence for frame in delivered], np.int64)
        return FrameBlock(
            frames,
            device_sequence - self._opened_at,
            device_sequence,
            np.array([frame.start_s for frame in delivered]),
            np.full(len(delivered), host_time_s()),
            dropped,
            saturated_fraction(frames, self.bit_depth),
        )

    def _idle(self, action: str) -> None:
        _ = self.bench
        if self._armed is not None:
            raise DeviceProtocolError(
                "a sequence is armed", device=self.name, action=action, hint="fetch it, or stop() it"
            )

    def _transport_faults(self, frame: int) -> None:
        """What befalls a whole sequence, the last frame of which is ``frame``."""
        faults = self.bench.faults
        if stuck := faults.due("hang", frame):
            hang(stuck.amount)
        if faults.due("disk-full", frame):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if faults.due("disconnect", frame):
            self.close()
            raise DeviceLost(
                f"{self.name} is gone", device=self.name, action="fetch", hint="check its cable, then open it again"
            )

    def _dropped(self) -> int:
        """Frames lost before the next one that arrives."""
        fault = self.bench.faults.due("drop", self.bench.sequence)
        lost = round(fault.amount) if fault else 0
        self.bench.pass_frames(lost)
        return lost

    def _delivered(self) -> list[_Delivered]:
        """The next frame as the host gets it; twice where it is duplicated."""
        bench, faults = self.bench, self.bench.faults
        bright, out = (faults.due(kind, bench.sequence) for kind in ("saturation", "blackout"))
        if out:
            self._dark_until = bench.sequence + out.amount
        lit = bench.sequence >= self._dark_until
        frame = bench.expose(self._roi, (bright.amount if bright else 1.0) * lit)
        dn = self._corrupted(frame)
        self._last = frame.dn
        arrived = _Delivered(dn, frame.sequence, frame.start_s)
        return [arrived, arrived] if faults.due("duplicate", frame.sequence) else [arrived]

    def _in_order(self, frames: list[_Delivered]) -> list[_Delivered]:
        """Exchanges the pixels of a frame and the next one; a frame read alone has those of the one before instead,
        and hands its own on."""
        ordered = list(frames)
        if self._held is not None:
            ordered[0], self._held = replace(ordered[0], dn=self._held), None
        for k, frame in enumerate(frames):
            if not self.bench.faults.due("swap", frame.sequence):
                continue
            if k + 1 < len(frames):
                ordered[k : k + 2] = replace(frame, dn=frames[k + 1].dn), replace(frames[k + 1], dn=frame.dn)
            elif self._before is not None:
                ordered[k], self._held = replace(frame, dn=self._before), frame.dn
        self._before = frames[-1].dn
        return ordered

    def _corrupted(self, frame: Frame) -> NDArray[np.uint16]:
        """Pixels as they arrive under the metadata of ``frame``."""
        faults = self.bench.faults
        dn = frame.dn
        if faults.due("stale", frame.sequence) and self._last is not None:
            dn = self._last
        if garbage := faults.due("garbage", frame.sequence):
            rng = noise.generator(self.bench.config.seed, _GARBAGE, frame.sequence)
            rows = rng.random(len(dn)) < garbage.amount
            dn = np.where(rows[:, None], rng.integers(0, 2**self.bit_depth, dn.shape, np.uint16), dn)
        return self._delivered_as(dn)

    def _delivered_as(self, dn: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Pixels as the driver hands them over: clipped before full scale, or at the left of their words."""
        config = self.bench.config.camera
        if config.clips_at_dn:
            dn = np.minimum(dn, np.uint16(config.clips_at_dn))
        return dn << np.uint16(config.shift_bits) if config.shift_bits else dn

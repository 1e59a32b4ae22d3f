"""The mock bench's camera as an instrument, and what its faults do to a sequence."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.errors import DeviceLost, DeviceProtocolError, DeviceTimeout
from drivers.protocols import FrameBlock, Roi
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
    """The camera. A sequence takes device time, not wall time: it is exposed and rendered in `fetch`."""

    model = "MockCamera"

    def __init__(self, name: str, bench: MockBench) -> None:
        super().__init__(name, bench)
        config = bench.config.camera
        self.shape = config.rows, config.cols
        self.bit_depth = config.bit_depth
        self._roi = Roi(0, 0, config.cols, config.rows)
        self._armed: tuple[int, int] | None = None
        self._last: NDArray[np.uint16] | None = None
        self._before: NDArray[np.uint16] | None = None
        self._held: NDArray[np.uint16] | None = None
        bench.exposure_s = config.exposure_s

    @property
    def exposure_s(self) -> float:
        """Rounded to microseconds [s]."""
        return self._bench.exposure_s

    @exposure_s.setter
    def exposure_s(self, value: float) -> None:
        self._idle("set the exposure")
        config = self._bench.config.camera
        if not config.exposure_min_s <= value <= config.exposure_max_s:
            raise self._refused(
                "exposure out of range",
                "set the exposure",
                f"{config.exposure_min_s:g} … {config.exposure_max_s:g} s",
                f"{value:g} s",
            )
        self._bench.exposure_s = round(value / _EXPOSURE_STEP_S) * _EXPOSURE_STEP_S

    @property
    def roi(self) -> Roi:
        """Any region of the sensor."""
        return self._roi

    @roi.setter
    def roi(self, value: Roi) -> None:
        self._idle("set the region of interest")
        rows, cols = self.shape
        fits = value.x >= 0 and value.y >= 0 and value.x + value.width <= cols and value.y + value.height <= rows
        if not fits or value.width < 1 or value.height < 1:
            raise self._refused(
                "region of interest is not on the sensor",
                "set the region of interest",
                f"within {cols} × {rows} pixels",
                f"{value}",
            )
        self._roi = value
        self._last = self._before = self._held = None

    @property
    def frame_period_s(self) -> float:
        return self._bench.frame_period_s

    def snapshot(self) -> dict[str, Any]:
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
        if n < 1 or skip < 0:
            raise self._refused("impossible sequence", "arm", "n ≥ 1, skip ≥ 0", f"n = {n}, skip = {skip}")
        self._armed = n, skip

    def fetch(self, timeout_s: float) -> FrameBlock:
        """The armed sequence.

        Raises
        ------
        DeviceTimeout
            When it lasts longer than ``timeout_s`` on the device's clock. It stays armed.
        DeviceProtocolError
            When none is armed.
        DeviceLost
            When the fault script disconnects the camera; from then on it is closed.
        OSError
            When the fault script says that the disk is full.
        """
        bench = self._bench
        if self._armed is None:
            raise DeviceProtocolError(
                "fetch without arm", device=self.name, action="fetch", hint="arm(n) starts a sequence"
            )
        n, skip = self._armed
        self._transport_faults(bench.sequence + skip + n - 1)
        late = bench.faults.due("delay", bench.sequence + skip + n - 1)
        needed_s = (n + skip) * self.frame_period_s + (late.amount if late else 0.0)
        if needed_s > timeout_s:
            raise DeviceTimeout(
                f"{n} frames after {skip} skipped did not arrive in time",
                device=self.name,
                action="fetch",
                expected=f"within {timeout_s:g} s",
                seen=f"they take {needed_s:g} s",
            )
        bench.pass_frames(skip)
        frames = np.empty((n, *self._roi.shape), np.uint16)
        sequence, device_time_s, host_time_s = np.empty(n, np.int64), np.empty(n), np.empty(n)
        dropped, delivered = 0, list[_Delivered]()
        while len(delivered) < n:
            dropped += self._dropped()
            delivered += self._delivered()
        for k, frame in enumerate(self._in_order(delivered[:n])):
            frames[k], sequence[k], device_time_s[k] = frame.dn, frame.sequence, frame.start_s
            host_time_s[k] = time.time()
        self._armed = None
        full_scale = np.uint16(2**self.bit_depth - 1)
        saturated = np.array([np.count_nonzero(frame == full_scale) / frame.size for frame in frames])
        return FrameBlock(frames, sequence, device_time_s, host_time_s, dropped, saturated)

    def stop(self) -> None:
        self._armed = None

    def _make_safe(self) -> None:
        self.stop()

    def _idle(self, action: str) -> None:
        _ = self._bench
        if self._armed is not None:
            raise DeviceProtocolError(
                "a sequence is armed", device=self.name, action=action, hint="fetch it, or stop() it"
            )

    def _transport_faults(self, frame: int) -> None:
        """What befalls a whole sequence, the last frame of which is ``frame``."""
        faults = self._bench.faults
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
        fault = self._bench.faults.due("drop", self._bench.sequence)
        lost = round(fault.amount) if fault else 0
        self._bench.pass_frames(lost)
        return lost

    def _delivered(self) -> list[_Delivered]:
        """The next frame as the host gets it; twice where it is duplicated."""
        bench, faults = self._bench, self._bench.faults
        bright = faults.due("saturation", bench.sequence)
        frame = bench.expose(self._roi, bright.amount if bright else 1.0)
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
            if not self._bench.faults.due("swap", frame.sequence):
                continue
            if k + 1 < len(frames):
                ordered[k : k + 2] = replace(frame, dn=frames[k + 1].dn), replace(frames[k + 1], dn=frame.dn)
            elif self._before is not None:
                ordered[k], self._held = replace(frame, dn=self._before), frame.dn
        self._before = frames[-1].dn
        return ordered

    def _corrupted(self, frame: Frame) -> NDArray[np.uint16]:
        """Pixels as they arrive under the metadata of ``frame``."""
        faults = self._bench.faults
        dn = frame.dn
        if faults.due("stale", frame.sequence) and self._last is not None:
            dn = self._last
        if garbage := faults.due("garbage", frame.sequence):
            rng = noise.generator(self._bench.config.seed, _GARBAGE, frame.sequence)
            rows = rng.random(len(dn)) < garbage.amount
            dn = np.where(rows[:, None], rng.integers(0, 2**self.bit_depth, dn.shape, np.uint16), dn)
        return dn

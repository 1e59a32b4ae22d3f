"""The mock bench as instruments: the protocols of ``drivers`` on a shared `MockBench`."""

from __future__ import annotations

import time
from typing import Any, ClassVar, Self

import numpy as np

from drivers.errors import CapabilityError, DeviceLost, DeviceProtocolError, DeviceTimeout
from drivers.protocols import FrameBlock, Identity, Levels, Roi, ShowReceipt
from mock_hardware.bench import MockBench
from mock_hardware.panel import Panel

_SETTLE_CONSTANTS = float(np.log(1e4))
_EXPOSURE_STEP_S = 1e-6


class MockDevice:
    """What all instruments of the mock bench share: a name, an identity, and an end.

    Parameters
    ----------
    name
        What the station calls it.
    bench
        What it is a part of.
    """

    model: ClassVar[str]

    def __init__(self, name: str, bench: MockBench) -> None:
        self.name = name
        self._bench_or_gone: MockBench | None = bench

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.safe_state()
        self._bench_or_gone = None

    def identify(self) -> Identity:
        return Identity("mock", self.model, f"{self._bench.config.seed:06d}", "1")

    def safe_state(self) -> None:
        if self._bench_or_gone is not None:
            self._make_safe()

    def _make_safe(self) -> None:
        raise NotImplementedError

    @property
    def _bench(self) -> MockBench:
        if self._bench_or_gone is None:
            raise DeviceLost(
                f"{self.name} is closed", device=self.name, hint="open it again with drivers.registry.open_device"
            )
        return self._bench_or_gone

    def _refused(self, what: str, action: str, expected: str, seen: str) -> CapabilityError:
        return CapabilityError(what, device=self.name, action=action, expected=expected, seen=seen)


class MockModulator(MockDevice):
    """A panel of the bench.

    Attributes
    ----------
    settle_s
        From ``show`` until 1e-4 of the step is left: one refresh and 9.2 time constants [s].
    """

    def __init__(self, name: str, bench: MockBench, panel: Panel) -> None:
        super().__init__(name, bench)
        self._panel = panel
        config = panel.config
        self.shape = config.rows, config.cols
        self.levels = config.levels
        self.refresh_hz = config.refresh_hz
        self.settle_s = 1.0 / config.refresh_hz + config.tau_s * _SETTLE_CONSTANTS
        self._frame_id = 0

    def snapshot(self) -> dict[str, Any]:
        return {
            "serial": self.identify().serial,
            "shape_px": list(self.shape),
            "levels": self.levels,
            "refresh_hz": self.refresh_hz,
            "settle_s": self.settle_s,
            "frame_id": self._frame_id,
        }

    def show(self, levels: Levels, timeout_s: float = 2.0) -> ShowReceipt:
        """Show gray levels from the next refresh on.

        Raises
        ------
        CapabilityError
            For another shape, anything but integers, or a level outside ``0 … self.levels − 1``.
        """
        bench = self._bench
        levels = np.asarray(levels)
        if levels.shape != self.shape:
            raise self._refused("frame of another shape", "show a frame", f"{self.shape}", f"{levels.shape}")
        if levels.dtype.kind not in "iu":
            raise self._refused("gray levels that are not integers", "show a frame", "integer", f"{levels.dtype}")
        low, high = int(levels.min()), int(levels.max())
        if low < 0 or high >= self.levels:
            raise self._refused("gray level out of range", "show a frame", f"0 … {self.levels - 1}", f"{low} … {high}")
        shown_at_s = self._panel.show(levels, bench.clock_s)
        self._frame_id += 1
        return ShowReceipt(self._frame_id, shown_at_s)

    def blank(self) -> ShowReceipt:
        return self.show(np.zeros(self.shape, np.uint8))

    def _make_safe(self) -> None:
        self.blank()


class MockSlm(MockModulator):
    """The panel that transmits."""

    model = "MockSLM"

    def __init__(self, name: str, bench: MockBench) -> None:
        super().__init__(name, bench, bench.slm)


class MockDisplay(MockModulator):
    """The panel that emits."""

    model = "MockDisplay"

    def __init__(self, name: str, bench: MockBench) -> None:
        super().__init__(name, bench, bench.display)


class MockSource(MockDevice):
    """The light; off when opened, and when closed."""

    model = "MockSource"

    def __init__(self, name: str, bench: MockBench) -> None:
        super().__init__(name, bench)
        bench.is_lit = False

    @property
    def is_on(self) -> bool:
        return self._bench.is_lit

    def on(self, timeout_s: float = 5.0) -> None:
        self._bench.is_lit = True

    def off(self, timeout_s: float = 5.0) -> None:
        self._bench.is_lit = False

    def snapshot(self) -> dict[str, Any]:
        return {
            "serial": self.identify().serial,
            "is_on": self.is_on,
            "power_mw": self._bench.config.source.power_mw,
        }

    def _make_safe(self) -> None:
        self.off()


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
        """
        bench = self._bench
        if self._armed is None:
            raise DeviceProtocolError(
                "fetch without arm", device=self.name, action="fetch", hint="arm(n) starts a sequence"
            )
        n, skip = self._armed
        needed_s = (n + skip) * self.frame_period_s
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
        for k in range(n):
            frame = bench.expose(self._roi)
            frames[k], sequence[k], device_time_s[k] = frame.dn, frame.sequence, frame.start_s
            host_time_s[k] = time.time()
        self._armed = None
        full_scale = np.uint16(2**self.bit_depth - 1)
        saturated = np.array([np.count_nonzero(frame == full_scale) / frame.size for frame in frames])
        return FrameBlock(frames, sequence, device_time_s, host_time_s, 0, saturated)

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

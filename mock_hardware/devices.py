"""The mock bench as instruments: the protocols of ``drivers`` on a shared `MockBench`."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np

from drivers.errors import CapabilityError, DeviceLost
from drivers.protocols import Identity, Levels, ShowReceipt
from mock_hardware.bench import MockBench
from mock_hardware.panel import Panel

_SETTLE_CONSTANTS = float(np.log(1e4))


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
        slowest_s = config.tau_s * max(1.0, config.fall_ratio)
        self.settle_s = 1.0 / config.refresh_hz + slowest_s * _SETTLE_CONSTANTS
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
        shown_at_s = self._hand_over(levels, bench)
        self._frame_id += 1
        return ShowReceipt(self._frame_id, shown_at_s)

    def blank(self) -> ShowReceipt:
        return self.show(np.zeros(self.shape, np.uint8))

    def _hand_over(self, levels: Levels, bench: MockBench) -> float:
        return self._panel.show(levels, bench.clock_s)

    def _make_safe(self) -> None:
        self.blank()


class MockSlm(MockModulator):
    """The panel that transmits."""

    model = "MockSLM"

    def __init__(self, name: str, bench: MockBench) -> None:
        super().__init__(name, bench, bench.slm)
        self._stuck_until = -1

    def _hand_over(self, levels: Levels, bench: MockBench) -> float:
        """A stuck SLM confirms the frame and goes on showing the one before."""
        fault = bench.faults.due("stuck-slm", bench.sequence)
        if fault:
            self._stuck_until = bench.sequence + round(fault.amount)
        if bench.sequence < self._stuck_until:
            return self._panel.tick_s(bench.clock_s)
        return super()._hand_over(levels, bench)


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

"""The mock bench as instruments: the protocols of ``drivers`` on a shared `MockBench`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from drivers import checks
from drivers.errors import DeviceLost
from drivers.protocols import Identity, Levels, ShowReceipt
from mock_hardware.bench import MockBench
from mock_hardware.panel import Panel

_SETTLE_CONSTANTS = float(np.log(1e4))


class MockDevice:
    """Base of the mock bench's instruments: name, identity, safe state, and the end of their use.

    Parameters
    ----------
    name
        What the station calls it.
    bench
        The bench that it is a part of.
    on_close
        Called once, when it is closed: lets go of the bench that several devices share.
    """

    model: ClassVar[str]

    def __init__(self, name: str, bench: MockBench, on_close: Callable[[], None] | None = None) -> None:
        self.name = name
        self._bench_or_gone: MockBench | None = bench
        self._on_close = on_close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        try:
            self.safe_state()
        finally:
            self._bench_or_gone = None
            on_close, self._on_close = self._on_close, None
            if on_close is not None:
                on_close()

    def identify(self) -> Identity:
        return Identity("mock", self.model, f"{self.bench.config.seed:06d}", "1")

    def safe_state(self, timeout_s: float = 5.0) -> None:
        if self._bench_or_gone is not None:
            self._make_safe()

    def _make_safe(self) -> None:
        raise NotImplementedError

    @property
    def bench(self) -> MockBench:
        """The bench that it is a part of: for tests, which compare it with the truth.

        Raises
        ------
        DeviceLost
            When the device is closed.
        """
        if self._bench_or_gone is None:
            raise DeviceLost(
                f"{self.name} is closed", device=self.name, hint="open it again with drivers.registry.open_device"
            )
        return self._bench_or_gone


class MockModulator(MockDevice):
    """A panel of the bench.

    Attributes
    ----------
    settle_s
        From ``show`` until 1e-4 of the step is left: one refresh and 9.2 time constants [s].
    """

    sequence_max = 4096

    def __init__(self, name: str, bench: MockBench, panel: Panel, on_close: Callable[[], None] | None = None) -> None:
        super().__init__(name, bench, on_close)
        self._panel = panel
        config = panel.config
        self.shape = config.rows, config.cols
        self.levels = config.levels
        self.refresh_hz = config.refresh_hz
        slowest_s = config.tau_s * max(1.0, config.fall_ratio)
        self.settle_s = 1.0 / config.refresh_hz + slowest_s * _SETTLE_CONSTANTS
        self._frame_id = 0

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
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
        bench = self.bench
        levels = checks.levels_shown(self.name, levels, self.shape, self.levels)
        bench.end_play(self._panel)
        shown_at_s = self._hand_over(levels, bench)
        self._frame_id += 1
        return ShowReceipt(self._frame_id, shown_at_s)

    def show_sequence(self, levels: Sequence[Levels], frames_each: int, timeout_s: float = 10.0) -> ShowReceipt:
        """Play a list, a pattern for every ``frames_each`` exposures from the next one on; a `show` ends it.

        Raises
        ------
        CapabilityError
            For a list that is empty or longer than ``sequence_max``, ``frames_each`` below 1, or a pattern that `show`
            refuses.
        """
        bench = self.bench
        patterns = checks.list_shown(self.name, levels, frames_each, self.sequence_max, self.shape, self.levels)
        bench.play(self._panel, lambda pattern: self._hand_over(pattern, bench), patterns, frames_each)
        first = self._frame_id + 1
        self._frame_id += len(patterns)
        return ShowReceipt(first, self._panel.tick_s(bench.clock_s))

    def blank(self, timeout_s: float = 2.0) -> ShowReceipt:
        return self.show(np.zeros(self.shape, np.uint8))

    def _hand_over(self, levels: Levels, bench: MockBench) -> float:
        return self._panel.show(levels, bench.clock_s)

    def _make_safe(self) -> None:
        self.blank()


class MockSlm(MockModulator):
    """The panel that transmits."""

    model = "MockSLM"

    def __init__(self, name: str, bench: MockBench, on_close: Callable[[], None] | None = None) -> None:
        super().__init__(name, bench, bench.slm, on_close)
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

    def __init__(self, name: str, bench: MockBench, on_close: Callable[[], None] | None = None) -> None:
        super().__init__(name, bench, bench.display, on_close)


class MockSource(MockDevice):
    """The light; off when opened, and when closed.

    Parameters
    ----------
    state_file
        Where each change is written, as ``on`` or ``off`` on a line of its own; empty for nowhere.
    """

    model = "MockSource"

    def __init__(
        self, name: str, bench: MockBench, on_close: Callable[[], None] | None = None, state_file: str = ""
    ) -> None:
        super().__init__(name, bench, on_close)
        self._state_file = state_file
        self._switch(False)

    @property
    def is_on(self) -> bool:
        return self.bench.is_lit

    def on(self, timeout_s: float = 5.0) -> None:
        self._switch(True)

    def off(self, timeout_s: float = 5.0) -> None:
        self._switch(False)

    def _switch(self, lit: bool) -> None:
        self.bench.is_lit = lit
        if self._state_file:
            with Path(self._state_file).open("a", encoding="utf-8") as state:
                state.write("on\n" if lit else "off\n")

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        return {
            "serial": self.identify().serial,
            "is_on": self.is_on,
            "power_mw": self.bench.config.source.power_mw,
        }

    def _make_safe(self) -> None:
        self.off()

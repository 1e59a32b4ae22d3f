"""A rectangle of a panel as a modulator of its own: on a double-pass bench one panel is display and SLM at once.

In the station file, two regions of one panel::

    [devices.display]
    backend = "region"
    options = {panel = "acme.slm", panel_options = {serial = "0231"}, x = 0, y = 0, width = 960, height = 1080}

    [devices.slm]
    backend = "region"
    options = {panel = "acme.slm", panel_options = {serial = "0231"}, x = 960, y = 0, width = 960, height = 1080}

The panel is opened by the first of its regions and closed by the last. Regions may not overlap.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self, cast

import numpy as np

from drivers import checks
from drivers.backend import PANEL, Backend
from drivers.errors import CapabilityError, DeviceLost, DeviceTimeout, RoleError
from drivers.options import Checked, option
from drivers.protocols import (
    DeviceFacts,
    Identity,
    Levels,
    Modulator,
    OpenContext,
    Roi,
    SequencePanel,
    ShowReceipt,
    VerifiedPanel,
    can,
    is_a,
)
from drivers.registry import describe, open_device
from drivers.resources import Shared


@dataclass(frozen=True)
class RegionOptions(Checked):
    """Options of the backend ``region``.

    Attributes
    ----------
    panel, panel_options
        Backend of the whole panel, and its options; regions with the same two share one panel.
    x, y, width, height
        The rectangle on it: left column, top row, size [panel pixels].
    """

    panel: str
    x: int = option(0, 65535)
    y: int = option(0, 65535)
    width: int = option(1, 65536)
    height: int = option(1, 65536)
    panel_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rectangle(self) -> Roi:
        """The rectangle on the panel [panel pixels]."""
        return Roi(self.x, self.y, self.width, self.height)


class SplitPanel:
    """A panel that several regions write to: it remembers what each has, and shows the whole.

    One region at a time, whatever thread each is used from: of two that are shown at once the second would be put next
    to what the first one had before, and take the first one's picture off the panel again.

    Parameters
    ----------
    panel
        The open panel, which no one else shows frames on.
    """

    def __init__(self, panel: Modulator) -> None:
        self.panel = panel
        self._frame = np.zeros(panel.shape, np.uint8 if panel.levels <= 256 else np.uint16)
        self._taken: dict[Roi, str] = {}
        self._turn = threading.Lock()

    def take(self, name: str, rectangle: Roi) -> None:
        """Give a rectangle to the region called ``name``.

        Raises
        ------
        CapabilityError
            When it does not lie on the panel, or overlaps one that is taken.
        """
        rows, columns = self.panel.shape
        if rectangle.x + rectangle.width > columns or rectangle.y + rectangle.height > rows:
            raise _refused(name, "region is not on the panel", f"within {columns} × {rows} pixels", f"{rectangle}")
        for other, owner in self._taken.items():
            if _overlap(rectangle, other):
                raise _refused(name, f"region overlaps that of {owner}", f"none of {other}", f"{rectangle}")
        self._taken[rectangle] = name

    def give_back(self, rectangle: Roi) -> None:
        """The region is closed; its pixels stay as they are."""
        self._taken.pop(rectangle, None)

    def show(self, rectangle: Roi, levels: Levels, timeout_s: float) -> ShowReceipt:
        """Show ``levels`` on a rectangle and what is there already everywhere else."""
        with self._alone(rectangle, timeout_s) as left_s:
            whole = self._with(rectangle, levels)
            receipt = self.panel.show(whole, left_s)
            self._frame = whole
            return receipt

    def show_sequence(
        self, rectangle: Roi, levels: Sequence[Levels], frames_each: int, timeout_s: float
    ) -> ShowReceipt:
        """Play a list on a rectangle while the rest of the panel stays."""
        assert can(self.panel, SequencePanel)
        with self._alone(rectangle, timeout_s) as left_s:
            frames = [self._with(rectangle, pattern) for pattern in levels]
            receipt = self.panel.show_sequence(frames, frames_each, left_s)
            self._frame = frames[-1]
            return receipt

    @contextmanager
    def _alone(self, rectangle: Roi, timeout_s: float) -> Iterator[float]:
        """Until the block ends no other region shows anything; yields what is left of the time [s]."""
        until_s = time.monotonic() + timeout_s
        if not self._turn.acquire(timeout=timeout_s):
            raise DeviceTimeout(
                "the panel is busy with its other region",
                device=self._taken.get(rectangle, ""),
                action="show a frame",
                expected=f"a turn within {timeout_s:g} s",
                seen="another frame, which is not shown yet",
                hint="is the panel connected and switched on? If so, close its regions and open them again",
            )
        try:
            yield max(until_s - time.monotonic(), 0.0)
        finally:
            self._turn.release()

    def _with(self, rectangle: Roi, levels: Levels) -> Levels:
        whole = self._frame.copy()
        rows, columns = rectangle.shape
        whole[rectangle.y : rectangle.y + rows, rectangle.x : rectangle.x + columns] = levels
        return whole


class Region:
    """A modulator that is a rectangle of another.

    Parameters
    ----------
    name
        What the station calls it.
    split
        A hold on the panel, which this region lets go of when it is closed.
    rectangle
        The part of the panel [panel pixels].
    """

    def __init__(self, name: str, split: Shared[SplitPanel], rectangle: Roi) -> None:
        split.value.take(name, rectangle)
        self.name = name
        self._hold: Shared[SplitPanel] | None = split
        self._rectangle = rectangle
        panel = split.value.panel
        self.shape = rectangle.shape
        self.levels, self.settle_s, self.refresh_hz = panel.levels, panel.settle_s, panel.refresh_hz
        self._frame_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        hold, self._hold = self._hold, None
        if hold is None:
            return
        try:
            hold.value.show(self._rectangle, np.zeros(self.shape, np.uint8), 2.0)
        finally:
            hold.value.give_back(self._rectangle)
            hold.release()

    def identify(self) -> Identity:
        whole = self._split.panel.identify()
        part = f"x{self._rectangle.x} y{self._rectangle.y} of {whole.serial}"
        return Identity(whole.vendor, whole.model, part, whole.firmware)

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        part = self._rectangle
        return {
            **self._split.panel.snapshot(timeout_s),
            "shape_px": list(self.shape),
            "frame_id": self._frame_id,
            "region_px": {"x": part.x, "y": part.y, "width": part.width, "height": part.height},
        }

    def safe_state(self, timeout_s: float = 5.0) -> None:
        if self._hold is not None:
            self.blank(timeout_s)

    def show(self, levels: Levels, timeout_s: float = 2.0) -> ShowReceipt:
        split = self._split
        levels = checks.levels_shown(self.name, levels, self.shape, self.levels)
        receipt = split.show(self._rectangle, levels, timeout_s)
        self._frame_id += 1
        return ShowReceipt(self._frame_id, receipt.shown_at_s)

    def verify(self, timeout_s: float = 5.0) -> None:
        """As `VerifiedPanel.verify`, of the whole panel; nothing where that cannot tell."""
        panel = self._split.panel
        if can(panel, VerifiedPanel):
            panel.verify(timeout_s)

    def blank(self, timeout_s: float = 2.0) -> ShowReceipt:
        return self.show(np.zeros(self.shape, np.uint8), timeout_s)

    @property
    def _split(self) -> SplitPanel:
        if self._hold is None:
            raise DeviceLost(f"{self.name} is closed", device=self.name, hint="open it again")
        return self._hold.value


class SequenceRegion(Region):
    """A region of a panel that can play lists. While one region plays, the rest of the panel stays as it is."""

    def __init__(self, name: str, split: Shared[SplitPanel], rectangle: Roi) -> None:
        super().__init__(name, split, rectangle)
        self.sequence_max = cast(SequencePanel, split.value.panel).sequence_max

    def show_sequence(self, levels: Sequence[Levels], frames_each: int, timeout_s: float = 10.0) -> ShowReceipt:
        split = self._split
        patterns = checks.list_shown(self.name, levels, frames_each, self.sequence_max, self.shape, self.levels)
        receipt = split.show_sequence(self._rectangle, patterns, frames_each, timeout_s)
        first = self._frame_id + 1
        self._frame_id += len(patterns)
        return ShowReceipt(first, receipt.shown_at_s)


def _open(name: str, options: RegionOptions, context: OpenContext) -> Region:
    def whole() -> SplitPanel:
        panel = open_device(options.panel, name, options.panel_options, context)
        if is_a(panel, Modulator):
            return SplitPanel(panel)
        panel.close()
        raise RoleError(
            f"backend {options.panel} is no modulator",
            device=name,
            action="open",
            expected="a Modulator to take a region of",
            seen=type(panel).__name__,
        )

    key = "region", options.panel, repr(sorted(options.panel_options.items()))
    hold = context.resources.share(key, whole, lambda split: split.panel.close())
    try:
        kind = SequenceRegion if can(hold.value.panel, SequencePanel) else Region
        return kind(name, hold, options.rectangle)
    except BaseException:
        hold.release()
        raise


def _describe(options: RegionOptions, context: OpenContext) -> DeviceFacts:
    whole = describe(options.panel, "panel", options.panel_options, context)
    return DeviceFacts(options.rectangle.shape, levels=whole.levels, refresh_hz=whole.refresh_hz)


def _overlap(a: Roi, b: Roi) -> bool:
    return a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + b.height and b.y < a.y + a.height


def _refused(name: str, what: str, expected: str, seen: str) -> CapabilityError:
    return CapabilityError(what, device=name, action="use a region of a panel", expected=expected, seen=seen)


REGION = Backend("region", PANEL, RegionOptions, _open, _describe)
"""A rectangle of another backend's panel."""

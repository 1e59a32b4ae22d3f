"""Any SLM that Micro-Manager drives: Meadowlark, Hamamatsu, HOLOEYE, Mightex Polygon, Mosaic3, a monitor (GenericSLM).

In the station file::

    [devices.slm]
    backend = "micromanager.slm"
    options = {config = "bench.cfg", label = "SLM", refresh_hz = 60.0, settle_s = 0.05}

What is particular to it:

* Micro-Manager knows neither the refresh rate nor the settling time: they are options. The defaults are those of a
  slow nematic panel; with a faster one, say so.
* An image is loaded, and then displayed: a program that only loads shows nothing. Both are done, and waited for.
* Eight bits of gray. A panel for which the adapter wants colour is refused.
* A panel that can hold a list plays it by its trigger input. Each pattern is loaded as many times as it is exposed,
  since Micro-Manager's lists step with every trigger; the list may be so much shorter. Whether the first trigger shows
  the first or the second image depends on the adapter: compare one list with single frames before you trust it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from drivers import checks
from drivers.backend import PANEL, Backend, Family, Found, Proof
from drivers.errors import CapabilityError, DeviceLost
from drivers.libraries.micromanager import SLM, Handle, MicroManagerOptions, found, hold
from drivers.options import option
from drivers.protocols import Identity, Levels, OpenContext, ShowReceipt

LEVELS = 256


@dataclass(frozen=True)
class MicroManagerSlmOptions(MicroManagerOptions):
    """Options of the backend ``micromanager.slm``, besides those of `MicroManagerOptions`.

    Attributes
    ----------
    refresh_hz
        Refreshes of the panel per second [Hz].
    settle_s
        From the refresh until the panel shows a new frame well enough to be read [s].
    """

    refresh_hz: float = option(0.1, 100_000, 60.0)
    settle_s: float = option(1e-6, 60, 0.1)


class MicroManagerSlm:
    """A `Modulator` that is an SLM of Micro-Manager.

    Parameters
    ----------
    handle
        The SLM in its core.
    options
        Of the station file.
    """

    levels = LEVELS

    def __init__(self, handle: Handle, options: MicroManagerSlmOptions) -> None:
        self.name = handle.name
        self.refresh_hz, self.settle_s = options.refresh_hz, options.settle_s
        native, label = handle.core.native, handle.label
        rows, columns, size, components = handle.call(
            "read the panel's size",
            lambda: (
                native.getSLMHeight(label),
                native.getSLMWidth(label),
                native.getSLMBytesPerPixel(label),
                native.getSLMNumberOfComponents(label),
            ),
        )
        if size != 1 or components != 1:
            raise CapabilityError(
                "the panel takes no 8-bit gray images",
                device=handle.name,
                action="open",
                expected="1 component of 1 byte",
                seen=f"{components} components, {size} bytes a pixel",
                hint="set the adapter to gray, or use the backend screen for a panel that is a monitor",
            )
        self.shape = int(rows), int(columns)
        self._handle: Handle | None = handle
        self._frame_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        handle = self._handle
        if handle is None:
            return
        try:
            if not handle.core.is_stuck:
                self._display(handle, np.zeros(self.shape, np.uint8), handle.timeout_s)
        finally:
            self._handle = None
            handle.release()

    def identify(self) -> Identity:
        handle = self._there
        return handle.core.identity(handle.label)

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        handle = self._there
        return {
            "shape_px": list(self.shape),
            "levels": self.levels,
            "frame_id": self._frame_id,
            "refresh_hz": self.refresh_hz,
            "settle_s": self.settle_s,
            "properties": handle.core.properties(handle.label, timeout_s),
        }

    def safe_state(self, timeout_s: float = 5.0) -> None:
        if self._handle is not None:
            self.blank(timeout_s)

    def show(self, levels: Levels, timeout_s: float = 2.0) -> ShowReceipt:
        """As `Modulator.show`."""
        handle = self._there
        levels = checks.levels_shown(self.name, levels, self.shape, self.levels)
        shown_at_s = self._display(handle, np.ascontiguousarray(levels, np.uint8), timeout_s)
        self._frame_id += 1
        return ShowReceipt(self._frame_id, shown_at_s)

    def blank(self, timeout_s: float = 2.0) -> ShowReceipt:
        """As `Modulator.blank`."""
        return self.show(np.zeros(self.shape, np.uint8), timeout_s)

    @property
    def _there(self) -> Handle:
        if self._handle is None:
            raise DeviceLost(f"{self.name} is closed", device=self.name, hint="open it again")
        return self._handle

    def _display(self, handle: Handle, frame: np.ndarray[Any, np.dtype[np.uint8]], timeout_s: float) -> float:
        """Load a frame, display it, wait for the panel.

        Returns
        -------
        When it was done, on the host's clock [s].
        """
        native, label = handle.core.native, handle.label

        def shown() -> None:
            native.setSLMImage(label, frame)
            native.displaySLMImage(label)
            native.waitForDevice(label)

        handle.call("show a frame", shown, timeout_s)
        return time.monotonic()


class SequenceMicroManagerSlm(MicroManagerSlm):
    """One that can hold a list: a `SequencePanel`."""

    def __init__(self, handle: Handle, options: MicroManagerSlmOptions, longest: int) -> None:
        super().__init__(handle, options)
        self.sequence_max = longest
        self._plays = False

    def show_sequence(self, levels: Sequence[Levels], frames_each: int, timeout_s: float = 10.0) -> ShowReceipt:
        """As `SequencePanel.show_sequence`; ``frames_each`` times the patterns must fit into the panel's list."""
        handle = self._there
        patterns = checks.list_shown(self.name, levels, frames_each, self.sequence_max, self.shape, self.levels)
        if len(patterns) * frames_each > self.sequence_max:
            raise CapabilityError(
                "the list is too long for the panel",
                device=self.name,
                action="show a list",
                expected=f"patterns × exposures ≤ {self.sequence_max}",
                seen=f"{len(patterns)} × {frames_each}",
            )
        images = [image for pattern in patterns for image in [pattern.astype(np.uint8).tobytes()] * frames_each]
        native, label = handle.core.native, handle.label

        def started() -> None:
            native.loadSLMSequence(label, images)
            native.startSLMSequence(label)

        self._end_list(handle, timeout_s)
        handle.call("start the list", started, timeout_s)
        self._plays = True
        first = self._frame_id + 1
        self._frame_id += len(patterns)
        return ShowReceipt(first, time.monotonic())

    def _display(self, handle: Handle, frame: np.ndarray[Any, np.dtype[np.uint8]], timeout_s: float) -> float:
        self._end_list(handle, timeout_s)
        return super()._display(handle, frame, timeout_s)

    def _end_list(self, handle: Handle, timeout_s: float) -> None:
        """A single frame shows only on a panel that plays no list."""
        if self._plays:
            handle.call("end the list", lambda: handle.core.native.stopSLMSequence(handle.label), timeout_s)
            self._plays = False


def _open(name: str, options: MicroManagerSlmOptions, context: OpenContext) -> MicroManagerSlm:
    handle = hold(name, SLM, options, context)
    native, label = handle.core.native, handle.label
    try:
        longest = int(handle.call("ask for lists", lambda: native.getSLMSequenceMaxLength(label)))
        return SequenceMicroManagerSlm(handle, options, longest) if longest else MicroManagerSlm(handle, options)
    except BaseException:
        handle.release()
        raise


def _discover() -> Sequence[Found]:
    return found(SLM)


TEST = "tests/endpoints/test_micromanager.py"

MICROMANAGER_SLM = Backend(
    "micromanager.slm",
    PANEL,
    MicroManagerSlmOptions,
    _open,
    needs=("pymmcore_plus",),
    install="pip install labctl[micromanager]",
    discover=_discover,
    families=(
        Family(
            "SLM of Micro-Manager",
            Proof.FAKE,
            "pymmcore-plus's core with an SLM written in Python; no adapter in C++ was run",
            TEST,
        ),
    ),
)
"""SLMs of Micro-Manager."""

"""Looking through a camera: one frame after the other, its picture, its histogram, and its numbers in words."""

from __future__ import annotations

import struct
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group, RenderableType
from rich.text import Text

from drivers.errors import CapabilityError, DeviceError
from drivers.protocols import Camera, Roi
from labctl.archive.outputs import PICTURE_MARK
from labctl.errors import UsageError
from labctl.instruments.picture import Numbers, draw, histogram, numbers

EVERY_S = 0.2
ATTEMPTS = 3
HISTOGRAM_LINES = 4
_FETCH_S = 5.0
_PNG_HEADER_BYTES = 33  # its signature, and the chunk that says how large it is
_LOOKS = 20
_SHARP = 0.1, 99.9
"""Percentiles of the pixels that are black and white where the picture is not drawn over the full range."""


@dataclass(frozen=True)
class Look:
    """One frame.

    Attributes
    ----------
    frame
        (H, W) counts [DN].
    numbers
        Of this frame.
    sequence
        Its number.
    lost
        Frames that the camera has lost since the first look, and looks that had to be repeated.
    """

    frame: NDArray[np.uint16]
    numbers: Numbers
    sequence: int
    lost: int


class Viewer:
    """Takes frames of a camera and shows them.

    Parameters
    ----------
    camera
        Open, with its exposure and its region set.
    settle_frames
        Frames that pass before the first one that is looked at.
    full_range
        Black is 0 and white is full scale; else they are the darkest and the brightest pixels, but a few.
    """

    def __init__(self, camera: Camera, settle_frames: int = 0, *, full_range: bool = False) -> None:
        self.camera, self.full_range = camera, full_range
        self.full_scale_dn = 2**camera.bit_depth - 1
        self._identity = camera.identify()
        self._lost, self._settle_frames = 0, settle_frames
        self._times: deque[float] = deque(maxlen=_LOOKS)

    def look(self) -> Look:
        """The next frame; one that was lost on the way is asked for again.

        Raises
        ------
        DeviceError
            When the camera fails for good, or three times in a row.
        """
        camera = self.camera
        for attempt in range(1, ATTEMPTS + 1):
            try:
                camera.arm(1, self._settle_frames)
                block = camera.fetch(_FETCH_S + (2 + self._settle_frames) * camera.frame_period_s)
                break
            except DeviceError as error:
                camera.stop()
                if attempt == ATTEMPTS or not error.retryable:
                    raise
                self._lost += 1
        self._lost, self._settle_frames = self._lost + block.dropped, 0
        self._times.append(time.monotonic())
        frame = block.frames[-1]
        return Look(frame, numbers(frame, self.full_scale_dn), int(block.sequence[-1]), self._lost)

    def line(self, look: Look) -> str:
        """A frame in one line, for where no picture can be drawn."""
        return f"frame {look.sequence}  {self._counts(look.numbers)}  {self._settings()}  lost {look.lost}"

    def head(self, look: Look) -> Text:
        """What is looked at, how it is set, and what is to be known of the frame."""
        camera, roi, seen = self.camera, self.camera.roi, look.numbers
        who = f"{self._identity.vendor} {self._identity.model} {self._identity.serial}"
        part = f"{roi.width} × {roi.height} px at {roi.x}, {roi.y}"
        text = Text(f"{camera.name} · {who} · {part} · {camera.bit_depth} bit\n", no_wrap=True, overflow="ellipsis")
        text.append(f"{self._settings()} · frame {look.sequence} · lost {look.lost} · {self._rate()}\n")
        text.append(self._counts(seen).replace("  ", " · "))
        if seen.saturated:
            text.append("  ← shorten the exposure", "bold red")
        elif seen.high < self.full_scale_dn / 16:
            text.append("  ← hardly any light")
        return text

    def picture(self, look: Look, size: tuple[int, int], *, colours: bool) -> RenderableType:
        """Everything about a frame, as large as (columns, lines) allow."""
        columns, lines = size
        low, high = self._shown(look)
        left = max(lines - HISTOGRAM_LINES - 5, 3)
        between = "0 to full scale" if self.full_range else "stretched"
        legend = Text(f"black {low:.0f} DN, white {high:.0f} DN ({between}), saturated ", no_wrap=True)
        legend.append("red" if colours else "!", "bold red" if colours else "")
        return Group(
            self.head(look),
            draw(look.frame, self.full_scale_dn, (columns, left), (low, high), colours=colours),
            legend,
            histogram(look.frame, self.full_scale_dn, min(columns, 100), HISTOGRAM_LINES),
        )

    def _shown(self, look: Look) -> tuple[float, float]:
        if self.full_range:
            return 0.0, float(self.full_scale_dn)
        few = look.frame[:: max(look.frame.shape[0] // 512, 1), :: max(look.frame.shape[1] // 512, 1)]
        low, high = np.percentile(few, _SHARP)
        return float(low), float(max(high, low + 1))

    def _settings(self) -> str:
        camera = self.camera
        return f"exposure {_time(camera.exposure_s)}, {1 / camera.frame_period_s:.4g} frames/s at most"

    def _counts(self, seen: Numbers) -> str:
        counts = f"min {seen.low}  mean {seen.mean:.1f}  max {seen.high} of {self.full_scale_dn} DN"
        return f"{counts}  saturated {100 * seen.saturated:.3g} %"

    def _rate(self) -> str:
        if len(self._times) < 2:
            return "first look"
        return f"{(len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-9):.1f} looks/s"


def set_up(camera: Camera, exposure_s: float | None, roi: Roi | None) -> None:
    """Set region and exposure where they are asked for.

    Raises
    ------
    CapabilityError
        When the camera cannot do that.
    """
    if roi is not None:
        camera.roi = roi
    if exposure_s is not None:
        camera.exposure_s = exposure_s


def parse_roi(text: str | None) -> Roi | None:
    """``"16,8,640,480"`` as a region: column, row, width, height [px]."""
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    if len(parts) != 4 or not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        raise UsageError("no region of interest", expected="X,Y,WIDTH,HEIGHT in pixels: 0,0,640,480", seen=text)
    return Roi(*map(int, parts))


def draws_gray(console: Console) -> bool:
    """Whether a terminal has enough grays for half blocks."""
    return console.color_system in ("256", "truecolor") and not console.no_color


def watch(viewer: Viewer, console: Console, keep: Callable[[Look], None]) -> None:
    """Show one frame after the other on a terminal until somebody presses Ctrl-C."""
    from rich.live import Live

    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            began_s = time.monotonic()
            look = viewer.look()
            keep(look)
            width, height = console.size
            live.update(viewer.picture(look, (width, height - 1), colours=draws_gray(console)), refresh=True)
            time.sleep(max(EVERY_S - (time.monotonic() - began_s), 0.0))


def png(look: Look, bit_depth: int) -> bytes:
    """A frame as a PNG file that holds its counts as they are, in 8 or 16 bits, and the mark of a picture of ours."""
    import cv2

    frame = look.frame.astype(np.uint8) if bit_depth <= 8 else look.frame
    done, data = cv2.imencode(".png", frame)
    if not done:
        raise CapabilityError("the frame does not become a PNG file")
    raw, text = data.tobytes(), b"tEXtSoftware\0" + PICTURE_MARK.encode()
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return raw[:_PNG_HEADER_BYTES] + chunk + raw[_PNG_HEADER_BYTES:]


def _time(seconds: float) -> str:
    return f"{seconds:.4g} s" if seconds >= 1 else f"{seconds * 1e3:.4g} ms"

"""Looking through a camera in a window of matplotlib, where there is a display."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.errors import UsageError
from labctl.instruments.live import Look, Viewer

_TOOLKITS = "QtAgg", "TkAgg", "GTK4Agg", "MacOSX"


def watch_in_window(viewer: Viewer, keep: Callable[[Look], None]) -> None:
    """Show one frame after the other until the window is closed or somebody presses Ctrl-C.

    Raises
    ------
    UsageError
        Where no window can be opened.
    """
    plt = _plotting()
    figure, (above, below) = plt.subplots(2, 1, height_ratios=(4, 1), layout="constrained")
    window = figure.canvas.manager
    number = figure.number
    while plt.fignum_exists(number):
        look = viewer.look()
        keep(look)
        above.clear()
        above.imshow(in_colours(look.frame, viewer.full_scale_dn), interpolation="nearest")
        above.set_title(viewer.head(look).plain, fontsize="small", loc="left")
        below.clear()
        below.hist(look.frame.ravel(), bins=256, range=(0, viewer.full_scale_dn + 1), log=True)
        below.set_xlabel("counts [DN]")
        if window is not None:
            window.set_window_title(f"labctl devices live {viewer.camera.name}")
        plt.pause(0.05)


def in_colours(frame: NDArray[np.uint16], full_scale_dn: int) -> NDArray[np.uint8]:
    """(H, W, 3) colours: gray from the darkest to the brightest pixel, saturated ones red."""
    low, high = int(frame.min()), max(int(frame.max()), int(frame.min()) + 1)
    gray = ((frame.astype(np.float64) - low) / (high - low) * 255).astype(np.uint8)
    colours = np.repeat(gray[..., np.newaxis], 3, axis=2)
    colours[frame >= full_scale_dn] = (255, 40, 40)
    return colours


def _plotting() -> Any:
    """matplotlib with a toolkit that opens windows."""
    import matplotlib.pyplot as plt

    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UsageError(
            "no window can be opened here: there is no display",
            expected="DISPLAY or WAYLAND_DISPLAY",
            hint="without --window the picture is drawn in the terminal; over ssh: ssh -X",
        )
    for toolkit in _TOOLKITS:
        try:
            plt.switch_backend(toolkit)
        except ImportError:
            continue
        return plt
    raise UsageError(
        "matplotlib has no toolkit here that opens windows",
        expected="one of " + ", ".join(_TOOLKITS),
        hint="pip install PySide6   ·   or without --window, in the terminal",
    )

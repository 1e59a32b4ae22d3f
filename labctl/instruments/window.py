"""Looking through a camera in a window: matplotlib in a process of its own, ``python -m labctl.instruments.window``.

A toolkit that opens windows may end its process when it does not like the display. It must not take the one with it
that has switched a light on: frames go to the window through a pipe, each a line of JSON and its counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.probe import OWN_GROUP, end, how_it_ended, python_of_ours
from labctl.errors import UsageError
from labctl.instruments.live import Look, Viewer

_TOOLKITS = "TkAgg", "QtAgg", "GTK4Agg", "MacOSX"
_NO_TOOLKIT = 3
_OF_CV2 = "QT_QPA_PLATFORM_PLUGIN_PATH", "QT_QPA_FONTDIR"
"""Variables that some builds of OpenCV set to a Qt of their own, which matplotlib cannot use."""


class Shown(NamedTuple):
    """What the window shows: a frame [DN], the counts at which it is saturated, and a title."""

    frame: NDArray[np.uint16]
    full_scale_dn: int
    title: str


def watch_in_window(viewer: Viewer, keep: Callable[[Look], None]) -> None:
    """Show one frame after the other until the window is closed or somebody presses Ctrl-C.

    Raises
    ------
    UsageError
        Where no window can be opened.
    """
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UsageError(
            "no window can be opened here: there is no display",
            expected="DISPLAY or WAYLAND_DISPLAY",
            hint="without --window the picture is drawn in the terminal; over ssh: ssh -X",
        )
    command, environment = python_of_ours("labctl.instruments.window")
    for name in _OF_CV2:
        environment.pop(name, None)
    process = subprocess.Popen([*command, viewer.camera.name], stdin=subprocess.PIPE, env=environment, **OWN_GROUP)
    assert process.stdin is not None
    try:
        while process.poll() is None:
            look = viewer.look()
            keep(look)
            send(process.stdin, Shown(look.frame, viewer.full_scale_dn, viewer.head(look).plain))
    except BrokenPipeError:
        process.wait()
    finally:
        end(process)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    if process.returncode == _NO_TOOLKIT:
        raise UsageError(
            "matplotlib has no toolkit here that opens windows",
            expected="one of " + ", ".join(_TOOLKITS),
            hint="apt-get install python3-tk, or pip install PySide6   ·   or without --window, in the terminal",
        )
    if process.returncode:
        raise UsageError(
            "the window's process ended by itself",
            seen=how_it_ended(process.returncode),
            hint="without --window the picture is drawn in the terminal",
        )


def send(stream: BinaryIO | Any, shown: Shown) -> None:
    """Write a frame."""
    rows, columns = shown.frame.shape
    about = {"shape": [rows, columns], "full_scale_dn": shown.full_scale_dn, "title": shown.title}
    stream.write(json.dumps(about).encode() + b"\n" + np.ascontiguousarray(shown.frame, "<u2").tobytes())
    stream.flush()


def receive(stream: BinaryIO) -> Shown | None:
    """Read a frame; None at the end."""
    line = stream.readline()
    if not line:
        return None
    about = json.loads(line)
    rows, columns = about["shape"]
    data = stream.read(2 * rows * columns)
    if len(data) < 2 * rows * columns:
        return None
    return Shown(np.frombuffer(data, "<u2").reshape(rows, columns), about["full_scale_dn"], about["title"])


def in_colours(frame: NDArray[np.uint16], full_scale_dn: int) -> NDArray[np.uint8]:
    """(H, W, 3) colours: gray from the darkest to the brightest pixel, saturated ones red."""
    low, high = int(frame.min()), max(int(frame.max()), int(frame.min()) + 1)
    gray = ((frame.astype(np.float64) - low) / (high - low) * 255).astype(np.uint8)
    colours = np.repeat(gray[..., np.newaxis], 3, axis=2)
    colours[frame >= full_scale_dn] = (255, 40, 40)
    return colours


# The process with the window -----------------------------------------------------------------------------------------


def main(camera: str) -> int:
    """Show what comes on standard input until it ends or the window is closed; returns the exit code."""
    plt = _plotting()
    if plt is None:
        return _NO_TOOLKIT
    newest: list[Shown | None] = []
    threading.Thread(target=_read, args=(newest,), daemon=True).start()
    figure, axes = plt.subplots(2, 1, height_ratios=(4, 1), layout="constrained")
    figure.canvas.manager.set_window_title(f"labctl devices live {camera}")
    while plt.fignum_exists(figure.number):
        if newest:
            shown = newest.pop()
            if shown is None:
                break
            _draw(axes, shown)
        plt.pause(0.05)
    return 0


def _read(newest: list[Shown | None]) -> None:
    """Keep the newest frame; None when there will be no more."""
    while True:
        shown = receive(sys.stdin.buffer)
        newest[:] = [shown]
        if shown is None:
            return


def _draw(axes: Any, shown: Shown) -> None:
    above, below = axes
    above.clear()
    above.imshow(in_colours(shown.frame, shown.full_scale_dn), interpolation="nearest")
    above.set_title(shown.title, fontsize="small", loc="left")
    below.clear()
    below.hist(shown.frame.ravel(), bins=256, range=(0, shown.full_scale_dn + 1), log=True)
    below.set_xlabel("counts [DN]")


def _plotting() -> Any:
    """matplotlib with a toolkit that opens windows; None where there is none."""
    import matplotlib.pyplot as plt

    for toolkit in _TOOLKITS:
        try:
            plt.switch_backend(toolkit)
        except ImportError:
            continue
        return plt
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""How many pictures the display may play by itself while the camera keeps step."""

from __future__ import annotations

from calibration.frames.scan import Scan
from labctl.bench.bench import Bench
from labctl.bench.interlocks import SPACING_S
from labctl.station.model import Acquisition

LIST_BYTES_MAX = 1 << 25
"""Frames of one list that are in memory at a time [B]."""


def list_length(bench: Bench, settings: Acquisition, scan: Scan, first: int, frame_px: int) -> int:
    """Frames from ``first`` of one SLM pattern, each with another picture on the display than the one before.

    No more than a quarter of the silence that is a stall allows, than fit between two questions to an interlock or two
    readings of a monitor that is to follow the drift, and than memory should hold.

    Parameters
    ----------
    frame_px
        Pixels of one frame.
    """
    last = first + 1
    while (
        last < len(scan)
        and scan.slm_index[last] == scan.slm_index[first]
        and (scan.display[last] != scan.display[last - 1]).any()
    ):
        last += 1
    seconds_each = (1 + settings.display_settle_frames) * bench.camera.frame_period_s
    silent_s = settings.stall_s / 4
    if settings.drift_monitor:
        silent_s = min(silent_s, settings.monitor_spacing_s)
    if bench.interlocks:
        silent_s = min(silent_s, SPACING_S)
    return min(last - first, int(silent_s / seconds_each), LIST_BYTES_MAX // (2 * frame_px))

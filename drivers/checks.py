"""What a device is asked for, checked before it reaches the instrument.

Each check raises `CapabilityError` where it says nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drivers.errors import CapabilityError, DeviceProtocolError
from drivers.protocols import Levels, Roi


def levels_shown(device: str, levels: Levels, shape: tuple[int, int], count: int) -> Levels:
    """One frame of a panel: (rows, columns) of any integer type, gray levels in ``0 … count − 1``."""
    levels = np.asarray(levels)
    if levels.shape != shape:
        raise _refused(device, "frame of another shape", "show a frame", f"{shape}", f"{levels.shape}")
    if levels.dtype.kind not in "iu":
        raise _refused(device, "gray levels that are not integers", "show a frame", "integer", f"{levels.dtype}")
    if levels.dtype.kind == "u" and 2 ** (8 * levels.dtype.itemsize) <= count:
        return levels  # its type holds no level that is out of range
    low, high = int(levels.min()), int(levels.max())
    if low < 0 or high >= count:
        raise _refused(device, "gray level out of range", "show a frame", f"0 … {count - 1}", f"{low} … {high}")
    return levels


def list_shown(
    device: str, levels: Sequence[Levels], frames_each: int, most: int, shape: tuple[int, int], count: int
) -> list[Levels]:
    """1 … ``most`` frames of a panel, each as in `levels_shown`, for ``frames_each`` ≥ 1 exposures; copied."""
    if not 1 <= len(levels) <= most or frames_each < 1:
        raise _refused(
            device,
            "impossible list of patterns",
            "show a list",
            f"1 … {most} patterns, frames_each ≥ 1",
            f"{len(levels)} patterns, frames_each = {frames_each}",
        )
    return [levels_shown(device, pattern, shape, count).copy() for pattern in levels]


def exposure_set(device: str, value_s: float, range_s: tuple[float, float]) -> None:
    """An exposure within the camera's range [s]."""
    low, high = range_s
    if not low <= value_s <= high:
        raise _refused(device, "exposure out of range", "set the exposure", f"{low:g} … {high:g} s", f"{value_s:g} s")


def roi_set(device: str, roi: Roi, shape: tuple[int, int]) -> None:
    """A region of one pixel or more that lies on a sensor of this shape (rows, columns)."""
    rows, columns = shape
    inside = roi.x >= 0 and roi.y >= 0 and roi.x + roi.width <= columns and roi.y + roi.height <= rows
    if not inside or roi.width < 1 or roi.height < 1:
        raise _refused(
            device,
            "region of interest is not on the sensor",
            "set the region of interest",
            f"within {columns} × {rows} pixels",
            f"{roi}",
        )


def frames_armed(device: str, n: int, skip: int) -> None:
    """One frame or more, after none or more that are skipped."""
    if n < 1 or skip < 0:
        raise _refused(device, "impossible sequence", "arm", "n ≥ 1, skip ≥ 0", f"n = {n}, skip = {skip}")


def list_armed(device: str, n: int, frames_each: int) -> None:
    """One pattern or more, each for one exposure or more."""
    if n < 1 or frames_each < 1:
        raise _refused(
            device, "impossible sequence", "arm", "n ≥ 1, frames_each ≥ 1", f"n = {n}, frames_each = {frames_each}"
        )


def snapshot_of_this(device: str, snapshot: Mapping[str, Any], now: Mapping[str, Any], the_same: Sequence[str]) -> None:
    """A snapshot that says the same as the present one of all that no setting changes."""
    for key in the_same:
        if key in snapshot and snapshot[key] != now.get(key):
            raise CapabilityError(
                f"snapshot of another device, or of this one opened otherwise: {key} differs",
                device=device,
                action="restore settings",
                expected=f"{key} = {now.get(key)}",
                seen=f"{key} = {snapshot[key]}",
                hint="open the device that the snapshot was taken of, with the options of then",
            )


def restored(device: str, snapshot: Mapping[str, Any], now: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Settings that read back as the snapshot has them; else `DeviceProtocolError`."""
    for key in keys:
        if not same_setting(now.get(key), snapshot[key]):
            raise DeviceProtocolError(
                f"{key} does not read back as it was restored",
                device=device,
                action="restore settings",
                expected=f"{key} = {snapshot[key]}",
                seen=f"{key} = {now.get(key)}",
            )


def same_setting(a: object, b: object) -> bool:
    """Are two values of a snapshot the same, but for the rounding of a number on its way through a device?"""
    if isinstance(a, float) or isinstance(b, float):
        return isinstance(a, (int, float)) and isinstance(b, (int, float)) and math.isclose(a, b, rel_tol=1e-6)
    return a == b


def _refused(device: str, what: str, action: str, expected: str, seen: str) -> CapabilityError:
    return CapabilityError(what, device=device, action=action, expected=expected, seen=seen)

"""``preview.npz``: what the camera sees now, for whoever looks from outside; replaced at most once a second.

As `labctl.archive.progress`, it is no part of what a run has found: no seal covers it, nothing rests on it, and where
it cannot be written the run goes on without it. The acquisition hands a frame over and goes on at once; a thread beside
it makes the picture small and writes it.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from groundwork.errors import FileRefused
from groundwork.opening.json_text import parse_json
from groundwork.opening.zipped import open_zip, parse_npy
from labctl.archive.ids import timestamp
from labctl.archive.seal import PREVIEW

SCHEMA = "labctl.preview/1"
SPACING_S = 1.0
WIDTH_MAX, HEIGHT_MAX = 480, 360
"""Pixels of the small picture at most: a block of the camera's pixels becomes one."""
BINS = 64
"""Of the histogram, from 0 to full scale."""
MOST_BYTES = 4 * 2**20
REGIONS_MAX = 4096
WORD_MAX = 100
_CLOSING_S = 2.0
_OF_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
"""What a member of an archive that was altered raises when it is unpacked."""


@dataclass(frozen=True)
class Seen:
    """A frame of the camera, and where it lies.

    Attributes
    ----------
    frame
        (H, W) uint16 [DN]; nobody writes to it any more.
    x, y
        Of its first pixel on the sensor [px].
    full_scale_dn
        What a saturated pixel reads [DN].
    sequence
        Its number.
    what
        The kind of step that it is of.
    regions
        Gives (M, 4, 2) corners x, y of the regions that are summed, on the sensor [px]; None where there are none yet.
        Called beside the acquisition, once for each function.
    """

    frame: NDArray[np.uint16]
    x: int
    y: int
    full_scale_dn: int
    sequence: int
    what: str
    regions: Callable[[], NDArray[np.float32]] | None = None


class PreviewFile:
    """The file of a run folder.

    Parameters
    ----------
    run
        The folder.
    clock
        Monotonic seconds.
    """

    def __init__(self, run: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = run / PREVIEW, clock
        self._next_s = -math.inf
        self._seen: Seen | None = None
        self._change = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._corners: tuple[Callable[[], NDArray[np.float32]] | None, NDArray[np.float32]] = (None, _NO_REGIONS)

    def is_due(self) -> bool:
        """Whether a frame is wanted: `SPACING_S` after the last one, and not while that is being written."""
        return self._clock() >= self._next_s and self._seen is None

    def offer(self, seen: Seen) -> None:
        """Hand a frame over; whether and when it is written is no matter of the caller."""
        self._next_s = self._clock() + SPACING_S
        with self._change:
            self._seen = seen
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_on, name="preview", daemon=True)
                self._thread.start()
            self._change.notify()

    def close(self) -> None:
        """Write what was handed over last, and nothing more."""
        with self._change:
            self._closed = True
            self._change.notify()
        if self._thread is not None:
            self._thread.join(_CLOSING_S)

    def _write_on(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._seen is not None or self._closed)
                seen = self._seen
            if seen is None:
                return
            with contextlib.suppress(OSError):  # on a full disk the picture of before stays
                self._write(seen)
            with self._change:
                if self._seen is seen:  # else another was handed over meanwhile
                    self._seen = None

    def _write(self, seen: Seen) -> None:
        if seen.regions is not None and seen.regions is not self._corners[0]:
            self._corners = (seen.regions, seen.regions()[:REGIONS_MAX])
        height, width = seen.frame.shape
        saturated = seen.frame >= seen.full_scale_dn
        block = max(1, -(-width // WIDTH_MAX), -(-height // HEIGHT_MAX))
        about = {
            "schema": SCHEMA,
            "at": timestamp(),
            "x": seen.x,
            "y": seen.y,
            "width": width,
            "height": height,
            "block": block,
            "full_scale_dn": seen.full_scale_dn,
            "brightest_dn": int(seen.frame.max(initial=0)),
            "mean_dn": round(float(seen.frame.mean()), 3),
            "saturated_pixels": int(saturated.sum()),
            "sequence": seen.sequence,
            "what": seen.what[:WORD_MAX],
        }
        arrays = {
            "mean_dn": _blocks(np.ascontiguousarray(seen.frame), block),
            "saturated": _blocks(saturated.astype(np.float32), block) > 0,
            "histogram": _histogram(seen.frame, seen.full_scale_dn),
            "regions_px": self._corners[1],
            "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        }
        temporary = self._path.with_name(f".{PREVIEW}.tmp")
        try:
            with temporary.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **arrays)
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


@dataclass(frozen=True)
class Preview:
    """What `PreviewFile` has written.

    Attributes
    ----------
    about
        Numbers and words, as they stand in the file.
    mean_dn
        (h, w) uint16, means of blocks [DN].
    saturated
        (h, w) bool, blocks with a saturated pixel.
    histogram
        (`BINS`,) pixels of the whole frame.
    regions_px
        (M, 4, 2) corners x, y on the sensor [px].
    """

    about: dict[str, Any]
    mean_dn: NDArray[np.uint16]
    saturated: NDArray[np.bool_]
    histogram: NDArray[np.int64]
    regions_px: NDArray[np.float32]


def stamp_of(run: Path) -> str:
    """Another one for each picture; empty where there is none."""
    try:
        about = (run / PREVIEW).stat()
    except OSError:
        return ""
    return f"{about.st_mtime_ns:x}"


def read_preview(run: Path) -> Preview | None:
    """The picture of a run folder; None where there is none that can be read."""
    try:
        with open_zip(run / PREVIEW, MOST_BYTES) as file:
            arrays = {name.removesuffix(".npy"): parse_npy(file.read(name)) for name in file.namelist()}
        about = parse_json(arrays["about"].tobytes())
        found = Preview(about, *(arrays[name] for name in ("mean_dn", "saturated", "histogram", "regions_px")))
    except (OSError, ValueError, KeyError, FileRefused, *_OF_ZIP):
        return None
    return found if _is_sound(found) else None


def _is_sound(found: Preview) -> bool:
    about, numbers = found.about, ("x", "y", "width", "height", "block", "full_scale_dn", "saturated_pixels")
    return (
        isinstance(about, dict)
        and about.get("schema") == SCHEMA
        and all(isinstance(about.get(name), int) and about[name] >= 0 for name in numbers)
        and min(about["width"], about["height"], about["block"], about["full_scale_dn"]) > 0
        and all(isinstance(about.get(name), int | float) for name in ("brightest_dn", "mean_dn", "sequence"))
        and all(isinstance(about.get(name), str) and len(about[name]) <= WORD_MAX for name in ("at", "what"))
        and found.mean_dn.ndim == 2
        and found.mean_dn.dtype == np.uint16
        and 0 < found.mean_dn.shape[0] <= HEIGHT_MAX
        and 0 < found.mean_dn.shape[1] <= WIDTH_MAX
        and found.saturated.shape == found.mean_dn.shape
        and found.saturated.dtype == np.bool_
        and found.histogram.shape == (BINS,)
        and found.histogram.dtype.kind == "i"
        and found.regions_px.ndim == 3
        and found.regions_px.shape[1:] == (4, 2)
        and found.regions_px.dtype.kind == "f"
        and len(found.regions_px) <= REGIONS_MAX
    )


_NO_REGIONS = np.empty((0, 4, 2), np.float32)


def _blocks(picture: NDArray[Any], block: int) -> NDArray[Any]:
    """(h, w) means of squares of pixels; the last row and column are repeated where it does not fit.

    OpenCV takes a tenth of NumPy's time, and leaves the interpreter to the acquisition meanwhile.
    """
    height, width = picture.shape
    below, beside = -height % block, -width % block
    whole = cv2.copyMakeBorder(picture, 0, below, 0, beside, cv2.BORDER_REPLICATE) if below or beside else picture
    size = (whole.shape[1] // block, whole.shape[0] // block)
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA))


def _histogram(frame: NDArray[np.uint16], full_scale_dn: int) -> NDArray[np.int64]:
    counts = cv2.calcHist([np.minimum(frame, full_scale_dn)], [0], None, [BINS], [0, full_scale_dn + 1])
    return counts.ravel().astype(np.int64)

"""A folder of images or an HDF5 stack, replayed as a camera.

In the station file::

    [devices.camera]
    backend = "replay"
    options = {path = "data/2026-11-27", exposure_s = 0.004}                                # PNG or TIFF files
    # options = {path = "run12.h5", dataset = "frames", exposure_s = 0.004, bit_depth = 12} # (n, H, W) uint8 or uint16

The files of a folder are played in natural order: ``frame2.png`` before ``frame10.png``. Each exposure takes the next
frame, at most ``frame_rate_hz`` of them in a second, or as fast as they are asked for. All have one shape and one type,
which is looked at when the camera is opened. After the last frame the camera is lost, or begins again with
``loop = true``. The exposure is the one that the station file says; it cannot be set.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.backend import Backend, Family, Proof
from drivers.errors import DeviceLost, NotConnected
from drivers.libraries.loading import load
from drivers.libraries.recorded import Recording, played_back
from drivers.options import Checked, option
from drivers.protocols import DeviceFacts, Identity, OpenContext
from drivers.streaming import StreamingCamera
from groundwork.errors import FileRefused
from groundwork.opening.hdf5 import BROKEN, find_dataset, open_hdf5
from groundwork.opening.pictures import Header, picture_header
from groundwork.opening.regular import open_regular

_SUFFIXES = {".png", ".tif", ".tiff"}


@dataclass(frozen=True)
class ReplayOptions(Checked):
    """Options of the backend ``replay``.

    Attributes
    ----------
    path
        A folder of PNG or TIFF files, or an HDF5 file.
    exposure_s
        That the frames were taken with [s].
    dataset
        Of the HDF5 file: (n, H, W) uint8 or uint16.
    bit_depth
        Of the frames; 8 or 16, as their type says, if omitted [bit].
    frame_rate_hz
        Most frames in a second; as fast as they are asked for if omitted [Hz].
    loop
        Begin again after the last frame.
    """

    path: str
    exposure_s: float = option(1e-7, 3600)
    dataset: str = ""
    bit_depth: int | None = option(1, 16, None)
    frame_rate_hz: float | None = option(1e-3, 1e6, None)
    loop: bool = False


class Folder(Recording):
    """The images of a folder, one of which is in memory.

    Raises
    ------
    NotConnected
        When there are none, or one of them is not like the first one; names the file.
    """

    def __init__(self, name: str, folder: Path, bit_depth: int | None) -> None:
        self._name, self._folder = name, folder
        self._files = sorted((f for f in folder.iterdir() if f.suffix.lower() in _SUFFIXES), key=_natural)
        if not self._files:
            raise _unusable(name, "no images", "PNG or TIFF files", f"none in {folder}")
        headers = [_header(name, file) for file in self._files]
        for file, header in zip(self._files, headers, strict=True):
            if header.channels != 1 or header.bits not in (8, 16) or header.pages != 1:
                raise _unusable(name, f"{file.name} is no gray image", "one gray picture of 8 or 16 bit", f"{header}")
            if header != headers[0]:
                raise _unusable(
                    name, f"{file.name} is not like {self._files[0].name}", f"{headers[0]}", f"{file.name}: {header}"
                )
        self.shape, held = headers[0].shape, headers[0].bits
        self.bit_depth = _fitting(name, bit_depth, held)
        self._dtype = np.dtype(np.uint8 if held == 8 else np.uint16)
        self._cv2 = load("cv2")
        self._next = 0

    def identify(self) -> Identity:
        return Identity("replay", f"folder of {len(self._files)} images", str(self._folder))

    def next_pixels(self) -> NDArray[Any] | None:
        if self._next == len(self._files):
            return None
        file = self._files[self._next]
        pixels: NDArray[Any] | None = self._cv2.imread(str(file), self._cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.shape != self.shape or pixels.dtype != self._dtype:
            raise DeviceLost(
                f"{file.name} can no longer be read",
                device=self._name,
                action="fetch",
                expected=f"{self.shape} {self._dtype}",
                seen="nothing that is an image" if pixels is None else f"{pixels.shape} {pixels.dtype}",
            )
        self._next += 1
        return pixels

    def rewind(self) -> None:
        self._next = 0

    def close(self) -> None:
        pass


class Stack(Recording):
    """A dataset (n, H, W) of an HDF5 file, read frame by frame.

    Raises
    ------
    NotConnected
        When the file has no such dataset, or it is no stack of gray images.
    """

    def __init__(self, name: str, file: Path, dataset: str, bit_depth: int | None) -> None:
        if not dataset:
            raise _unusable(name, "no dataset is named", 'dataset = "frames"', f"only {file.name}")
        self._opened, self._name, self._path = ExitStack(), name, file
        try:
            found = find_dataset(self._opened.enter_context(open_hdf5(file)), dataset, file)
            if found.ndim != 3 or found.dtype.kind != "u" or found.dtype.itemsize > 2 or 0 in found.shape:
                raise _unusable(
                    name,
                    f"{dataset} is no stack of gray images",
                    "(n, H, W) uint8 or uint16",
                    f"{found.shape} {found.dtype}",
                )
            self.shape = (int(found.shape[1]), int(found.shape[2]))
            self.bit_depth = _fitting(name, bit_depth, 8 * found.dtype.itemsize)
        except BROKEN as error:
            self.close()
            raise _unusable(
                name, f"{file.name} cannot be read", f"an HDF5 file with a dataset {dataset}", str(error)
            ) from error
        except BaseException:
            self.close()
            raise
        self._frames, self._next = found, 0
        self._identity = Identity("replay", f"stack of {found.shape[0]} frames", f"{file}:{dataset}")

    def identify(self) -> Identity:
        return self._identity

    def next_pixels(self) -> NDArray[Any] | None:
        if self._next == len(self._frames):
            return None
        try:
            pixels: NDArray[Any] = self._frames[self._next]
        except BROKEN as error:
            raise DeviceLost(
                f"frame {self._next} of {self._path.name} is damaged",
                device=self._name,
                action="fetch",
                seen=str(error),
            ) from error
        self._next += 1
        return pixels

    def rewind(self) -> None:
        self._next = 0

    def close(self) -> None:
        self._opened.close()


def _open(name: str, options: ReplayOptions, context: OpenContext) -> StreamingCamera:
    recording = _recording(name, options)
    return played_back(name, recording, options.exposure_s, options.frame_rate_hz, options.loop)


def _recording(name: str, options: ReplayOptions) -> Recording:
    path = Path(options.path).expanduser()
    if path.is_dir():
        if options.dataset:
            raise _unusable(name, "a folder has no datasets", "no option dataset", options.dataset)
        return Folder(name, path, options.bit_depth)
    if path.is_file():
        return Stack(name, path, options.dataset, options.bit_depth)
    raise _unusable(name, "nothing to replay", "a folder of images, or an HDF5 file", f"no {path}")


def _describe(options: ReplayOptions, context: OpenContext) -> DeviceFacts:
    recording = _recording("camera", options)
    recording.close()
    return DeviceFacts(recording.shape, bit_depth=recording.bit_depth, max_fps=options.frame_rate_hz)


def _fitting(name: str, wanted: int | None, held: int) -> int:
    """The bit depth, which the type of the pixels must hold."""
    if wanted is None:
        return held
    if wanted > held:
        raise _unusable(name, "bit depth and pixels do not agree", f"at most {held} bit", f"bit_depth = {wanted}")
    return wanted


def _natural(file: Path) -> list[tuple[int, str]]:
    """``frame2`` before ``frame10``: numbers compare as numbers, and before letters."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", file.name)]


def _header(name: str, file: Path) -> Header:
    try:
        with open_regular(file) as opened:
            return picture_header(opened, file)
    except FileRefused as error:
        raise _unusable(name, f"{file.name}: {error.what}", error.expected, error.seen) from error


def _unusable(name: str, what: str, expected: str, seen: str) -> NotConnected:
    return NotConnected(what, device=name, action="open a recording", expected=expected, seen=seen)


_TEST = "tests/endpoints/test_replay.py"

REPLAY = Backend(
    "replay",
    ("camera",),
    ReplayOptions,
    _open,
    _describe,
    families=(
        Family("folder of PNG or TIFF images", Proof.LIVE, "files written by OpenCV", _TEST),
        Family("HDF5 stack", Proof.LIVE, "files written by h5py", _TEST),
    ),
    warning="replays what was recorded: nothing that a panel shows changes it",
)
"""Recorded frames as a camera."""

"""Cameras through pylablib: Andor, DCAM (Hamamatsu), PCO, Photometrics, Picam, Thorlabs, uc480, IMAQdx, Mightex …

In the station file::

    [devices.camera]
    backend = "pylablib.camera"
    [devices.camera.options]
    target = "pylablib.devices.Thorlabs:ThorlabsTLCamera"
    args = {serial = "13452"}
    bit_depth = 12
    dlls = {thorlabs_tlcam = "/opt/thorlabs/lib"}     # where pylablib does not find the maker's library by itself

What is particular to it:

* pylablib is under the GPL, version 3. It is imported when such a device is opened, and at no other time.
* pylablib does not know the bit depth: it must be given, and is compared with the data. Values beyond it are refused.
* No clock is read from the camera: a frame is stamped with the last moment at which it was certainly not there yet,
  less the exposure and ``latency_s``, the longest time from the end of an exposure until pylablib has the frame.
* Frames are numbered by the camera's own frame stamp where the class reports one, else by pylablib's index; both have
  gaps where frames were lost in pylablib's buffer, and only the first where they were lost before.
* ``snap()`` is never called: it starts and stops the camera for each frame.
* No device was connected when this was written. Its test runs pylablib's own camera classes (waiting, buffer, lost
  frames) with a simulated sensor below them.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from drivers.acquire import AcquireLogic, RawFrame
from drivers.backend import Backend, Family, Proof
from drivers.errors import (
    CapabilityError,
    DeviceError,
    DeviceLost,
    DeviceProtocolError,
    DroppedFrames,
    NotConnected,
    OptionError,
)
from drivers.libraries.loading import load
from drivers.options import Checked, option
from drivers.pixels import MonoPixels
from drivers.protocols import Identity, OpenContext, Roi
from drivers.streaming import StreamingCamera

SHORTEST_S, LONGEST_S = 1e-6, 3600.0
"""Exposures that may be asked for; what the camera makes of one is read back [s]."""
MISSED = 0.2
"""Relative difference between exposure asked for and read back at which it counts as refused [1]."""
SLICE_S = 5e-3
"""Longest wait for a frame in one go: settings are read in between [s]."""

VENDOR = "vendor", "manufacturer"
MODEL = "model", "product", "camera_model", "head_model", "name", "camera_name"
SERIAL = "serial_number", "serial", "serial_no"
FIRMWARE = "firmware_version", "camera_version", "devversion", "version"
"""What the classes call the parts of their ``get_device_info()``."""


@dataclass(frozen=True)
class PylablibOptions(Checked):
    """Options of the backend ``pylablib.camera``.

    Attributes
    ----------
    target
        Class of the camera, ``module:class``.
    args
        Arguments of that class, by name.
    bit_depth
        Of the data that the camera sends [bit].
    justified
        Where the bits lie in a 16-bit word; ``"auto"`` finds out from the data.
    dlls
        Where makers' libraries are, by pylablib's names for them.
    buffers
        Frames in pylablib's buffer.
    latency_s
        Longest time from the end of an exposure until pylablib has the frame [s].
    opening_s
        Time for the first frame [s].
    """

    target: str
    bit_depth: int = option(1, 16)
    args: Mapping[str, Any] = field(default_factory=dict)
    justified: Literal["auto", "right", "left"] = "auto"
    dlls: Mapping[str, Any] = field(default_factory=dict)
    buffers: int = option(2, 100_000, 100)
    latency_s: float = option(0, 10, 0.05)
    opening_s: float = option(0.1, 600, 10.0)


class PylablibAcquire(AcquireLogic):
    """What only pylablib knows of a camera. Its objects are not made for two threads: a lock keeps them apart.

    The thread that takes frames has the lock nearly all the time, and whoever else wants it would get it by chance. So
    each waits for a turn, and takes the lock in it.

    Parameters
    ----------
    device
        What the station calls it.
    camera
        An open camera of pylablib, closed by `close`.
    options
        Of the station file.
    """

    exposure_range_s = SHORTEST_S, LONGEST_S

    def __init__(self, device: str, camera: Any, options: PylablibOptions) -> None:
        self._device, self._camera = device, camera
        self._buffers, self._latency_s = options.buffers, options.latency_s
        self._turn, self._lock = threading.Lock(), threading.Lock()
        self._waiting: deque[RawFrame] = deque()
        self._not_before_s = 0.0
        self.bit_depth = options.bit_depth
        self._info = self._ask("identify", camera.get_device_info)
        width, height = self._ask("read the size", camera.get_detector_size)
        self.shape = int(height), int(width)
        if hasattr(camera, "set_roi"):
            self._ask("open the full sensor", camera.set_roi)
        if self.roi != Roi(0, 0, int(width), int(height)):
            raise DeviceProtocolError(
                "the camera does not open its full sensor",
                device=device,
                action="open",
                expected=f"{width} × {height} pixels from 0, 0",
                seen=f"{self.roi}",
            )
        self._exposure_s = self._read_exposure_s()

    def identify(self) -> Identity:
        said = self._info._asdict() if hasattr(self._info, "_asdict") else {}
        kind = type(self._camera)
        return Identity(
            _first(said, VENDOR) or kind.__module__.split(".")[-1],
            _first(said, MODEL) or kind.__name__,
            _first(said, SERIAL) or "unknown",
            _first(said, FIRMWARE),
        )

    @property
    def exposure_s(self) -> float:
        self._exposure_s = self._read_exposure_s()
        return self._exposure_s

    def set_exposure_s(self, value: float) -> None:
        before_s = self._exposure_s
        self._ask("set the exposure", lambda: self._camera.set_exposure(value))
        if abs(self.exposure_s - value) > MISSED * value:
            seen_s = self._exposure_s
            self._ask("set the exposure", lambda: self._camera.set_exposure(before_s))
            raise CapabilityError(
                "the camera takes another exposure",
                device=self._device,
                action="set the exposure",
                expected=f"{value:g} s",
                seen=f"{seen_s:g} s read back",
            )

    @property
    def roi(self) -> Roi:
        left, right, top, bottom = self._ask("read the region", self._camera.get_roi)[:4]
        return Roi(int(left), int(top), int(right - left), int(bottom - top))

    def set_roi(self, value: Roi) -> None:
        spans = value.x, value.x + value.width, value.y, value.y + value.height
        self._ask("set the region", lambda: self._camera.set_roi(*spans))

    @property
    def frame_period_s(self) -> float:
        period_s = self._ask("read the frame period", self._camera.get_frame_period)
        return max(float(period_s or 0.0), self._exposure_s)

    def start(self) -> None:
        self._waiting.clear()
        self._not_before_s = time.monotonic()
        self._ask("set up the stream", lambda: self._camera.setup_acquisition(nframes=self._buffers))
        self._ask("start the stream", self._camera.start_acquisition)

    def stop(self) -> None:
        self._ask("stop the stream", self._camera.stop_acquisition)

    def next_frame(self, timeout_s: float) -> RawFrame | None:
        deadline_s = time.monotonic() + timeout_s
        while not self._waiting:
            asked_s = time.monotonic()
            if asked_s >= deadline_s:
                return None
            with self._alone(), self._told("fetch", DeviceLost):
                arrived = self._arrives(min(SLICE_S, deadline_s - asked_s))
                if arrived:
                    self._read()
            if not arrived:
                self._not_before_s = asked_s
        return self._waiting.popleft()

    def settings(self) -> dict[str, Any]:
        status = self._ask("read the status", self._camera.get_frames_status)
        return {"skipped_frames": int(status.skipped), "buffer_frames": int(status.buffer_size)}

    def close(self) -> None:
        with self._alone():
            self._camera.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Until the block ends no other thread is in pylablib."""
        with self._turn:
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def _arrives(self, timeout_s: float) -> bool:
        """Is a frame there within ``timeout_s``?"""
        try:
            runs = self._camera.wait_for_frame(since="lastread", timeout=timeout_s)
        except self._camera.TimeoutError:  # to some classes any error is one: a camera that is gone has no status
            return bool(self._camera.get_frames_status().unread)
        if not runs:
            raise DeviceLost("the camera has ended the stream", device=self._device, action="fetch")
        return True

    def _read(self) -> None:
        """All frames that are there, none of which was at ``_not_before_s``."""
        asked_s = time.monotonic()
        begins_s = self._not_before_s - self._exposure_s - self._latency_s
        frames, infos = self._camera.read_multiple_images(return_info=True)
        for pixels, info in zip(frames or (), infos or (), strict=True):
            self._waiting.append(RawFrame(pixels, begins_s, _number(info)))
        self._not_before_s = asked_s

    def _read_exposure_s(self) -> float:
        return float(self._ask("read the exposure", self._camera.get_exposure))

    def _ask(self, what: str, function: Callable[[], Any]) -> Any:
        with self._alone(), self._told(what, DeviceProtocolError):
            return function()

    @contextmanager
    def _told(self, what: str, kind: type[DeviceError]) -> Iterator[None]:
        """What pylablib says in here is told as an error of the device."""
        try:
            yield
        except DeviceError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if isinstance(error, self._camera.FrameTransferError):  # frames were lost, and the camera is there
                kind = DroppedFrames
            raise kind(
                f"pylablib: {reason}", device=self._device, action=what, seen=reason, hint="open the device again"
            ) from error


def _first(said: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((str(said[name]) for name in names if said.get(name)), "")


def _number(info: Any) -> int:
    """The camera's frame stamp, or pylablib's index, or −1."""
    stamp = getattr(info, "framestamp", None)
    index = stamp if stamp is not None else getattr(info, "frame_index", None)
    return -1 if index is None else int(index)


def _class(options: PylablibOptions) -> Any:
    """The class that the options name; pylablib is told where makers' libraries are.

    Raises
    ------
    OptionError
        When it is not there, or no camera of pylablib.
    """
    settings = load("pylablib:par")
    if sys.platform != "win32":
        settings["devices/only_windows_dlls"] = False
    for name, path in options.dlls.items():
        settings[f"devices/dlls/{name}"] = str(path)
    try:
        kind = load(options.target)
    except (ImportError, AttributeError, ValueError) as error:
        raise _not_a_camera(options.target, f"{type(error).__name__}: {error}") from error
    if not isinstance(kind, type) or not issubclass(kind, load("pylablib.devices.interface.camera:ICamera")):
        raise _not_a_camera(options.target, repr(kind))
    return kind


def _not_a_camera(target: str, seen: str) -> OptionError:
    return OptionError(
        f"{target} is no camera of pylablib",
        action="reading options",
        expected='a class, "pylablib.devices.Thorlabs:ThorlabsTLCamera"',
        seen=seen,
        hint="pylablib's manual lists its camera classes",
    )


def _open(name: str, options: PylablibOptions, context: OpenContext) -> StreamingCamera:
    kind = _class(options)
    try:
        camera = kind(**options.args)
    except Exception as error:
        raise NotConnected(
            f"pylablib does not open the camera: {type(error).__name__}: {error}",
            device=name,
            action="open",
            expected=f"{options.target} with {dict(options.args)}",
            seen=str(error),
            hint="dlls = {name = path} says where the maker's library is",
        ) from error
    try:
        acquire = PylablibAcquire(name, camera, options)
    except BaseException:
        camera.close()
        raise
    words = 16 if options.bit_depth > 8 else 8
    shift = {"auto": None, "right": 0, "left": words - options.bit_depth}[options.justified]
    return StreamingCamera(name, acquire, MonoPixels(options.bit_depth, shift), None, options.opening_s)


FAMILIES = (
    "Allied Vision Bonito, Vimba X",
    "Andor SDK2, SDK3",
    "BitFlow, IMAQ, Silicon Software frame grabbers",
    "Hamamatsu and others, DCAM",
    "IDS peak, uc480 / uEye",
    "Mightex S series",
    "NI IMAQdx",
    "PCO",
    "PhotonFocus",
    "Photometrics, PVCAM",
    "Princeton Instruments, Picam",
    "Teledyne, Spinnaker",
    "Thorlabs scientific cameras",
)

PYLABLIB = Backend(
    "pylablib.camera",
    ("camera",),
    PylablibOptions,
    _open,
    needs=("pylablib",),
    install="pip install labctl[pylablib]",
    families=(
        Family(
            "a camera of pylablib",
            Proof.FAKE,
            "pylablib's own camera classes with a simulated sensor",
            "tests/endpoints/test_pylablib.py",
        ),
        *(Family(f"{name} (pylablib)", Proof.NOT_RUN) for name in FAMILIES),
    ),
    warning="pylablib is under the GPL; no device of it has been run by us",
)
"""Cameras of pylablib."""

"""Any camera that Micro-Manager drives: Andor, Hamamatsu, PCO, Photometrics, Thorlabs, uEye and about a hundred more.

In the station file, from a configuration made with Micro-Manager's Hardware Configuration Wizard::

    [devices.camera]
    backend = "micromanager.camera"
    options = {config = "bench.cfg", label = "Andor", properties = {"PixelType" = "16bit"}}

or without a file, for a device that needs neither a hub nor a serial port::

    [devices.camera]
    backend = "micromanager.camera"
    options = {library = "DemoCamera", device = "DCam", properties = {PixelType = "16bit", BitDepth = "12"}}

What is particular to it:

* ``pip install labctl[micromanager]`` brings the core; the device adapters are those of an installed Micro-Manager of
  the same interface version (``mmcore install``, or ``adapter_paths``).
* One core has one buffer for images, so that it runs one camera; a second one needs a configuration of its own.
* The core has no clock of the camera's. A frame is stamped with its arrival in the core, less the exposure and
  ``latency_s``: the longest time from the end of an exposure until the image is there, read-out included. Too small a
  value lets a frame pass that began before ``arm``; too large a value costs frames after it. The core notes arrivals by
  the computer's clock; where somebody has set that meanwhile, a frame counts as having arrived when the core had none.
* The time between frames is what was measured since the stream began; before two frames have come, it is the exposure.
* The automatic shutter of Micro-Manager is switched off: the station's light source decides.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np

from drivers.acquire import AcquireLogic, RawFrame
from drivers.backend import Backend, Family, Found, Proof
from drivers.errors import CapabilityError, DeviceLost, DroppedFrames
from drivers.libraries.micromanager import CAMERA, Handle, MicroManagerOptions, found, hold
from drivers.options import option
from drivers.pixels import MonoPixels
from drivers.protocols import Identity, OpenContext, Roi
from drivers.streaming import StreamingCamera

SHORTEST_S = 1e-6
"""Exposure below which no camera is asked to go: many adapters take 0 for a command of their own [s]."""
LONGEST_S = 3600.0
"""Longest exposure of a camera that declares none [s]."""
CLOCK_STEP_S = 5e-3
"""By how much the computer's clock may part from the steady one before it counts as set [s]."""
MISSED = 0.2
"""Relative difference between exposure asked for and read back at which it counts as refused [1]."""
POLL_S, LOOK_S = 0.5e-3, 0.02
"""How often the core is asked for an image, and whether the camera still runs, which may take longer [s]."""
MEASURED = 8
"""Frames from which the time between frames is estimated."""


@dataclass(frozen=True)
class MicroManagerCameraOptions(MicroManagerOptions):
    """Options of the backend ``micromanager.camera``, besides those of `MicroManagerOptions`.

    Attributes
    ----------
    justified
        Where the bits lie in a 16-bit word; ``"auto"`` finds out from the data.
    latency_s
        Longest time from the end of an exposure until its image is in the core [s].
    buffer_mb
        The core's memory for images [MB].
    opening_s
        Time for the first frame [s].
    """

    justified: Literal["auto", "right", "left"] = "auto"
    latency_s: float = option(0, 10, 0.05)
    buffer_mb: int = option(1, 65536, 250)
    opening_s: float = option(0.1, 600, 10.0)


@dataclass(frozen=True)
class _Empty:
    """When the core had no image for us: those that come later have arrived later.

    Attributes
    ----------
    at_s
        On the host's clock `time.monotonic` [s].
    clock_s
        By how much the computer's clock was before that [s].
    """

    at_s: float
    clock_s: float

    @classmethod
    def now(cls) -> _Empty:
        for _ in range(3):  # a busy computer may let time pass between the two clocks
            at_s = time.monotonic()
            clock_s = time.time() - at_s
            if time.monotonic() - at_s < CLOCK_STEP_S / 5:
                break
        return cls(at_s, clock_s)

    def arrived_s(self, noted: datetime) -> float:
        """When an image arrived, on the steady clock, that the computer's clock has noted in local time [s]."""
        now = _Empty.now()
        arrived_s = now.at_s - (datetime.fromtimestamp(now.at_s + now.clock_s) - noted).total_seconds()
        is_set = abs(now.clock_s - self.clock_s) > CLOCK_STEP_S
        if is_set or not self.at_s - CLOCK_STEP_S <= arrived_s <= now.at_s + CLOCK_STEP_S:
            return self.at_s
        return arrived_s


class MicroManagerAcquire(AcquireLogic):
    """What only the core knows of a camera.

    Parameters
    ----------
    handle
        The camera in its core.
    options
        Of the station file.
    """

    def __init__(self, handle: Handle, options: MicroManagerCameraOptions) -> None:
        self._handle, self._core, self._native = handle, handle.core, handle.core.native
        self._latency_s = options.latency_s
        self._arrivals_s: deque[float] = deque(maxlen=MEASURED)
        self._between_s = 0.0  # from the end of one exposure to the start of the next, as last measured
        self._number, self._has_overflowed = -1, False
        self._empty = _Empty.now()
        label, native = handle.label, self._native
        self._ask("choose the camera", lambda: native.setCameraDevice(label))
        self._ask("set the buffer", lambda: native.setCircularBufferMemoryFootprint(options.buffer_mb))
        self._ask("open the full sensor", native.clearROI)
        self._identity = self._core.identity(label)
        self.shape = self._ask("read the size", lambda: (native.getImageHeight(), native.getImageWidth()))
        self.bit_depth, size, components = self._ask(
            "read the pixel type",
            lambda: (native.getImageBitDepth(), native.getBytesPerPixel(), native.getNumberOfComponents()),
        )
        if components != 1 or size > 2 or self.bit_depth > 8 * size:
            raise CapabilityError(
                "the camera sends no gray image of one or two bytes a pixel",
                device=handle.name,
                action="open",
                expected="1 component of 1 or 2 bytes",
                seen=f"{components} components, {size} bytes a pixel, {self.bit_depth} bits",
                hint='options = {properties = {PixelType = "16bit"}}, if the camera calls it so',
            )
        self.exposure_range_s = self._ask("read the exposure's limits", self._limits_s)
        self._exposure_s = self._read_exposure_s()

    def identify(self) -> Identity:
        return self._identity

    @property
    def exposure_s(self) -> float:
        self._exposure_s = self._read_exposure_s()
        return self._exposure_s

    def set_exposure_s(self, value: float) -> None:
        before_s = self._exposure_s
        self._arrivals_s.clear()
        self._write_exposure_s(value)
        if abs(self.exposure_s - value) > MISSED * value:
            seen_s = self._exposure_s
            self._write_exposure_s(before_s)
            raise CapabilityError(
                "the camera takes another exposure",
                device=self._handle.name,
                action="set the exposure",
                expected=f"{value:g} s",
                seen=f"{seen_s:g} s read back",
            )

    @property
    def roi(self) -> Roi:
        native, label = self._native, self._handle.label
        return Roi(*(int(value) for value in self._ask("read the region", lambda: native.getROI(label))))

    def set_roi(self, value: Roi) -> None:
        native, label = self._native, self._handle.label
        self._ask("set the region", lambda: native.setROI(label, value.x, value.y, value.width, value.height))

    @property
    def frame_period_s(self) -> float:
        arrivals_s = list(self._arrivals_s)
        if len(arrivals_s) > 2:
            self._between_s = max(float(np.median(np.diff(arrivals_s))) - self._exposure_s, 0.0)
        return self._exposure_s + self._between_s

    def start(self) -> None:
        self._number, self._has_overflowed = -1, False
        self._arrivals_s.clear()
        self._empty = _Empty.now()
        self._ask("start the stream", lambda: self._native.startContinuousSequenceAcquisition(0))

    def stop(self) -> None:
        native, label = self._native, self._handle.label
        if not self._core.is_stuck and self._ask("ask for the stream", lambda: native.isSequenceRunning(label)):
            self._ask("stop the stream", native.stopSequenceAcquisition)

    def next_frame(self, timeout_s: float) -> RawFrame | None:
        native, label = self._native, self._handle.label
        deadline_s = time.monotonic() + timeout_s
        look_s = time.monotonic() + LOOK_S
        while (taken := self._taken()) is None:
            now_s = time.monotonic()
            if now_s >= deadline_s:
                return None
            if now_s >= look_s:
                look_s = now_s + LOOK_S
                if not native.isSequenceRunning(label) and not native.getRemainingImageCount():
                    raise DeviceLost("the camera has ended the stream", device=self._handle.name, action="fetch")
            time.sleep(POLL_S)
        return self._frame(*taken)

    def settings(self) -> dict[str, Any]:
        return {"properties": self._core.properties(self._handle.label, self._handle.timeout_s)}

    def close(self) -> None:
        self._handle.release()

    def _taken(self) -> tuple[Any, Mapping[str, Any]] | None:
        """Return the next image with its tags; None without one.

        An adapter whose buffer has run over empties it, which may be after the core has counted an image and before it
        is taken. What was lost shows in the number of the next one.
        """
        before = _Empty.now()
        try:
            if self._native.getRemainingImageCount():
                image, tags = self._native.popNextImageAndMD()
                return image, tags
        except IndexError:
            pass
        self._empty = before
        return None

    def _frame(self, image: Any, tags: Mapping[str, Any]) -> RawFrame:
        """An image with its stamp and its number.

        Raises
        ------
        DroppedFrames
            When the core's buffer ran over: it is emptied then, and the numbers may begin again. An adapter that
            empties it goes on at once, so that only a buffer that is still over with the next image is not emptied.
        """
        arrived_s = self._empty.arrived_s(datetime.fromisoformat(tags["TimeReceivedByCore"]))
        number = int(tags.get("ImageNumber", -1))
        stays_over, self._has_overflowed = self._has_overflowed, bool(self._native.isBufferOverflowed())
        if (stays_over and self._has_overflowed) or 0 <= number <= self._number:
            raise DroppedFrames(
                "Micro-Manager's image buffer ran over",
                device=self._handle.name,
                action="fetch",
                expected=f"image {self._number + 1}",
                seen=f"image {number}",
                hint="options = {buffer_mb = …}, or a smaller region",
            )
        self._number = number
        self._arrivals_s.append(arrived_s)
        return RawFrame(image, arrived_s - self._exposure_s - self._latency_s, number)

    def _ask(self, what: str, function: Any) -> Any:
        return self._handle.call(what, function)

    def _limits_s(self) -> tuple[float, float]:
        native, label = self._native, self._handle.label
        if not native.hasProperty(label, "Exposure") or not native.hasPropertyLimits(label, "Exposure"):
            return SHORTEST_S, LONGEST_S
        low, high = (
            1e-3 * float(limit(label, "Exposure"))
            for limit in (native.getPropertyLowerLimit, native.getPropertyUpperLimit)
        )
        return max(low, SHORTEST_S), high

    def _read_exposure_s(self) -> float:
        label = self._handle.label
        return 1e-3 * float(self._ask("read the exposure", lambda: self._native.getExposure(label)))

    def _write_exposure_s(self, value: float) -> None:
        label = self._handle.label
        self._ask("set the exposure", lambda: self._native.setExposure(label, 1e3 * value))


def _open(name: str, options: MicroManagerCameraOptions, context: OpenContext) -> StreamingCamera:
    handle = hold(name, CAMERA, options, context)
    try:
        acquire = MicroManagerAcquire(handle, options)
    except BaseException:
        handle.release()
        raise
    return StreamingCamera(
        name, acquire, MonoPixels(acquire.bit_depth, _shift(acquire, options)), None, options.opening_s
    )


def _shift(acquire: MicroManagerAcquire, options: MicroManagerCameraOptions) -> int | None:
    """Bits by which values are too large; None to find out."""
    shifts = {"auto": None, "right": 0, "left": 8 * (2 if acquire.bit_depth > 8 else 1) - acquire.bit_depth}
    return shifts[options.justified]


def _discover() -> Sequence[Found]:
    return found(CAMERA)


TEST = "tests/endpoints/test_micromanager.py"

MICROMANAGER_CAMERA = Backend(
    "micromanager.camera",
    ("camera",),
    MicroManagerCameraOptions,
    _open,
    needs=("pymmcore_plus",),
    install="pip install labctl[micromanager]",
    discover=_discover,
    families=(
        Family("Micro-Manager DemoCamera", Proof.LIVE, "Micro-Manager's core and its demonstration adapter", TEST),
        Family("any other camera of Micro-Manager", Proof.NOT_RUN),
    ),
)
"""Cameras of Micro-Manager."""

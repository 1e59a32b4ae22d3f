"""Cameras through slmsuite's classes: Basler, FLIR, Allied Vision, Thorlabs, The Imaging Source, MindVision and more.

In the station file, by family, with the arguments that slmsuite's class takes::

    [devices.camera]
    backend = "slmsuite.camera"
    options = {target = "basler", arguments = {serial = "22334455"}}
    # target = "flir"          arguments = {serial = "19500001", bitdepth = 12}
    # target = "thorlabs"      arguments = {serial = "08153"}
    # target = "alliedvision"  arguments = {serial = "DEV_1AB22C00"}
    # target = "mmcore"        arguments = {config = "bench.cfg", path = "C:\\\\Program Files\\\\Micro-Manager-2.0"}
    # target = "pylablib"      arguments = {cam = {target = "pylablib.devices.uc480:UC480Camera"}}, bit_depth = 10
    # target = "webcam"        arguments = {identifier = "http://camera/v.mjpg", color_channel = 1}, exposure_s = 0.02
    # target = "my_package.my_camera:MyCamera", any subclass of slmsuite.hardware.cameras.camera:Camera

slmsuite's cameras take one frame per call. The classes of which a call starts the exposure are used like a camera with
a software trigger: a frame begins after it was asked for. Those that keep frames in a queue (Thorlabs, FLIR,
MindVision) have it emptied first, because a frame that came late for an earlier call would otherwise be taken for the
next one, and all that follow would be one late. The classes that run freely (Webcam, Xenics) are read all the time, and
frames count from when they began, at most ``latency_s`` before they arrived.

What slmsuite does quietly is refused here or not done. A failure that it only writes to its log is an error; a grab is
tried once, not five times; frames are not averaged, nor put together from several exposures; a colour camera's first
channel is not taken unasked (name ``color_channel`` to have one). Its Basler and Allied Vision classes leave automatic
exposure and gain on where one earlier setting failed: they are switched off, and looked at.
``bit_depth`` overrides what a class says: pylablib's and instrumental's say 8 whatever the camera sends, and GenICam
cameras say 16 for 12-bit pixels, which is found out and refused. Micro-Manager, Basler and OpenCV cameras have backends
of their own here, which are faster.

`Proof.FAKE` below means that slmsuite's own class was run on a stand-in for the vendor's library.
"""

from __future__ import annotations

import math
import queue
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from statistics import median
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from drivers.acquire import AcquireLogic, RawFrame
from drivers.backend import Backend, Family, Found, Proof
from drivers.errors import CapabilityError, DeviceError, DeviceLost, DeviceProtocolError, NotConnected, StaleFrames
from drivers.libraries import slmsuite
from drivers.libraries.addresses import without_password
from drivers.libraries.drain import Drain
from drivers.libraries.loading import load
from drivers.libraries.worker import Worker
from drivers.options import Checked, option
from drivers.pixels import MonoPixels
from drivers.protocols import Identity, OpenContext, Roi
from drivers.streaming import StreamingCamera, TriggeredStreamingCamera
from drivers.triggers import SoftwareTrigger

T = TypeVar("T")

_BASE = "slmsuite.hardware.cameras.camera:Camera"
_FREE_RUNNING = {slmsuite.CAMERAS[family].target for family in ("webcam", "xenics")}
_EXPOSED_BY_THE_CALL = {
    slmsuite.CAMERAS[family].target
    for family in ("alliedvision", "basler", "imagingsource", "instrumental", "mmcore", "pylablib", "simulated")
}


@dataclass(frozen=True)
class SlmsuiteCameraOptions(Checked):
    """Options of the backend ``slmsuite.camera``.

    Attributes
    ----------
    target
        A family (``"basler"``) or the path of a class, ``"package.module:Class"``.
    arguments
        Of the class; a table ``{target = "package.module:Class", arguments = {...}}`` is an object made first.
    bit_depth
        Of the frames, where the class does not know it [bit].
    exposure_s
        Of a source whose exposure cannot be set [s]; the exposure can be set if omitted.
    exposure_min_s, exposure_max_s
        Limits of the exposure, where the class does not say them [s].
    grab_timeout_s
        How long one frame may take beyond its exposure [s].
    latency_s
        Of a camera that runs freely: longest time from the end of an exposure until the frame is here [s].
    opening_s
        Time that opening may take [s].
    """

    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    bit_depth: int | None = option(1, 16, None)
    exposure_s: float | None = option(1e-7, 3600, None)
    exposure_min_s: float = option(1e-7, 3600, 1e-5)
    exposure_max_s: float = option(1e-7, 3600, 10.0)
    grab_timeout_s: float = option(0.01, 600, 2.0)
    latency_s: float = option(0, 60, 0.25)
    opening_s: float = option(0.1, 600, 30.0)


class SlmsuiteAcquire(AcquireLogic):
    """What is the same for all of slmsuite's cameras: settings, identity, and grabbing one frame.

    Parameters
    ----------
    name
        What the station calls the camera.
    options
        Its options; it is opened here.
    """

    def __init__(self, name: str, options: SlmsuiteCameraOptions) -> None:
        self._name, self._options = name, options
        self.kind = slmsuite.kind_of(name, options.target, slmsuite.CAMERAS)
        self._worker = Worker(name)
        self._warned: list[str] = []
        try:
            self._camera = self._worker.call("open", self._opened, options.opening_s)
        except BaseException:
            self._worker.close()
            raise
        self.shape: tuple[int, int] = tuple(int(n) for n in self._camera.sensor_shape)  # type: ignore[assignment]
        try:
            self._worker.call("set up", self._set_up, options.opening_s)
        except BaseException:
            self.close()
            raise

    def identify(self) -> Identity:
        camera = self._camera
        serial = without_password(str(camera.name))
        return Identity(slmsuite.vendor_of(self.kind), type(camera).__name__, serial, slmsuite.version())

    def settings(self) -> dict[str, Any]:
        return {"class": self.kind.target, "warned_at_opening": list(self._warned)}

    @property
    def exposure_s(self) -> float:
        return self._exposure_s

    def set_exposure_s(self, value: float) -> None:
        if self._options.exposure_s is None:
            self._exposure_s = self._asked("set the exposure", lambda: self._exposed(value))

    @property
    def roi(self) -> Roi:
        return self._roi

    def set_roi(self, value: Roi) -> None:
        self._roi = self._asked("set the region of interest", lambda: self._cropped(value))

    def close(self) -> None:
        camera = self._camera
        self._worker.end("close", lambda: slmsuite.let_go(camera), 5.0)

    def _asked(self, action: str, do: Callable[[], T]) -> T:
        """Have slmsuite set something; what it raises says, too, whether the camera is still there."""
        try:
            return self._worker.call(action, do, self._patience_s)
        except DeviceError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            try:
                self._worker.call("read the exposure", self._camera.get_exposure, self._patience_s)
            except Exception:
                raise DeviceLost("the camera is gone", device=self._name, action=action, seen=reason) from error
            raise CapabilityError("the camera refuses it", device=self._name, action=action, seen=reason) from error

    @property
    def _patience_s(self) -> float:
        """How long a call may take that has to wait for the end of a grab [s]."""
        return 2 * (self._exposure_s + self._options.grab_timeout_s)

    def _opened(self) -> Any:
        slmsuite.quiet()
        found = slmsuite.found_class(self._name, self.kind, _BASE)
        with slmsuite.complaints() as said:
            camera = slmsuite.made(found, self._options.arguments)
        self._warned = [without_password(words) for words in said]
        camera.capture_attempts = 1
        return camera

    def _set_up(self) -> None:
        """Leave nothing to what the camera was set to before."""
        camera, options = self._camera, self._options
        _automatic_off(self._name, camera)
        rows, columns = self.shape
        if tuple(camera.get_woi()) != (0, columns, 0, rows):
            camera.set_woi(None)
        self._roi = _as_roi(camera.woi)
        if options.exposure_s is not None:
            self._exposure_s = options.exposure_s
            self.exposure_range_s = (options.exposure_s, options.exposure_s)
        else:
            low, high = camera.exposure_bounds_s or (options.exposure_min_s, options.exposure_max_s)
            self.exposure_range_s = float(low), float(high)
            self._exposure_s = float(camera.get_exposure())
            present_s = min(max(self._exposure_s, low), high)
            self._exposed(present_s / 2 if present_s / 2 >= low else high)  # a class that only says yes is found out
            self._exposure_s = self._exposed(present_s)
        raw = np.asarray(camera._get_image_hw(timeout_s=options.grab_timeout_s + self._exposure_s))
        self.bit_depth = _bit_depth(self._name, camera, raw.dtype, options.bit_depth)
        if raw.ndim == 3 and "color_channel" not in options.arguments:
            raise CapabilityError(
                "frames are in colour",
                device=self._name,
                action="open",
                expected="one gray value a pixel",
                seen=f"{raw.shape[2]} channels",
                hint="choose one: arguments = {color_channel = 1}; 0 is red, 1 is green",
            )

    def _exposed(self, value: float) -> float:
        """Set the exposure and read it back; a camera that takes no notice is refused."""
        seen_s = float(self._camera.set_exposure(value))
        if not (math.isfinite(seen_s) and abs(seen_s - value) <= max(0.1 * value, 1e-4)):
            raise CapabilityError(
                "the exposure does not read back as it was set",
                device=self._name,
                action="set the exposure",
                expected=f"{value:g} s",
                seen=f"{seen_s:g} s",
                hint="where it cannot be set, say what it is: exposure_s = 0.02",
            )
        return seen_s

    def _cropped(self, roi: Roi) -> Roi:
        return _as_roi(self._camera.set_woi((roi.x, roi.width, roi.y, roi.height)))

    def _grab(self) -> NDArray[Any]:
        """One frame, which slmsuite has copied out of the vendor's buffer."""
        camera = self._camera
        with slmsuite.complaints() as said:
            pixels: NDArray[Any] = camera.get_image(timeout_s=self._options.grab_timeout_s, hdr=False, averaging=False)
        if said:  # its class for The Imaging Source returns the frame before, after a failure that it only logs
            raise DeviceProtocolError(
                "slmsuite complained of the frame that it returned",
                device=self._name,
                action="read a frame",
                expected="a frame and nothing logged",
                seen=without_password("; ".join(said)),
            )
        return pixels


class OnRequest(SlmsuiteAcquire):
    """A class of which each call takes a new frame. `fire` makes the call, `next_frame` waits for it to come back."""

    polled = True

    def __init__(self, name: str, options: SlmsuiteCameraOptions) -> None:
        self._taken: queue.SimpleQueue[tuple[int, float, float, NDArray[Any] | Exception]] = queue.SimpleQueue()
        self._extra_s: deque[float] = deque(maxlen=5)
        self._run = 0
        super().__init__(name, options)

    @property
    def frame_period_s(self) -> float:
        """The exposure, and what the last frames took besides [s]."""
        return self._exposure_s + (median(self._extra_s) if self._extra_s else 0.0)

    def start(self) -> None:
        self._run += 1
        self._worker.call("empty the queue of frames", self._empty, self._patience_s)

    def stop(self) -> None:
        self._run += 1  # a frame that is still on its way belongs to nobody

    def fire(self) -> None:
        """Ask for a frame."""
        run = self._run
        self._worker.post(lambda: self._taken.put((run, *self._take())))

    def next_frame(self, timeout_s: float) -> RawFrame | None:
        try:
            run, asked_s, came_s, pixels = self._taken.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if run != self._run:
            return None
        if isinstance(pixels, Exception):
            raise pixels
        self._extra_s.append(max(came_s - asked_s - self._exposure_s, 0.0))
        if self.kind.target not in _EXPOSED_BY_THE_CALL and came_s - asked_s < 0.9 * self._exposure_s - 1e-3:
            raise StaleFrames(
                "a frame came sooner than it can have been exposed: it was taken for an earlier call",
                device=self._name,
                action="fetch",
                expected=f"after {self._exposure_s:g} s",
                seen=f"after {came_s - asked_s:g} s",
                hint="open the camera again",
            )
        return RawFrame(pixels, asked_s)

    def _take(self) -> tuple[float, float, NDArray[Any] | Exception]:
        """When slmsuite was asked for a frame, when it came back, and with what.

        Not when somebody asked us: the thread may have had to wait for its turn, and a frame that came at once would
        seem to have taken as long as an exposure does.
        """
        asked_s = time.monotonic()
        try:
            pixels = self._grab()
        except Exception as error:
            return asked_s, time.monotonic(), error
        return asked_s, time.monotonic(), pixels

    def _empty(self) -> None:
        """Drop what an earlier call has left in the camera's queue."""
        camera, target = self._camera, self.kind.target
        if target == slmsuite.CAMERAS["flir"].target:
            camera.cam.EndAcquisition()
            camera.cam.BeginAcquisition()
        elif target == slmsuite.CAMERAS["mindvision"].target:
            camera.sdk.CameraClearBuffer(camera.handle)
        elif target not in _EXPOSED_BY_THE_CALL:
            camera.flush()


class Running(SlmsuiteAcquire):
    """A class that runs freely and keeps frames until they are read: it is read all the time."""

    def __init__(self, name: str, options: SlmsuiteCameraOptions) -> None:
        super().__init__(name, options)
        self._drain = Drain(self._worker, self._grab)

    @property
    def frame_period_s(self) -> float:
        """Median time between frames, no less than the exposure [s]."""
        return max(self._drain.interval_s, self._exposure_s)

    def start(self) -> None:
        self._drain.forget()

    def stop(self) -> None:
        self._drain.forget()

    def next_frame(self, timeout_s: float) -> RawFrame | None:
        return self._drain.next_frame(timeout_s, self._exposure_s + self._options.latency_s)

    def close(self) -> None:
        drain: Drain | None = getattr(self, "_drain", None)
        if drain is not None:
            drain.close()
        super().close()


def _as_roi(woi: tuple[int, int, int, int]) -> Roi:
    x, width, y, height = (int(n) for n in woi)
    return Roi(x, y, width, height)


def _feature(camera: Any, feature: str) -> tuple[Any, Any]:
    """A GenICam feature of a camera of slmsuite and its value; (None, None) where it has none."""
    with suppress(Exception):
        node = getattr(camera.cam, feature)
        return node, (node.GetValue() if hasattr(node, "GetValue") else node.get())
    return None, None


def _automatic_off(device: str, camera: Any) -> None:
    """Switch automatic exposure and gain off, and look whether they are."""
    for feature in ("ExposureAuto", "GainAuto"):
        node, value = _feature(camera, feature)
        if isinstance(value, str) and value != "Off":
            with suppress(Exception):
                (node.SetValue if hasattr(node, "SetValue") else node.set)("Off")
            _, value = _feature(camera, feature)
            if value != "Off":
                raise NotConnected(
                    f"{feature} cannot be switched off", device=device, action="open", expected="Off", seen=str(value)
                )


def _bit_depth(device: str, camera: Any, dtype: np.dtype[Any], wanted: int | None) -> int:
    """Bits of a pixel: as the option says, else as the class says where nothing contradicts it."""

    def refused(expected: str, seen: str) -> CapabilityError:
        return CapabilityError(
            "bit depth and frames do not agree",
            device=device,
            action="open",
            expected=expected,
            seen=seen,
            hint="say what the camera sends: bit_depth = 12",
        )

    if dtype.kind != "u" or dtype.itemsize > 2:
        raise refused("frames of uint8 or uint16", str(dtype))
    holds = 8 * dtype.itemsize
    says = int(camera.bitdepth) if wanted is None else wanted
    if not 1 <= says <= holds or (wanted is None and holds == 16 and says <= 8):
        raise refused(f"a bit depth of {dtype}", f"{says} bit")
    _, pixel_format = _feature(camera, "PixelFormat")
    named = re.fullmatch(r"Mono(\d+)\w*", str(pixel_format))
    if named and int(named[1]) < says and wanted is None:
        raise refused(f"{named[1]} bit, as the pixel format {pixel_format} says", f"{says} bit, as slmsuite says")
    return says


def _open(name: str, options: SlmsuiteCameraOptions, context: OpenContext) -> StreamingCamera:
    if options.exposure_min_s > options.exposure_max_s:
        raise CapabilityError(
            "no exposure is possible",
            device=name,
            action="open",
            expected="exposure_min_s ≤ exposure_max_s",
            seen=f"{options.exposure_min_s:g}, {options.exposure_max_s:g}",
        )
    kind = slmsuite.kind_of(name, options.target, slmsuite.CAMERAS)
    if kind.target in _FREE_RUNNING:
        running = Running(name, options)
        time.sleep(options.latency_s)  # what the source held before it was read comes at once, and is forgotten by arm
        return StreamingCamera(name, running, MonoPixels(running.bit_depth), opening_s=options.opening_s)
    asked = OnRequest(name, options)
    trigger = SoftwareTrigger(asked.fire)
    return TriggeredStreamingCamera(name, asked, MonoPixels(asked.bit_depth), trigger, options.opening_s)


_LOOKED_FOR = {
    "alliedvision": "vmbpy",
    "flir": "PySpin",
    "mindvision": "mvsdk",
    "thorlabs": "thorlabs_tsi_sdk",
}
"""Families whose class lists what is connected and opens nothing, and the vendor's module that it needs."""


def _discover() -> list[Found]:
    """Cameras of the families that have no backend of their own here, where the vendor's library is installed."""
    workers = {family: Worker(family) for family, needed in _LOOKED_FOR.items() if find_spec(needed) is not None}
    jobs = [worker.post(partial(_listed, family)) for family, worker in workers.items()]
    deadline_s = time.monotonic() + 5.0
    found: list[Found] = []
    for job, worker in zip(jobs, workers.values(), strict=True):
        if job.done.wait(max(deadline_s - time.monotonic(), 0.0)) and job.error is None:
            found += job.value
        worker.close()
    return found


def _listed(family: str) -> list[Found]:
    slmsuite.quiet()
    kind = slmsuite.CAMERAS[family]
    serials = load(kind.target).info(verbose=False)
    return [
        Found(
            "camera",
            Identity(slmsuite.vendor_of(kind), kind.target.partition(":")[2], str(serial), slmsuite.version()),
            {"target": family, "arguments": {"serial": str(serial)}},
        )
        for serial in serials
    ]


_TEST = "tests/endpoints/test_slmsuite_cameras.py"
_FAKES = "tests/endpoints/test_slmsuite_camera_stand_ins.py"


def _faked(name: str, library: str) -> Family:
    return Family(f"{name}, through slmsuite", Proof.FAKE, f"slmsuite's class on a stand-in for {library}", _FAKES)


FAMILIES = (
    Family("Basler, through slmsuite", Proof.EMULATOR, "slmsuite's class on pylon's camera emulator", _TEST),
    Family("Micro-Manager, through slmsuite", Proof.EMULATOR, "slmsuite's class on the demo camera", _TEST),
    Family("webcam or network stream, through slmsuite", Proof.LIVE, "a stream on the loopback address", _TEST),
    _faked("Allied Vision", "vmbpy"),
    _faked("FLIR", "PySpin"),
    _faked("Thorlabs scientific cameras", "thorlabs_tsi_sdk"),
    _faked("The Imaging Source", "tisgrabber"),
    _faked("MindVision", "mvsdk"),
    _faked("pylablib's cameras", "pylablib's camera interface"),
    _faked("instrumental's cameras", "instrumental-lib"),
    Family("Xenics Cheetah, through slmsuite", Proof.NOT_RUN, "its library is for Windows only, and has no simulator"),
    Family("slmsuite's simulated camera", Proof.EMULATOR, "slmsuite's SimulatedCamera", _TEST),
    Family("camera of another computer, through slmsuite's server", Proof.LIVE, "slmsuite's server on loopback", _TEST),
)

CAMERA = Backend(
    "slmsuite.camera",
    ("camera",),
    SlmsuiteCameraOptions,
    _open,
    needs=("slmsuite",),
    install="pip install labctl[slmsuite]",
    discover=_discover,
    families=FAMILIES,
)
"""Any camera that slmsuite drives."""

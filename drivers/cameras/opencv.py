"""Whatever OpenCV's ``VideoCapture`` opens: a webcam by its index, a network camera by its address, a file.

In the station file, one of the three::

    [devices.camera]
    backend = "opencv"
    options = {index = 0, library = "V4L2", exposure_unit = "100 us", exposure_min_s = 1e-4, exposure_max_s = 0.5}
    # options = {url = "http://camera.local/video.mjpg", exposure_s = 0.02, channel = "green"}
    # options = {file = "data/frame_%03d.png", exposure_s = 0.004, bit_depth = 12}        # numbered images
    # options = {file = "data/run.avi", exposure_s = 0.004, channel = "gray"}

A webcam is no measuring camera: most of them compress, sharpen, and bend the response. Frames in colour are refused
unless a ``channel`` is named; ``"gray"`` takes a gray picture out of a colour format, and refuses it where the channels
differ.

A camera or an address is read all the time, because OpenCV keeps old frames. Frames count from when they began, at most
``latency_s`` before they arrived: measure it once, with something that blinks. A stream that stalls ends in a time-out,
one that is cut in a lost device. A file is played one frame for each exposure, however fast it is asked for.

Whether an exposure can be set, and in which unit, depends on the operating system: ``"100 us"`` with V4L2, ``"log2 s"``
on Windows. It is read back. A source that cannot set it has ``exposure_s`` in the station file instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from drivers.acquire import AcquireLogic, RawFrame
from drivers.backend import Backend, Family, Proof
from drivers.errors import CapabilityError, DeviceLost, DeviceProtocolError, NotConnected
from drivers.libraries.addresses import without_password
from drivers.libraries.drain import Drain
from drivers.libraries.loading import load
from drivers.libraries.recorded import Recording, played_back
from drivers.libraries.worker import Worker
from drivers.options import Checked, option
from drivers.pixels import MonoPixels
from drivers.protocols import Identity, OpenContext, Roi
from drivers.streaming import StreamingCamera

Channel = Literal["gray", "blue", "green", "red"]
Unit = Literal["s", "ms", "us", "100 us", "log2 s"]

_SECONDS: dict[str, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "100 us": 1e-4}
_PLANE = {"blue": 0, "green": 1, "red": 2}


@dataclass(frozen=True)
class OpencvOptions(Checked):
    """Options of the backend ``opencv``; one of ``index``, ``url`` and ``file`` must be given.

    Attributes
    ----------
    index
        Of a camera of this computer, from 0.
    url
        Address of a stream.
    file
        A video, or numbered images: ``frame_%03d.png``.
    library
        Of those that OpenCV was built with: ``"V4L2"``, ``"FFMPEG"``, ``"DSHOW"``; its choice if omitted.
    fourcc
        Four letters for the format that a camera is to send: ``"Y16 "``.
    unconverted
        Frames as the camera sends them, where the library can: the way to 16 bit.
    channel
        What is taken of a frame in colour; such frames are refused if omitted.
    bit_depth
        Of the frames; 8 or 16, as their type says, if omitted [bit].
    exposure_s
        Of a source whose exposure cannot be set [s].
    exposure_unit, exposure_min_s, exposure_max_s
        Of a camera whose exposure can be set: what its number means, and its limits [s].
    latency_s
        Longest time from the end of an exposure until the frame is here [s].
    opening_s
        Time that opening may take [s].
    frame_rate_hz
        Most frames of a file in a second; as fast as they are asked for if omitted [Hz].
    loop
        Begin a file again after its last frame.
    """

    index: int | None = option(0, 255, None)
    url: str = ""
    file: str = ""
    library: str = ""
    fourcc: str = ""
    unconverted: bool = False
    channel: Channel | None = None
    bit_depth: int | None = option(1, 16, None)
    exposure_s: float | None = option(1e-7, 3600, None)
    exposure_unit: Unit | None = None
    exposure_min_s: float = option(1e-7, 3600, 1e-4)
    exposure_max_s: float = option(1e-7, 3600, 1.0)
    latency_s: float = option(0, 60, 0.25)
    opening_s: float = option(0.1, 120, 10.0)
    frame_rate_hz: float | None = option(1e-3, 1e6, None)
    loop: bool = False

    @property
    def source(self) -> int | str:
        """What `VideoCapture` is given."""
        return self.index if self.index is not None else self.url or self.file


class Source:
    """An open `VideoCapture`. All its methods may block, and are called from one thread.

    Parameters
    ----------
    name
        What the station calls the camera.
    options
        Its options.
    """

    def __init__(self, name: str, options: OpencvOptions) -> None:
        self._name, self._options = name, options
        self._cv2 = cv2 = load("cv2")
        self._capture = self._captured()
        self.library = str(self._capture.getBackendName())
        for key, value in self._settings():
            if not self._capture.set(key, value):
                raise self._unusable(
                    "a setting is not taken", f"{self.library} to take it", f"property {key} = {value}"
                )
        first = self.read()
        if first is None:
            raise self._unusable("no frame comes", "one frame", "none")
        self.shape: tuple[int, int] = (first.shape[0], first.shape[1])
        held = 8 * first.dtype.itemsize
        self.bit_depth = held if options.bit_depth is None else options.bit_depth
        if self.bit_depth > held:
            raise self._unusable("bit depth and pixels do not agree", f"at most {held} bit", f"{self.bit_depth}")
        self.rate_hz = float(self._capture.get(cv2.CAP_PROP_FPS))

    def read(self) -> NDArray[Any] | None:
        """The next frame, (H, W) uint8 or uint16; None where there is none."""
        got, pixels = self._capture.read()
        return self._gray(np.asarray(pixels)) if got else None

    def exposure_s(self) -> float:
        """As it is read back [s]."""
        number = float(self._capture.get(self._cv2.CAP_PROP_EXPOSURE))
        unit = self._options.exposure_unit or "s"
        return 2.0**number if unit == "log2 s" else number * _SECONDS[unit]

    def set_exposure_s(self, value: float) -> float:
        """Set it and read it back; a source that takes no notice is refused."""
        unit = self._options.exposure_unit or "s"
        number = math.log2(value) if unit == "log2 s" else value / _SECONDS[unit]
        taken = self._capture.set(self._cv2.CAP_PROP_EXPOSURE, number)
        seen_s = self.exposure_s()
        if not taken or abs(seen_s - value) > max(0.5 * value, 1e-4):
            raise CapabilityError(
                "the exposure does not read back as it was set",
                device=self._name,
                action="set the exposure",
                expected=f"{value:g} s",
                seen=f"{seen_s:g} s",
                hint="check exposure_unit; where it cannot be set, say what it is: exposure_s = 0.02",
            )
        return seen_s

    def again(self) -> None:
        """Open it from the beginning."""
        self._capture.release()
        self._capture = self._captured()
        for key, value in self._settings():
            self._capture.set(key, value)

    def close(self) -> None:
        """Release it."""
        self._capture.release()

    def _captured(self) -> Any:
        cv2, options = self._cv2, self._options
        library = cv2.CAP_IMAGES if "%" in options.file else cv2.CAP_ANY  # else FFMPEG makes 8 bit of 16
        if options.library:
            library = getattr(cv2, f"CAP_{options.library.upper()}", None)
            if library is None:
                raise self._unusable("no such library", "a name behind cv2.CAP_", options.library)
        patience = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(1e3 * options.opening_s)] if options.url else []
        capture = cv2.VideoCapture(options.source, library, patience)
        if not capture.isOpened():
            raise self._unusable(
                "it does not open", "a source that OpenCV can read", without_password(f"{options.source}")
            )
        return capture

    def _settings(self) -> list[tuple[int, float]]:
        cv2, options, settings = self._cv2, self._options, []
        if options.fourcc:
            settings.append((cv2.CAP_PROP_FOURCC, float(cv2.VideoWriter.fourcc(*options.fourcc))))
        if options.unconverted:
            settings.append((cv2.CAP_PROP_CONVERT_RGB, 0.0))
        return settings

    def _gray(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """One channel of a frame."""
        if pixels.ndim == 2:
            return pixels
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            return pixels[:, :, 0]
        channel = self._options.channel
        if channel is None:
            raise CapabilityError(
                "frames are in colour",
                device=self._name,
                action="read a frame",
                expected="one gray value a pixel",
                seen=f"{pixels.shape} {pixels.dtype}",
                hint='channel = "gray" for a gray picture in a colour format, else "green"',
            )
        if channel == "gray":
            if not (pixels[:, :, :1] == pixels[:, :, 1:3]).all():
                raise DeviceProtocolError(
                    "the channels of a gray picture differ",
                    device=self._name,
                    action="read a frame",
                    expected="red, green and blue alike",
                    seen="colour",
                    hint='choose one: channel = "green"',
                )
            return pixels[:, :, 0]
        return pixels[:, :, _PLANE[channel]]

    def _unusable(self, what: str, expected: str, seen: str) -> NotConnected:
        return NotConnected(what, device=self._name, action="open", expected=expected, seen=seen)


class LiveSource(AcquireLogic):
    """A camera or a stream, read all the time."""

    def __init__(self, name: str, options: OpencvOptions) -> None:
        self._name, self._options = name, options
        self._worker = Worker(name)
        self._drain: Drain | None = None
        try:
            self._source = self._worker.call("open", lambda: Source(name, options), options.opening_s)
        except BaseException:
            self._worker.close()
            raise
        self.shape, self.bit_depth = self._source.shape, self._source.bit_depth
        self._roi = Roi(0, 0, *self.shape[::-1])
        try:
            if options.exposure_s is not None:
                self._exposure_s = options.exposure_s
                self.exposure_range_s = (options.exposure_s, options.exposure_s)
            else:
                low, high = self.exposure_range_s = (options.exposure_min_s, options.exposure_max_s)
                present_s = self._worker.call("read the exposure", self._source.exposure_s, options.opening_s)
                self._expose(min(max(present_s, low), high))
        except BaseException:
            self.close()
            raise
        self._drain = Drain(self._worker, self._read)

    def identify(self) -> Identity:
        cv2 = load("cv2")
        serial = without_password(str(self._options.source))
        return Identity("OpenCV", self._source.library, serial, f"OpenCV {cv2.__version__}")

    def settings(self) -> dict[str, Any]:
        return {"library": self._source.library, "latency_s": self._options.latency_s}

    @property
    def exposure_s(self) -> float:
        return self._exposure_s

    def set_exposure_s(self, value: float) -> None:
        if self._options.exposure_s is None:
            self._expose(value)

    @property
    def roi(self) -> Roi:
        return self._roi

    def set_roi(self, value: Roi) -> None:
        self._roi = value

    @property
    def frame_period_s(self) -> float:
        """Median time between frames, no less than the exposure [s]."""
        seen_s = self._drain.interval_s if self._drain else 0.0
        return max(seen_s, self._exposure_s)

    def start(self) -> None:
        self._reading.forget()

    def stop(self) -> None:
        self._reading.forget()

    def next_frame(self, timeout_s: float) -> RawFrame | None:
        raw = self._reading.next_frame(timeout_s, self._exposure_s + self._options.latency_s)
        if raw is None:
            return None
        roi = self._roi
        pixels = raw.pixels[roi.y : roi.y + roi.height, roi.x : roi.x + roi.width]
        return RawFrame(pixels, raw.begins_s, raw.device_sequence)

    def close(self) -> None:
        if self._drain is not None:
            self._drain.close()
        self._worker.post(self._source.close)  # behind a read that hangs: nobody waits for that
        self._worker.close()

    @property
    def _reading(self) -> Drain:
        assert self._drain is not None
        return self._drain

    def _expose(self, value: float) -> None:
        source = self._source
        self._exposure_s = self._worker.call(
            "set the exposure", lambda: source.set_exposure_s(value), self._options.opening_s
        )

    def _read(self) -> NDArray[Any]:
        pixels = self._source.read()
        if pixels is None or pixels.shape != self.shape:
            seen = "no frame" if pixels is None else f"a frame of {pixels.shape}"
            raise DeviceLost(
                "the stream has ended" if pixels is None else "frames have another size than before",
                device=self._name,
                action="read a frame",
                expected=f"a frame of {self.shape}",
                seen=seen,
                hint="is the camera connected? Then open it again",
            )
        return pixels


class Film(Recording):
    """A file, played from the beginning."""

    def __init__(self, name: str, options: OpencvOptions) -> None:
        self._source = Source(name, options)
        self._path = options.file
        self.shape, self.bit_depth = self._source.shape, self._source.bit_depth
        self.rewind()

    def identify(self) -> Identity:
        return Identity("OpenCV", f"file through {self._source.library}", self._path)

    def next_pixels(self) -> NDArray[Any] | None:
        return self._source.read()

    def rewind(self) -> None:
        self._source.again()

    def close(self) -> None:
        self._source.close()


def _open(name: str, options: OpencvOptions, context: OpenContext) -> StreamingCamera:
    given = [key for key in ("index", "url", "file") if getattr(options, key) not in (None, "")]
    if len(given) != 1:
        raise _contradiction(name, "one source is needed", "one of index, url, file", ", ".join(given) or "none")
    if options.exposure_s is None and (options.exposure_unit is None or options.file):
        raise _contradiction(
            name,
            "what the exposure is, or how it is set, is not said",
            "exposure_s = 0.02" + ("" if options.file else ', or exposure_unit = "100 us"'),
            "neither",
        )
    if len(options.fourcc) not in (0, 4):
        raise _contradiction(name, "no format has such a name", 'four letters: fourcc = "Y16 "', repr(options.fourcc))
    if options.exposure_min_s > options.exposure_max_s:
        raise _contradiction(
            name, "no exposure is possible", "exposure_min_s ≤ exposure_max_s", f"{options.exposure_min_s:g} s"
        )
    if options.file:
        assert options.exposure_s is not None
        return played_back(name, Film(name, options), options.exposure_s, options.frame_rate_hz, options.loop)
    source = LiveSource(name, options)
    return StreamingCamera(name, source, MonoPixels(source.bit_depth), opening_s=options.opening_s)


def _contradiction(name: str, what: str, expected: str, seen: str) -> CapabilityError:
    return CapabilityError(what, device=name, action="open", expected=expected, seen=seen)


_TEST = "tests/endpoints/test_opencv.py"

OPENCV = Backend(
    "opencv",
    ("camera",),
    OpencvOptions,
    _open,
    families=(
        Family("network camera (MJPEG over HTTP)", Proof.LIVE, "a server on the loopback address", _TEST),
        Family("video file, numbered images", Proof.LIVE, "FFV1 video and 16-bit PNG files", _TEST),
        Family("webcam by its index", Proof.NOT_RUN, "the test machine has no video device"),
    ),
    warning="most webcams compress and bend what they see: check the camera with a photon-transfer curve first",
)
"""Whatever OpenCV reads."""

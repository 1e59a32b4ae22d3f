"""Basler cameras through pylon: ace, ace 2, boost, dart and pulse, over GigE, USB3 and CoaXPress.

In the station file::

    [devices.camera]
    backend = "basler"
    [devices.camera.options]
    serial = "24047121"              # or user_name = "bench", or model = "acA1440-220um"; nothing where it is alone
    pixel_format = "Mono12"
    gain_db = 0.0
    features = {BlackLevel = 4.0}    # any other feature by the name that the pylon Viewer shows

Triggered by the panel, on line 1 of the camera::

    trigger = "hardware-edge"
    trigger_line = "Line1"

What is particular to it:

* Exposure, gain and gamma that the camera would set by itself are switched off, and so is every trigger but the one
  that is asked for. Features of the station file are set after that, so that they have the last word.
* Where the camera has a clock that can be read, frames are stamped by it with the start of their exposure. Where it has
  none (the emulator, Camera Link), they are stamped with the last moment at which pylon certainly had none of them yet,
  less the exposure and ``latency_s``.
* A buffer that arrived incomplete is a lost frame: it is counted in ``dropped``, and its pixels are never seen.
* ``PYLON_CAMEMU=2`` in the environment, set before the program starts, makes pylon emulate two cameras. The emulator
  exposes nothing: it does not slow down for a long exposure, and its pixels do not depend on it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from drivers.acquire import AcquireLogic, RawFrame
from drivers.backend import Backend, Family, Found, Proof
from drivers.errors import (
    DeviceLost,
    DeviceProtocolError,
    DeviceTimeout,
    DroppedFrames,
    OptionError,
)
from drivers.libraries.genicam_features import Features
from drivers.libraries.genicam_names import ADJUSTABLE
from drivers.libraries.loading import load
from drivers.libraries.pixel_formats import PixelFormat, unpacked
from drivers.libraries.pylon import PylonNodes, check_open, check_present, open_one
from drivers.options import Checked, option
from drivers.pixels import MonoPixels
from drivers.protocols import Identity, OpenContext, Roi
from drivers.streaming import StreamingCamera, TriggeredStreamingCamera
from drivers.triggers import HardwareEdge, SoftwareTrigger, TriggerLogic

OWNED = {
    "PixelFormat": "pixel_format",
    "TriggerMode": "trigger",
    "TriggerSource": "trigger_line",
    "TriggerActivation": "trigger_edge",
    "AcquisitionFrameRate": "frame_rate_hz",
    "AcquisitionFrameRateAbs": "frame_rate_hz",
    "Gain": "gain_db",
}
"""Features that have an option of their own: set by name, the two could contradict each other."""

SET_LIVE = "Width", "Height", "OffsetX", "OffsetY", "ExposureTime", "ExposureTimeAbs", "ExposureTimeRaw"
"""Features that the bench sets itself while it runs."""

LATCHES = ("TimestampLatch", "TimestampLatchValue"), ("GevTimestampControlLatch", "GevTimestampValue")
"""Command that holds the camera's clock still for a moment, and where its time is read then."""

POLL_S = 0.5e-3
"""How often pylon is asked. On Linux its own waits end by the signal SIGALRM, which would reach whatever else in the
program uses that signal, so that it is never asked to wait [s]."""

GIGE_NUMBERS = 65535
"""Different block numbers of a GigE camera: 1 … 65535, then 1 again."""


@dataclass(frozen=True)
class BaslerOptions(Checked):
    """Options of the backend ``basler``.

    Attributes
    ----------
    serial, user_name, model
        Which camera; all that are given must fit, and exactly one connected camera may.
    pixel_format
        ``"Mono12"``, ``"Mono8"``, ``"Mono12p"`` …; empty for the best that the camera offers.
    bit_depth
        Bits that count, where they are fewer than the format's. For ``"Mono16"``, which most cameras fill up from
        fewer, it must be given [bit].
    trigger
        What starts an exposure.
    trigger_line, trigger_edge
        For ``"hardware-edge"``: input of the camera, and which edge.
    frame_rate_hz
        Frames per second of a camera that runs freely; None for as many as it can [Hz].
    gain_db
        None leaves it as the camera's start-up set has it [dB].
    buffers
        Frames that may wait in the computer's memory.
    opening_s
        Time for the first frame [s].
    latency_s
        For a camera without a clock: longest time from the end of an exposure to the arrival of the frame [s].
    features
        Other features by their GenICam names.
    """

    serial: str = ""
    user_name: str = ""
    model: str = ""
    pixel_format: str = ""
    bit_depth: int | None = option(1, 16, None)
    trigger: Literal["free-running", "software", "hardware-edge"] = "free-running"
    trigger_line: str = "Line1"
    trigger_edge: Literal["RisingEdge", "FallingEdge"] = "RisingEdge"
    frame_rate_hz: float | None = option(0.001, 100_000, None)
    gain_db: float | None = option(-20, 100, None)
    buffers: int = option(3, 1000, 16)
    opening_s: float = option(0.1, 600, 5.0)
    latency_s: float = option(0, 10, 0.02)
    features: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.features:
            if name in OWNED or name in SET_LIVE:
                raise OptionError(
                    f"features.{name} is set in another way",
                    action="reading options",
                    expected=f"the option {OWNED[name]}" if name in OWNED else "nothing: the bench sets it",
                    seen=f"features.{name}",
                )


class BaslerAcquire(AcquireLogic):
    """What only pylon knows of a camera.

    Parameters
    ----------
    device
        What the station calls it.
    camera
        A ``pylon.InstantCamera`` that is open, and closed by `close`.
    options
        Of the station file.

    Attributes
    ----------
    trigger
        What starts its exposures; None where it runs freely.
    pixel_format
        That it sends.
    """

    adjustable = ADJUSTABLE

    def __init__(self, device: str, camera: Any, options: BaslerOptions) -> None:
        self._device, self._camera = device, camera
        self._pylon = load("pypylon.pylon")
        self._nodes = nodes = PylonNodes(camera, device)
        self._features = features = Features(nodes, device)
        self._latency_s, self._buffers = options.latency_s, options.buffers
        info = camera.GetDeviceInfo()
        self._identity = Identity(
            info.GetVendorName(), info.GetModelName(), info.GetSerialNumber(), _text(nodes, "DeviceFirmwareVersion")
        )
        self._gige = str(info.GetDeviceClass()) == "BaslerGigE"
        self._result: Any = None
        self._empty_s = self._came_s = 0.0  # when pylon had no result yet, and when it gave us the last one
        features.trigger()
        features.switch_off_automatics()
        if options.gain_db is not None:
            features.apply({"Gain": options.gain_db})
        features.apply(options.features)
        self.pixel_format: PixelFormat = features.set_pixel_format(options.pixel_format)
        self.bit_depth = self._bits_that_count(options.bit_depth)
        self.shape = features.open_fully()
        if options.frame_rate_hz is not None:
            features.set_frame_rate_hz(options.frame_rate_hz)
        self.trigger = self._triggered(options)
        self.counter_size = 0 if not self._gige or _is(nodes, "GevGVSPExtendedIDMode", "On") else GIGE_NUMBERS
        self._latch = next((pair for pair in LATCHES if nodes.can_execute(pair[0])), None)
        self._tick_s = 1 / features.timestamp_hz
        self._exposure_s = self._read_exposure_s()

    def identify(self) -> Identity:
        check_present(self._camera, self._device, "identify")
        return self._identity

    @property
    def exposure_range_s(self) -> tuple[float, float]:  # type: ignore[override]  # it depends on other features
        return self._features.exposure_range_s or (0.0, 0.0)

    @property
    def exposure_s(self) -> float:
        return self._read_exposure_s()

    def set_exposure_s(self, value: float) -> None:
        self._features.set_exposure_s(value)
        self._exposure_s = self._read_exposure_s()

    @property
    def roi(self) -> Roi:
        return self._features.roi

    def set_roi(self, value: Roi) -> None:
        self._features.set_roi(value, self.shape)

    @property
    def frame_period_s(self) -> float:
        return self._features.frame_period_s()

    def start(self) -> None:
        check_present(self._camera, self._device, "start the stream")
        self._camera.MaxNumBuffer.SetValue(self._buffers)
        self._empty_s = time.monotonic()
        self._camera.StartGrabbing(self._pylon.GrabStrategy_OneByOne)

    def stop(self) -> None:
        self._release()
        if self._camera.IsOpen() and not self._camera.IsCameraDeviceRemoved():
            self._camera.StopGrabbing()

    def next_frame(self, timeout_s: float) -> RawFrame | None:
        self._release()
        check_open(self._camera, self._device, "fetch")
        if not self._camera.IsGrabbing():
            raise DeviceLost(
                "the stream has ended", device=self._device, action="fetch", seen="pylon has stopped grabbing"
            )
        result = self._waited(timeout_s)
        if result is None:
            check_present(self._camera, self._device, "fetch")
            return None
        self._result = result
        if not result.GrabSucceeded():
            self._lost(result)
            return None
        if result.GetPaddingX():
            raise DeviceProtocolError(
                "lines of the image are padded",
                device=self._device,
                action="fetch",
                expected="no padding",
                seen=f"{result.GetPaddingX()} bytes",
                hint="choose a region whose width is a multiple of 4 pixels",
            )
        shape = result.GetHeight(), result.GetWidth()
        buffer = np.frombuffer(result.GetMemoryView(), np.uint8)
        return RawFrame(unpacked(buffer, self.pixel_format, shape), self._begins_s(result), self._number(result))

    def now_s(self) -> float:
        if self._latch is None:
            return time.monotonic()
        command, value = self._latch
        self._nodes.execute(command)
        return float(self._nodes.get(value)) * self._tick_s

    def settings(self) -> dict[str, Any]:
        return self._features.settings()

    def adjust(self, key: str, value: Any) -> None:
        self._features.adjust(key, value)

    def close(self) -> None:
        self._release()
        self._camera.Close()
        self._camera.DestroyDevice()

    def _waited(self, timeout_s: float) -> Any:
        """The next result; None when there is none within ``timeout_s``, or when the stream ends."""
        deadline_s = time.monotonic() + timeout_s
        while self._camera.IsGrabbing():
            asked_s = time.monotonic()
            result = self._camera.RetrieveResult(0, self._pylon.TimeoutHandling_Return)
            if result is not None and result.IsValid():
                self._came_s = time.monotonic()
                return result
            self._empty_s = asked_s
            if time.monotonic() >= deadline_s:
                return None
            time.sleep(POLL_S)
        return None

    def _lost(self, result: Any) -> None:
        """A buffer came without its pixels. Where the camera runs freely, the number of the next frame shows the loss.

        Raises
        ------
        DroppedFrames
            When the exposure was triggered, so that no other one comes in its place.
        """
        if self.trigger is not None:
            raise DroppedFrames(
                "a triggered exposure was lost on the way",
                device=self._device,
                action="fetch",
                seen=str(result.GetErrorDescription()),
                hint="arm again; if it stays, lower the frame rate or look at the network card's settings",
            )

    def _release(self) -> None:
        """Give the last frame's buffer back to pylon."""
        result, self._result = self._result, None
        if result is not None:
            result.Release()

    def _begins_s(self, result: Any) -> float:
        """Start of the exposure, on the clock of `now_s` [s]."""
        if self._latch is not None:
            ticks = result.GetTimeStamp()
            if not ticks:
                raise DeviceProtocolError(
                    "the camera has a clock and does not stamp its frames", device=self._device, action="fetch"
                )
            return float(ticks) * self._tick_s
        latest_s = self._empty_s - self._exposure_s - self._latency_s
        triggered_s = latest_s if self.trigger is None else self.trigger.begins_s
        return max(latest_s, triggered_s) if triggered_s < self._came_s else latest_s  # none came of what began later

    def _number(self, result: Any) -> int:
        number = int(result.GetBlockID())
        if number >= 2**63:  # pylon's word for a camera that does not count
            return -1
        return number - 1 if self.counter_size else number

    def _bits_that_count(self, said: int | None) -> int:
        bits = self.pixel_format.bits
        if said is None and bits < 16:
            return bits
        if said is None or said > bits:
            raise OptionError(
                f"how many bits count of {self.pixel_format.name} is not said",
                device=self._device,
                action="open",
                expected=f"the option bit_depth, at most {bits}",
                seen=f"bit_depth = {said}",
                hint="the camera's data sheet says how many bits its converter has: options = {bit_depth = 12}",
            )
        return said

    def _read_exposure_s(self) -> float:
        return self._features.exposure_s or 0.0

    def _triggered(self, options: BaslerOptions) -> SoftwareTrigger | HardwareEdge | None:
        """Make the camera wait for its trigger, and say how that is given."""
        if options.trigger == "software":
            self._features.trigger("Software")
            return SoftwareTrigger(self._fire)
        if options.trigger == "hardware-edge":
            self._features.trigger(options.trigger_line, options.trigger_edge)
            self._features.listen("")
            return HardwareEdge(lambda on: self._features.listen(options.trigger_line if on else ""))
        return None

    def _fire(self) -> None:
        check_open(self._camera, self._device, "trigger an exposure")
        ready_s = 2 * self.frame_period_s + 1.0
        deadline_s = time.monotonic() + ready_s
        waits = self._camera.CanWaitForFrameTriggerReady()
        while waits and not self._camera.WaitForFrameTriggerReady(0, self._pylon.TimeoutHandling_Return):
            if time.monotonic() >= deadline_s:
                raise DeviceTimeout(
                    "the camera is not ready for a trigger",
                    device=self._device,
                    action="trigger an exposure",
                    expected=f"within {ready_s:.3g} s",
                )
            time.sleep(POLL_S)
        self._camera.ExecuteSoftwareTrigger()


def _text(nodes: PylonNodes, name: str) -> str:
    return str(nodes.get(name)) if nodes.has(name) else ""


def _is(nodes: PylonNodes, name: str, value: str) -> bool:
    return nodes.has(name) and nodes.get(name) == value


def _open(name: str, options: BaslerOptions, context: OpenContext) -> StreamingCamera:
    factory = load("pypylon.pylon:TlFactory").GetInstance()
    camera = open_one(factory, options.serial, options.user_name, options.model)
    try:
        acquire = BaslerAcquire(name, camera, options)
    except BaseException:
        camera.DestroyDevice()
        raise
    # pylon's formats are right-justified in their words, but fewer bits in a wider format may be at either side
    pixels = MonoPixels(acquire.bit_depth, 0 if acquire.bit_depth == acquire.pixel_format.bits else None)
    trigger: TriggerLogic | None = acquire.trigger
    if trigger is None:
        return StreamingCamera(name, acquire, pixels, None, options.opening_s)
    return TriggeredStreamingCamera(name, acquire, pixels, trigger, options.opening_s)


def _discover() -> Sequence[Found]:
    factory = load("pypylon.pylon:TlFactory").GetInstance()
    return [
        Found(
            "camera",
            Identity(info.GetVendorName(), info.GetModelName(), info.GetSerialNumber()),
            {"serial": info.GetSerialNumber()},
            _note(factory, info),
        )
        for info in factory.EnumerateDevices()
    ]


def _note(factory: Any, info: Any) -> str:
    if info.GetDeviceClass() == "BaslerCamEmu":
        return "emulated by pylon"
    return "" if factory.IsDeviceAccessible(info) else "in use by another program"


TEST = "tests/endpoints/test_basler.py"

BASLER = Backend(
    "basler",
    ("camera",),
    BaslerOptions,
    _open,
    needs=("pypylon",),
    install="pip install labctl[basler]",
    discover=_discover,
    families=(
        Family("Basler emulated camera (pylon)", Proof.EMULATOR, "pylon's camera emulator", TEST),
        Family(
            "Basler ace, ace 2, boost, dart, pulse (GigE, USB3, CoaXPress)",
            Proof.EMULATOR,
            "pylon's camera emulator; no camera was connected, and its clock and edges were not run",
            TEST,
        ),
    ),
)
"""Basler cameras."""

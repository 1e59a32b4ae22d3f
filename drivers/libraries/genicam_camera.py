"""A GenICam camera behind any library: its features by the common table, its frames on the host's clock.

A backend writes a `Link`: how its library reads a feature, hands out the next image, and notices that the camera is
gone. `open_genicam_camera` makes a camera of it.

When did an exposure begin? Cameras stamp their images with a clock of their own, some at the start of the exposure and
some at its end, and few say how that clock relates to the host's. What is sure is that no image arrives before it was
exposed and sent. The least of (arrival − stamp) over the last images relates the clocks but for the time that an image
takes at best; `latency_s` covers that. So a frame is never taken for newer than it is, however late the host is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from drivers.acquire import AcquireLogic, RawFrame
from drivers.errors import DeviceError, DeviceLost, DeviceProtocolError, DeviceTimeout, DroppedFrames, OptionError
from drivers.libraries.genicam_features import Features, Limits, NodeMap, Value
from drivers.libraries.genicam_names import ADJUSTABLE
from drivers.libraries.pixel_formats import PixelFormat, pixel_format
from drivers.options import Checked, option
from drivers.pixels import MonoPixels
from drivers.protocols import DeviceFacts, Identity, OpenContext, Roi, TriggerMode
from drivers.streaming import StreamingCamera, TriggeredStreamingCamera
from drivers.triggers import FreeRunning, HardwareEdge, SoftwareTrigger

_ASK_EVERY_S = 1.0
"""While images are waited for, how often the camera is asked whether it is there [s]."""

_WAITED_REL = 0.25
"""An image was waited for, rather than found in a queue, when that took so much of a frame period [1]."""


@dataclass(frozen=True)
class GenicamOptions(Checked):
    """Options of every GenICam camera.

    Attributes
    ----------
    pixel_format
        As the camera calls it, ``"Mono12p"``; empty for the best gray one.
    bit_depth
        Bits that count, where they are fewer than the format's. The format's if omitted, but for ``Mono16``, which
        most cameras fill up from fewer: there it must be given [bit].
    trigger
        What starts an exposure.
    trigger_line, trigger_edge
        For ``"hardware-edge"``: entry of the camera's ``TriggerSource``, and which edge counts.
    frame_rate_hz
        That the camera is asked for; as it is set there if omitted [Hz].
    fixed_exposure_s
        What the exposure is, for a camera that cannot be asked; its frame period if omitted [s].
    latency_s
        Longest read-out and transfer of one image when nothing delays it; the frame period if omitted [s].
    opening_s
        Time for the first image [s].
    features
        More of the camera's features by their own names, set in this order before the sensor's size is read:
        ``{BinningHorizontal = 2, Gain = 0.0}``.
    """

    pixel_format: str = ""
    bit_depth: int | None = option(1, 16, None)
    trigger: Literal["free-running", "software", "hardware-edge"] = "free-running"
    trigger_line: str = "Line1"
    trigger_edge: Literal["RisingEdge", "FallingEdge"] = "RisingEdge"
    frame_rate_hz: float | None = option(0.001, 100_000, None)
    fixed_exposure_s: float | None = option(1e-7, 3600, None)
    latency_s: float | None = option(0, 60, None)
    opening_s: float = option(0.1, 600, 10.0)
    features: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Image:
    """One complete image as a library hands it out.

    Attributes
    ----------
    pixels
        (rows, columns) of it, unpacked; valid until the next one is asked for.
    number
        The camera's own; −1 where it has none.
    stamp_s
        On the camera's clock; None where it has none [s].
    """

    pixels: NDArray[Any]
    number: int
    stamp_s: float | None


class Link(Protocol):
    """What one library knows of one camera."""

    counter_size: int
    """As `AcquireLogic.counter_size`."""

    @property
    def nodes(self) -> NodeMap:
        """Its features; failures are the bench's errors, as `GuardedNodes` makes them."""

    def identify(self) -> Identity: ...

    def start(self) -> None: ...

    def stop(self) -> None:
        """No error comes out: a camera that is gone has stopped."""

    def next_image(self, kind: PixelFormat, timeout_s: float) -> Image | None:
        """The oldest complete image that was not handed out; None when none comes. Incomplete ones are passed over."""

    @property
    def lost(self) -> int:
        """Images of this stream that came incomplete or not at all, as far as the transport counts them."""

    def is_there(self) -> bool:
        """Does the camera still answer, and to us? Something must really be sent."""

    def settings(self) -> dict[str, Any]:
        """More for the snapshot: what the transport counts."""

    def advice(self) -> str:
        """What to try when no image came, by what the transport has counted."""

    def close(self) -> None:
        """Release the camera, and quickly so when it is gone. No error comes out."""


class GuardedNodes:
    """A `NodeMap` whose failures are the bench's errors.

    Parameters
    ----------
    device
        What the station calls the camera.
    nodes
        The library's.
    failures
        What the library raises.
    is_there
        Does the camera still answer?
    """

    def __init__(
        self, device: str, nodes: NodeMap, failures: tuple[type[Exception], ...], is_there: Callable[[], bool]
    ) -> None:
        self._device, self._nodes, self._failures, self._is_there = device, nodes, failures, is_there

    def has(self, name: str) -> bool:
        with self._guard("look for", name):
            return self._nodes.has(name)

    def writable(self, name: str) -> bool:
        with self._guard("look for", name):
            return self._nodes.writable(name)

    def get(self, name: str) -> Value:
        with self._guard("read", name):
            return self._nodes.get(name)

    def set(self, name: str, value: Value) -> None:
        with self._guard(f"write {value!r} to", name):
            self._nodes.set(name, value)

    def limits(self, name: str) -> Limits:
        with self._guard("read the limits of", name):
            return self._nodes.limits(name)

    def entries(self, name: str) -> tuple[str, ...]:
        with self._guard("read the entries of", name):
            return self._nodes.entries(name)

    def unit(self, name: str) -> str:
        with self._guard("read the unit of", name):
            return self._nodes.unit(name)

    def execute(self, name: str) -> None:
        with self._guard("execute", name):
            self._nodes.execute(name)

    @contextmanager
    def _guard(self, doing: str, name: str) -> Iterator[None]:
        try:
            yield
        except DeviceError as error:
            error.device = error.device or self._device
            raise
        except self._failures as error:
            seen = f"{type(error).__name__}: {error}"
            if self._is_there():
                raise DeviceProtocolError(
                    f"camera refused to {doing} {name}", device=self._device, action=f"{doing} {name}", seen=seen
                ) from error
            raise DeviceLost(
                f"{self._device} does not answer any more",
                device=self._device,
                action=f"{doing} {name}",
                seen=seen,
                hint="look at its cable and power, and whether another program has opened it",
            ) from error


class ArrivalClock:
    """When images arrived, had nothing delayed them: the camera's stamps on the host's clock.

    Parameters
    ----------
    window
        Images over which the least delay is looked for: many enough for one that was not delayed, few enough for the
        two clocks not to drift apart.
    """

    def __init__(self, window: int = 64) -> None:
        self._delays_s: deque[float] = deque(maxlen=window)
        self._surely_s = 0.0
        self._enough_s = 0.0

    def restart(self, period_s: float) -> None:
        """The stream is started, with an image every ``period_s``: the camera may begin its clock again."""
        self._delays_s.clear()
        self._surely_s = time.monotonic()
        self._enough_s = _WAITED_REL * period_s

    def arrived_s(self, stamp_s: float | None, called_s: float, now_s: float) -> float:
        """When an image arrived that was asked for at ``called_s`` and came at ``now_s``, or somewhat earlier [s].

        One without a stamp that was not waited for may have lain in the library for long, since the last one that was.
        """
        if stamp_s is None:
            if now_s - called_s >= self._enough_s:
                self._surely_s = now_s
            return self._surely_s
        self._delays_s.append(now_s - stamp_s)
        return stamp_s + min(self._delays_s)


class GenicamAcquire(AcquireLogic):
    """The acquire logic of any GenICam camera.

    Parameters
    ----------
    name
        What the station calls it.
    link
        To the camera, which nobody else uses.
    options
        What the station file says of it.
    """

    adjustable = ADJUSTABLE

    def __init__(self, name: str, link: Link, options: GenicamOptions) -> None:
        self.name, self.counter_size = name, link.counter_size
        self._link, self._options = link, options
        self._identity = link.identify()
        features = self._features = Features(link.nodes, name)
        features.trigger()
        self._were_on: dict[str, Value] = features.switch_off_automatics()
        self._set_continuous()
        features.apply(options.features)
        self.format = features.set_pixel_format(options.pixel_format)
        self.bit_depth = _bits_that_count(self.format, options.bit_depth, name)
        self.shape = features.open_fully()
        if options.frame_rate_hz is not None:
            features.set_frame_rate_hz(options.frame_rate_hz)
        self._clock = ArrivalClock()
        self._fixed_s = options.fixed_exposure_s or features.frame_period_s()
        if not self._fixed_s:
            raise OptionError(
                "camera says neither its exposure nor its frame rate",
                device=name,
                action="open",
                expected="the option fixed_exposure_s",
                seen="nothing",
                hint="its manual says it: options = {fixed_exposure_s = 0.01}",
            )
        self._learn_limits()
        self.trigger = self._trigger_logic()
        self._begins_before_s = self._asked_s = 0.0
        self._lost = 0

    def identify(self) -> Identity:
        return self._identity

    @property
    def exposure_s(self) -> float:
        seen = self._features.exposure_s
        return self._fixed_s if seen is None else seen

    def set_exposure_s(self, value: float) -> None:
        self._features.set_exposure_s(value)

    @property
    def roi(self) -> Roi:
        return self._features.roi

    def set_roi(self, value: Roi) -> None:
        self._features.set_roi(value, self.shape)
        self._learn_limits()

    @property
    def frame_period_s(self) -> float:
        return max(self._features.frame_period_s(), self.exposure_s)

    def settings(self) -> dict[str, Any]:
        return {
            **self._features.settings(),
            "pixel_format": self.format.name,
            "automatics_on_at_opening": self._were_on,
            **self._link.settings(),
        }

    def adjust(self, key: str, value: Any) -> None:
        self._features.adjust(key, value)
        self._learn_limits()

    def start(self) -> None:
        latency_s, period_s = self._options.latency_s, self.frame_period_s
        self._begins_before_s = self.exposure_s + (period_s if latency_s is None else latency_s)
        self._clock.restart(period_s)
        self._asked_s = time.monotonic()
        self._link.start()
        self._lost = 0

    def stop(self) -> None:
        self._link.stop()

    def next_frame(self, timeout_s: float) -> RawFrame | None:
        called_s = time.monotonic()
        image = self._link.next_image(self.format, timeout_s)
        now_s = time.monotonic()
        if now_s > self._asked_s + _ASK_EVERY_S:
            self._asked_s = now_s
            self._check_presence()
        before, self._lost = self._lost, self._link.lost
        if image is None:
            self._check_loss(self._lost - before)
            return None
        if isinstance(self.trigger, (SoftwareTrigger, HardwareEdge)):
            # One that had come when the trigger was armed or given is of an earlier exposure, however late we look.
            return RawFrame(image.pixels, min(self.trigger.begins_s, now_s), image.number)
        arrived_s = self._clock.arrived_s(image.stamp_s, called_s, now_s)
        return RawFrame(image.pixels, arrived_s - self._begins_before_s, image.number)

    def close(self) -> None:
        self._link.close()

    def _set_continuous(self) -> None:
        nodes = self._link.nodes
        if nodes.writable("AcquisitionMode") and nodes.get("AcquisitionMode") != "Continuous":
            nodes.set("AcquisitionMode", "Continuous")

    def _learn_limits(self) -> None:
        """The exposure's range, which depends on the region and the frame rate in many cameras."""
        limits = self._features.exposure_range_s if self._features.can_expose else None
        self.exposure_range_s = limits or (self.exposure_s, self.exposure_s)

    def _trigger_logic(self) -> FreeRunning:
        features, options = self._features, self._options
        if options.trigger == "software":
            features.trigger("Software")
            return SoftwareTrigger(lambda: features.nodes.execute("TriggerSoftware"))
        if options.trigger == "hardware-edge":
            features.trigger(options.trigger_line, options.trigger_edge)
            features.listen("")
            return HardwareEdge(lambda on: features.listen(options.trigger_line if on else ""))
        return FreeRunning()

    def _check_loss(self, lost: int) -> None:
        """Where the camera runs freely, the number of the next image shows a loss; one that was triggered has no next.

        Raises
        ------
        DroppedFrames
            When an exposure that the driver has triggered was lost on the way.
        """
        if lost > 0 and isinstance(self.trigger, SoftwareTrigger):
            raise DroppedFrames(
                "a triggered exposure was lost on the way",
                device=self.name,
                action="fetch",
                expected="a complete image",
                seen=f"{lost} with packets missing",
                hint=self._link.advice(),
            )

    def _check_presence(self) -> None:
        """Ask the camera whether it is still there, and ours: a library may wait for ever for images of one that left.

        Raises
        ------
        DeviceLost
            When it is not.
        """
        if not self._link.is_there():
            raise DeviceLost(
                f"{self.name} does not answer any more, or obeys another program",
                device=self.name,
                action="wait for an image",
                expected="an answer",
                seen="none, or a refusal",
                hint="look at its cable and power, and whether another program has opened it",
            )


def describe_genicam_camera(options: GenicamOptions, context: OpenContext) -> DeviceFacts:
    """The bit depth, where the station file names the pixel format; options that contradict each other are refused."""
    if not options.pixel_format:
        return DeviceFacts(bit_depth=options.bit_depth)
    return DeviceFacts(bit_depth=_bits_that_count(pixel_format(options.pixel_format), options.bit_depth))


def open_genicam_camera(name: str, link: Link, options: GenicamOptions) -> StreamingCamera:
    """A camera of the bench; the link is closed when that fails."""
    try:
        acquire = GenicamAcquire(name, link, options)
    except BaseException:
        link.close()
        raise
    pixels = MonoPixels(acquire.bit_depth, acquire.format.shift if acquire.bit_depth == acquire.format.bits else None)
    free = acquire.trigger.mode is TriggerMode.FREE_RUNNING
    kind = StreamingCamera if free else TriggeredStreamingCamera
    try:
        return kind(name, acquire, pixels, acquire.trigger, options.opening_s)
    except DeviceTimeout as error:
        error.hint = link.advice()
        raise


def _bits_that_count(kind: PixelFormat, said: int | None, device: str = "") -> int:
    """The bit depth; full scale, and with it saturation, depends on it.

    Raises
    ------
    OptionError
        When the format has fewer bits than the option says, or is one that cameras fill up and the option is not given.
    """
    if said is None and kind.bits < 16:
        return kind.bits
    if said is not None and said <= kind.bits:
        return said
    raise OptionError(
        f"bit depth in pixel format {kind.name} is not known" if said is None else "bit depth is too large",
        device=device,
        action="read the options",
        expected=f"the option bit_depth, at most {kind.bits}",
        seen=f"bit_depth = {said}",
        hint="the camera's manual says how many bits its converter has: options = {bit_depth = 12}",
    )

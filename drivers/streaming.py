"""A camera composed of three parts, of which a new backend writes only what is different: usually the first one.

* `AcquireLogic` talks to the vendor's library: settings, start, stop, the next frame, the time.
* `TriggerLogic` says what starts an exposure: `FreeRunning`, `SoftwareTrigger`, `HardwareEdge`.
* `PixelLogic` makes counts of a buffer: `MonoPixels` finds out whether the data is left-justified, and shifts it.

`StreamingCamera` is the rest of the contract. It starts the stream once and lets it run: a frame is delivered when its
exposure began after ``arm``, so that no driver starts and stops its camera for each frame.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from drivers import checks
from drivers.acquire import AcquireLogic, RawFrame
from drivers.counting import FrameCounter, Order
from drivers.errors import CapabilityError, DeviceError, DeviceLost, DeviceProtocolError, DeviceTimeout, DroppedFrames
from drivers.hosttime import host_time_s
from drivers.pixels import PixelLogic, saturated_fraction
from drivers.protocols import FrameBlock, Identity, Roi, TriggerMode
from drivers.triggers import FreeRunning, TriggerLogic

_POLL_S = 0.1
_CLOSING_S = 10.0  # a camera that is asked whether it is there has some seconds to answer


@dataclass(frozen=True)
class _Kept:
    """What is known of a frame that will be delivered; its pixels are in the block already."""

    sequence: int
    device_sequence: int
    begins_s: float
    arrived_s: float
    saturated: float


class StreamingCamera:
    """A `Camera` whose stream runs all the time.

    Parameters
    ----------
    name
        What the station calls it.
    acquire, pixels, trigger
        Its parts.
    opening_s
        Time for the first frame, from which the pixel logic learns how the data is justified [s].

    Raises
    ------
    DeviceTimeout
        When no frame arrives at opening.
    """

    def __init__(
        self,
        name: str,
        acquire: AcquireLogic,
        pixels: PixelLogic,
        trigger: TriggerLogic | None = None,
        opening_s: float = 5.0,
    ) -> None:
        self.name = name
        self.shape, self.bit_depth = acquire.shape, acquire.bit_depth
        self._acquire_or_gone: AcquireLogic | None = acquire
        self._pixels, self._trigger = pixels, trigger or FreeRunning()
        self._changed = threading.Condition()
        self._counter = FrameCounter(acquire.counter_size)
        self._order: Order | None = None
        self._kept: list[_Kept] = []
        self._frames: NDArray[np.uint16] | None = None  # of the block that is armed, from its first frame on
        self._passed = self._asked = self._dropped = 0
        self._last = -1  # number of the last frame that began after arm
        self._armed_at_s = 0.0
        self._streaming = self._ending = False  # one that is to end goes on until its thread has
        self._thread: threading.Thread | None = None
        self._is_read = False  # by that thread
        self._failed: Exception | None = None
        if self._trigger.mode is not TriggerMode.HARDWARE_EDGE:
            try:
                self._see_one(opening_s)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        acquire = self._acquire_or_gone
        if acquire is None:
            return
        try:
            self.safe_state(_CLOSING_S)
        finally:
            with self._changed:
                self._acquire_or_gone = None
                is_used = self._is_read
            if not is_used:  # else the thread that hangs in the library closes it, should it come back
                acquire.close()

    def identify(self) -> Identity:
        return self._acquire.identify()

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        acquire, roi = self._acquire, self.roi
        return {
            "serial": acquire.identify().serial,
            "shape_px": list(self.shape),
            "bit_depth": self.bit_depth,
            "exposure_s": self.exposure_s,
            "frame_period_s": self.frame_period_s,
            "roi_px": {"x": roi.x, "y": roi.y, "width": roi.width, "height": roi.height},
            "trigger_mode": str(self._trigger.mode),
            **acquire.settings(),
        }

    def restore(self, snapshot: Mapping[str, Any], timeout_s: float = 5.0) -> tuple[str, ...]:
        """As `Restorable.restore`: the region, what the acquire logic can adjust, and the exposure, in this order.

        What is refused because another setting stands in its way (a frame rate, while the exposure is long) is tried
        again after that one, and so is what another setting has moved.
        """
        acquire = self._idle("restore settings")
        now = self.snapshot(timeout_s)
        checks.snapshot_of_this(self.name, snapshot, now, ("serial", "shape_px", "bit_depth", "trigger_mode"))
        keys = [key for key in ("roi_px", *acquire.adjustable, "exposure_s") if snapshot.get(key) is not None]
        changed: list[str] = []
        for last in (False, False, True):
            refused: CapabilityError | None = None
            for key in keys:
                if not checks.same_setting(now.get(key), snapshot[key]):
                    try:
                        self._restore_one(acquire, key, snapshot[key])
                        changed.append(key)
                    except CapabilityError as error:
                        refused = error
            if refused is not None and last:
                raise refused
            now = self.snapshot(timeout_s)
        checks.restored(self.name, snapshot, now, changed)
        return tuple(dict.fromkeys(changed))

    def safe_state(self, timeout_s: float = 5.0) -> None:
        """Forget what is armed and stop the stream."""
        if self._acquire_or_gone is not None:
            self.stop()
            self._halt(timeout_s)

    @property
    def exposure_s(self) -> float:
        """Set it, then read it back [s]."""
        return self._acquire.exposure_s

    @exposure_s.setter
    def exposure_s(self, value: float) -> None:
        acquire = self._idle("set the exposure")
        checks.exposure_set(self.name, value, acquire.exposure_range_s)
        if value != acquire.exposure_s:
            self._halt()
            acquire.set_exposure_s(value)

    @property
    def roi(self) -> Roi:
        """Set it, then read it back."""
        return self._acquire.roi

    @roi.setter
    def roi(self, value: Roi) -> None:
        acquire = self._idle("set the region of interest")
        checks.roi_set(self.name, value, self.shape)
        if value != acquire.roi:
            self._halt()
            acquire.set_roi(value)

    @property
    def frame_period_s(self) -> float:
        """From one start of exposure to the next [s]."""
        return self._acquire.frame_period_s

    def arm(self, n: int, skip: int = 0) -> None:
        """As `Camera.arm`."""
        self._idle("arm")
        checks.frames_armed(self.name, n, skip)
        self._start(Order(n, skip))

    def fetch(self, timeout_s: float) -> FrameBlock:
        """As `Camera.fetch`.

        Raises
        ------
        DroppedFrames
            When a frame of a list of patterns was lost, so that another one would stand for it.
        """
        acquire, order = self._acquire, self._order
        if order is None:
            raise DeviceProtocolError(
                "fetch without arm", device=self.name, action="fetch", hint="arm(n) asks for frames"
            )
        deadline_s = time.monotonic() + timeout_s
        while not self._is_complete(order):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise DeviceTimeout(
                    f"{order.n} frames of {order.exposures} exposures did not arrive in time",
                    device=self.name,
                    action="fetch",
                    expected=f"within {timeout_s:g} s",
                    seen=f"{self._passed} exposures, {len(self._kept)} frames",
                )
            self._advance(acquire, left_s)
        self._order = None
        self._trigger.disarm()
        if len(self._kept) < order.n:
            raise DroppedFrames(
                "frames of the list were lost",
                device=self.name,
                action="fetch",
                expected=f"{order.n} frames",
                seen=f"{len(self._kept)} frames, {self._dropped} exposures lost",
            )
        return self._block()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Forget what is armed. The stream goes on, unless exposures were triggered that nobody will read now.

        One that has not ended in time ends when its thread comes back from the library, which the next ``arm`` waits
        for: the thread may just be asking whether the camera is there.
        """
        with self._changed:
            order, self._order = self._order, None
        if order is not None:
            self._trigger.disarm()
            if self._trigger.mode is not TriggerMode.FREE_RUNNING:
                with suppress(DeviceTimeout):
                    self._halt(timeout_s)

    def _restore_one(self, acquire: AcquireLogic, key: str, value: Any) -> None:
        if key == "roi_px":
            self.roi = Roi(**value)
        elif key == "exposure_s":
            self.exposure_s = value
        else:
            self._halt()
            acquire.adjust(key, value)

    def _see_one(self, within_s: float) -> None:
        """Take the first frame. One that was triggered and lost on the way does not come again: trigger another."""
        ends_s = time.monotonic() + within_s
        while True:
            left_s = ends_s - time.monotonic()
            free = self._trigger.mode is TriggerMode.FREE_RUNNING
            self.arm(1)
            try:
                self.fetch(left_s if free else min(left_s, within_s / 3))
                return
            except (DeviceTimeout, DroppedFrames):
                self.stop()
                if time.monotonic() >= ends_s - 0.01:
                    raise

    @property
    def _acquire(self) -> AcquireLogic:
        if self._acquire_or_gone is None:
            raise DeviceLost(f"{self.name} is closed", device=self.name, hint="open it again")
        return self._acquire_or_gone

    def _idle(self, action: str) -> AcquireLogic:
        acquire = self._acquire
        if self._order is not None:
            raise DeviceProtocolError("frames are armed", device=self.name, action=action, hint="fetch them, or stop()")
        return acquire

    def _start(self, order: Order) -> None:
        """Arm: what begins from now on counts."""
        acquire = self._acquire
        if self._ending:
            self._halt()
        if not self._streaming:
            self._failed = None
            self._counter.restart()
            acquire.start()
            self._streaming = True
            if not acquire.polled:
                self._is_read = True
                self._thread = threading.Thread(target=self._pump, args=(acquire,), name=self.name, daemon=True)
                self._thread.start()
        with self._changed:
            self._kept, self._frames, self._passed, self._asked, self._dropped = [], None, 0, 0, 0
            self._armed_at_s = acquire.now_s()
            self._order = order
        self._trigger.arm(order.exposures)

    def _halt(self, timeout_s: float = _CLOSING_S) -> None:
        """Stop the stream; the next ``arm`` starts it again.

        Raises
        ------
        DeviceTimeout
            When its thread does not come back from the library. The stream still counts as one that is to end: to
            start another one beside it would be two threads in one library, each of which takes the other's frames.
        """
        if not self._streaming:
            return
        self._ending = True
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                raise DeviceTimeout(
                    "the stream does not end", device=self.name, action="stop the stream", seen=f"{timeout_s:g} s"
                )
            self._thread = None
        self._streaming = self._ending = False
        self._acquire.stop()

    def _pump(self, acquire: AcquireLogic) -> None:
        """Take frames as they arrive, in a thread of its own, until the stream is stopped."""
        while not self._ending and self._failed is None:
            self._read(acquire, _POLL_S)
        with self._changed:
            self._is_read = False
            is_closed = self._acquire_or_gone is None
        if is_closed:  # while a call hung, which nobody waited for
            with suppress(Exception):
                acquire.stop()
            with suppress(Exception):
                acquire.close()

    def _advance(self, acquire: AcquireLogic, left_s: float) -> None:
        """Ask for the next exposure where the trigger must, and wait for at most ``left_s`` for what comes of it."""
        if self._trigger.mode is TriggerMode.SOFTWARE and self._asked <= self._passed:
            self._asked = self._passed + 1
            self._trigger.expose()
        if acquire.polled:
            self._read(acquire, min(left_s, _POLL_S))
        with self._changed:
            if not acquire.polled and not self._is_turn():
                self._changed.wait(min(left_s, _POLL_S))
            failed = self._failed
        if failed is not None:
            with suppress(Exception):
                self.safe_state(_CLOSING_S)
            if isinstance(failed, DeviceError):
                raise failed
            reason = f"{type(failed).__name__}: {failed}"
            raise DeviceLost(f"{self.name} failed: {reason}", device=self.name, action="fetch", seen=reason) from failed

    def _read(self, acquire: AcquireLogic, timeout_s: float) -> None:
        """Wait for one frame; what goes wrong is kept for `fetch` to raise."""
        try:
            raw = acquire.next_frame(timeout_s)
            if raw is not None:
                self._take(raw)
        except Exception as error:
            with self._changed:
                self._failed = error
                self._changed.notify_all()

    def _take(self, raw: RawFrame) -> None:
        """Number a frame that arrives; keep it if it is armed and began late enough."""
        with self._changed:
            sequence = self._counter.number(raw.device_sequence, raw.begins_s)
            order = self._order
            if order is None or raw.begins_s < self._armed_at_s or self._is_complete(order):
                return
            lost = max(sequence - self._last - 1, 0) if self._passed else 0
            self._last = sequence
            self._dropped += lost
            index = self._passed + (lost if order.between else 0)
            if order.keeps(index):
                self._keep(raw, sequence, order)
            self._passed = index + 1
            if self._is_turn():  # to be woken for each frame of a stream would cost as much as the frame
                self._changed.notify_all()

    def _keep(self, raw: RawFrame, sequence: int, order: Order) -> None:
        """Copy a frame into the block, here and not in `fetch`: there is time for it until the next one arrives."""
        if self._frames is None:
            self._frames = self._room(order.n, raw.pixels.shape)
        if raw.pixels.shape != self._frames.shape[1:]:
            raise DeviceProtocolError(
                "frames have another size than before",
                device=self.name,
                action="read a frame",
                expected=f"{self._frames.shape[1:]}",
                seen=f"{raw.pixels.shape}",
            )
        dn = self._pixels.to_dn(raw.pixels, self._frames[len(self._kept)])
        saturated = float(saturated_fraction(dn[None], self.bit_depth)[0])
        self._kept.append(_Kept(sequence, raw.device_sequence, raw.begins_s, host_time_s(), saturated))

    def _room(self, n: int, shape: tuple[int, ...]) -> NDArray[np.uint16]:
        try:
            return np.empty((n, *shape), np.uint16)
        except (MemoryError, ValueError) as error:
            raise CapabilityError(
                "so many frames do not fit into memory",
                device=self.name,
                action="fetch",
                expected="room for the frames that are armed",
                seen=f"{n} frames of {shape}",
                hint="arm fewer at once",
            ) from error

    def _is_turn(self) -> bool:
        """Is it the reader's turn: to take the block, to hear of a failure, to have the next exposure made?"""
        order = self._order
        asks = self._trigger.mode is TriggerMode.SOFTWARE and self._asked <= self._passed
        return asks or self._failed is not None or order is None or self._is_complete(order)

    def _is_complete(self, order: Order) -> bool:
        return len(self._kept) == order.n or (order.between > 0 and self._passed >= order.exposures)

    def _block(self) -> FrameBlock:
        kept, frames = self._kept, self._frames
        assert frames is not None
        self._frames = None  # they are the caller's now
        return FrameBlock(
            frames,
            np.array([frame.sequence for frame in kept], np.int64),
            np.array([frame.device_sequence for frame in kept], np.int64),
            np.array([frame.begins_s for frame in kept]),
            np.array([frame.arrived_s for frame in kept]),
            self._dropped,
            np.array([frame.saturated for frame in kept]),
        )


class TriggeredStreamingCamera(StreamingCamera):
    """A `TriggeredCamera`: for a `SoftwareTrigger` or a `HardwareEdge`, which start no exposure by themselves."""

    @property
    def trigger_modes(self) -> tuple[TriggerMode, ...]:
        """The mode that it was opened in."""
        return (self._trigger.mode,)

    def arm_sequence(self, n: int, frames_each: int) -> None:
        """As `TriggeredCamera.arm_sequence`."""
        self._idle("arm")
        checks.list_armed(self.name, n, frames_each)
        self._start(Order(n, frames_each - 1, frames_each - 1))

"""The devices that `as_micromanager` loads: subclasses of pymmcore-plus's, imported only where that is installed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pymmcore_plus.experimental.unicore import CameraDevice, ShutterDevice, SLMDevice, UniMMCore

from drivers import checks
from drivers.errors import CapabilityError, DeviceLost
from drivers.protocols import Roi
from labctl.doors.held import HeldBench

LIGHT = "light"
"""What the light is called in the core."""
BLOCK_S, BLOCK_MAX = 0.1, 16
"""A sequence is read in blocks that take so long, and have so many frames, at most: to be stopped soon."""
_FETCH_S = 5.0


class _Held:
    """A device of a held bench: unloaded, it closes the whole bench, light first.

    Parameters
    ----------
    held
        The bench.
    """

    def __init__(self, held: HeldBench, *more: Any) -> None:
        self.held = held
        super().__init__(*more)

    def shutdown(self) -> None:
        """Light off, devices safe and closed, the bench free."""
        self.held.close()


class BenchCamera(_Held, CameraDevice):  # type: ignore[misc]
    """The camera of a bench.

    It does two things for the core, which does not do them for cameras in Python: a read-only property ``BitDepth``
    says how many bits a count has, and where the core's auto shutter is on and the light is the current shutter, there
    is light for each image, or for each sequence, and none after it.

    Parameters
    ----------
    held
        The bench.
    core
        That it is loaded into.
    """

    def __init__(self, held: HeldBench, core: UniMMCore) -> None:
        super().__init__(held)
        self._loaded_into = weakref.ref(core)
        rows, columns = held.bench.camera.shape
        self._whole = Roi(0, 0, columns, rows)
        held.roi = self._whole
        depth = held.bench.camera.bit_depth
        self.register_property("BitDepth", default_value=depth, is_read_only=True)

    def get_exposure(self) -> float:
        """As the camera reads it back [ms]."""
        return 1e3 * self.held.exposure_s

    def set_exposure(self, exposure: float) -> None:
        """In milliseconds; a value out of the camera's range is a `CapabilityError`."""
        self.held.exposure_s = exposure / 1e3

    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the region of interest [px]."""
        return self.held.roi.shape

    def dtype(self) -> DTypeLike:
        """Counts are whole numbers of 16 bits, whatever the camera's depth."""
        return np.dtype(np.uint16)

    def get_camera_id(self) -> str:
        """Its serial number."""
        return self.held.bench.camera.identify().serial

    def get_camera_name(self) -> str:
        """Maker and model."""
        identity = self.held.bench.camera.identify()
        return f"{identity.vendor} {identity.model}"

    def get_roi(self) -> tuple[int, int, int, int]:
        """Left, top, width, height on the sensor [px]."""
        roi = self.held.roi
        return roi.x, roi.y, roi.width, roi.height

    def set_roi(self, x: int, y: int, width: int, height: int) -> None:
        """As the camera aligns it; a region that is not on the sensor is a `CapabilityError`."""
        self.held.roi = Roi(x, y, width, height)

    def clear_roi(self) -> None:
        """The whole sensor."""
        self.held.roi = self._whole

    def start_sequence(
        self, n: int | None, get_buffer: Callable[[Sequence[int], DTypeLike], NDArray[Any]]
    ) -> Iterator[Mapping[str, Any]]:
        """Settled frames, ``n`` or without end, and of each its number and its time on the camera's clock."""
        left = n
        with self._auto_shutter():
            while left is None or left > 0:
                many = max(1, min(int(BLOCK_S / self.held.frame_period_s), BLOCK_MAX))
                block = self.held.frames(many if left is None else min(many, left), _FETCH_S)
                for frame, sequence, at_s in zip(block.frames, block.sequence, block.device_time_s, strict=True):
                    get_buffer(frame.shape, frame.dtype)[...] = frame
                    yield {"sequence": str(sequence), "device_time_s": f"{at_s:.6f}"}
                left = None if left is None else left - len(block.frames)

    @contextmanager
    def _auto_shutter(self) -> Iterator[None]:
        """Light for as long as images are taken, where the core is to see to that."""
        core = self._loaded_into()
        if core is None or not core.getAutoShutter() or core.getShutterDevice() != LIGHT:
            yield
            return
        self.held.light = True
        try:
            yield
        finally:
            with suppress(DeviceLost, CapabilityError):  # closed meanwhile, light first; or a light that stays on
                self.held.light = False


class BenchPanel(_Held, SLMDevice):  # type: ignore[misc]
    """One panel of a bench. Its images are 16 bits wide, so that a level out of range is seen, and refused."""

    def __init__(self, held: HeldBench, role: str) -> None:
        super().__init__(held)
        self._role = role
        panel = held.panel(role)
        self._image: NDArray[Any] = np.full(panel.shape, panel.levels - 1, self.dtype())
        self.display_image()

    def shape(self) -> tuple[int, int]:
        """(rows, columns) [px]"""
        return self.held.panel(self._role).shape

    def dtype(self) -> DTypeLike:
        """Gray levels."""
        return np.dtype(np.uint16)

    def set_image(self, pixels: NDArray[Any]) -> None:
        """Take note of a picture, to be shown by `display_image`.

        Raises
        ------
        CapabilityError
            For a level that the panel has not.
        """
        panel = self.held.panel(self._role)
        self._image = checks.levels_shown(panel.name, pixels, panel.shape, panel.levels).copy()

    def get_image(self) -> NDArray[Any]:
        """The picture that was given last."""
        return self._image.copy()

    def display_image(self) -> None:
        """Show it; it stays until the next one."""
        self.held.show(self._role, self._image)

    def get_exposure(self) -> float:
        """0: a picture stays [ms]."""
        return 0.0

    def set_exposure(self, interval_ms: float) -> None:
        """Refused but for 0: no panel of a bench blanks itself."""
        if interval_ms:
            raise CapabilityError(
                "the panel does not blank itself",
                device=self.held.panel(self._role).name,
                action="setting how long a picture stays",
                expected="0: it stays",
                seen=f"{interval_ms:g} ms",
                hint="the exposure is the camera's: core.setExposure(milliseconds)",
            )


class BenchLight(_Held, ShutterDevice):  # type: ignore[misc]
    """The light of a bench as a shutter."""

    def get_open(self) -> bool:
        """Whether images are taken with the light on."""
        return self.held.light

    def set_open(self, open: bool) -> None:
        """Switch it; while an interlock is open, switching it on is refused."""
        self.held.light = open

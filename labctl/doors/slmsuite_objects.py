"""The objects that `as_slmsuite` hands out: subclasses of slmsuite's, imported only where slmsuite is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from slmsuite.hardware.cameras.camera import Camera
from slmsuite.hardware.slms.slm import SLM

from drivers.errors import CapabilityError
from drivers.protocols import Roi
from labctl.bench.marks import known_benches
from labctl.doors.held import HeldBench

_PITCH_UM = 8.0
"""slmsuite's own default: it asks for one, and what would use it is refused."""


class BenchSLM(SLM):  # type: ignore[misc]
    """One panel of a bench as an SLM of slmsuite.

    Whole numbers of the type ``dtype`` are gray levels and are shown as they are. Floats are slmsuite's phases: 2π are
    all levels of the panel, and since a longer delay is a lower level to slmsuite, phase 0 is the highest level.

    Parameters
    ----------
    held
        The bench.
    panel, other_level, options
        As for `labctl.as_slmsuite`.

    Attributes
    ----------
    held
        The bench that it belongs to; ``held.bench`` has all devices.
    """

    def __init__(self, held: HeldBench, panel: str, other_level: int | None, options: Mapping[str, Any]) -> None:
        self.held, self._panel = held, panel
        device = held.panel(panel)
        depth = int(device.levels).bit_length() - 1
        if device.levels != 2**depth:
            raise CapabilityError(
                "slmsuite counts gray levels in bits",
                device=device.name,
                action="opening it for slmsuite",
                expected="2, 4, …, 256, 1024 levels",
                seen=f"{device.levels} levels",
            )
        held.fill("display" if panel == "slm" else "slm", other_level)
        super().__init__(
            (device.shape[1], device.shape[0]),
            **{
                "bitdepth": depth,
                "name": f"{held.station.bench.name}-{device.name}",
                "wav_um": held.station.source.wavelength_nm / 1000,
                "pitch_um": _PITCH_UM,
                "settle_time_s": device.settle_s,
                "gpu": False,
                **options,
            },
        )
        self.set_phase(None)

    def close(self) -> None:
        """Close the bench, light first: the camera that was opened with it, too."""
        self.held.close()

    def __del__(self) -> None:
        """A bench closes itself when nobody refers to it any more; the camera may still do so."""

    @staticmethod
    def info(verbose: bool = True) -> list[str]:
        """Names of the benches that were ever used on this computer."""
        return _benches(verbose)

    def set_phase(self, phase: Any, *args: Any, **kwargs: Any) -> Any:
        """As slmsuite's, but what is no picture of gray levels and no finite phase is refused.

        Raises
        ------
        CapabilityError
            For a hologram, a mask of truth values, a phase that is not finite, or a correction of the wavefront.
        """
        if hasattr(phase, "get_phase"):
            self._refuse("showing a hologram")
        if phase is not None and np.asarray(phase).dtype.kind not in "iu" and not _is_phase(np.asarray(phase)):
            self._refuse(f"showing {np.asarray(phase).dtype} values, or values that are not finite")
        return super().set_phase(phase, *args, **kwargs)

    @property
    def grid(self) -> NoReturn:
        """What gratings, lenses and Zernike polynomials are made on.

        Raises
        ------
        CapabilityError
            Always.
        """
        self._refuse("making a phase pattern")

    def get_spot_radius_kxy(self) -> NoReturn:
        """What spots in a Fourier plane are made with: refused."""
        self._refuse("making spots in a Fourier plane")

    def set_gamma(self, *args: Any, **kwargs: Any) -> NoReturn:
        """A measured phase response: refused."""
        self._refuse("setting a phase response")

    def _get_source_phase(self) -> NoReturn:
        self._refuse("correcting a wavefront")

    def _set_phase_hw(self, display: NDArray[Any]) -> None:
        self.held.show(self._panel, display)

    def _refuse(self, action: str) -> NoReturn:
        raise CapabilityError(
            "the panel is imaged onto the camera and changes how much light passes, not its phase",
            device=self.name,
            action=action,
            expected="gray levels: whole numbers, 0 is the lowest",
            safe="the panel shows what it showed before",
            hint=f"slm.set_phase(levels.astype(numpy.{self.dtype}))   ·   what maps its pixels: labctl calibrate",
        )


class BenchCamera(Camera):  # type: ignore[misc]
    """The camera of a bench as one of slmsuite; its images have settled.

    Parameters
    ----------
    held
        The bench.
    options
        As for `labctl.as_slmsuite`.

    Attributes
    ----------
    held
        The bench that it belongs to; ``held.bench`` has all devices.
    """

    def __init__(self, held: HeldBench, options: Mapping[str, Any]) -> None:
        self.held = held
        camera = held.bench.camera
        rows, columns = camera.shape
        held.roi = Roi(0, 0, columns, rows)
        name = f"{held.station.bench.name}-{camera.name}"
        super().__init__((columns, rows), **{"bitdepth": camera.bit_depth, "name": name, **options})

    def close(self) -> None:
        """Close the bench, light first: the SLM that was opened with it, too."""
        self.held.close()

    def __del__(self) -> None:
        """A bench closes itself when nobody refers to it any more; the SLM may still do so."""

    @staticmethod
    def info(verbose: bool = True) -> list[str]:
        """Names of the benches that were ever used on this computer."""
        return _benches(verbose)

    def flush(self, timeout_s: float = 1) -> None:
        """Nothing to do: no frame is delivered whose exposure began before it was asked for."""

    def _get_exposure_hw(self) -> float:
        return self.held.exposure_s

    def _set_exposure_hw(self, exposure_s: float) -> None:
        self.held.exposure_s = float(exposure_s)

    def _get_image_hw(self, timeout_s: float) -> NDArray[np.uint16]:
        return np.asarray(self.held.frames(1, timeout_s).frames[0])

    def _get_images_hw(
        self, image_count: int, timeout_s: float, out: NDArray[np.uint16] | None = None
    ) -> NDArray[np.uint16]:
        frames = self.held.frames(image_count, image_count * timeout_s).frames
        if out is None:
            return frames
        out[...] = frames
        return out

    def _get_woi_hw(self) -> tuple[int, int, int, int]:
        """Left, width, top, height, in units of what is binned."""
        roi, (across, down) = self.held.roi, self._binning
        return roi.x // across, roi.width // across, roi.y // down, roi.height // down

    def _set_woi_hw(self, woi: tuple[int, int, int, int]) -> None:
        x, width, y, height = woi
        across, down = self._binning
        try:
            self.held.roi = Roi(x * across, y * down, width * across, height * down)
        except BaseException:
            self.get_woi()  # slmsuite has taken note of the new one already
            raise


def _is_phase(values: NDArray[Any]) -> bool:
    """Whether they are finite real numbers; slmsuite makes some level of any others, and of truth values two alike."""
    return values.dtype.kind == "f" and bool(np.isfinite(values).all())


def _benches(verbose: bool) -> list[str]:
    found = known_benches()
    if verbose:
        print("benches of this computer:", ", ".join(found) or "none yet")
    return found

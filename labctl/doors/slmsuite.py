"""A bench as a pair of slmsuite's objects, so that slmsuite's scripts run on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from drivers.libraries.loading import load
from labctl.doors.held import AnyStation, HeldBench, require_panel
from labctl.doors.packages import require_package
from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.doors.slmsuite_objects import BenchCamera, BenchSLM


class SlmsuitePair(NamedTuple):
    """An SLM and a camera of one bench: two names to be unpacked, or a block at the end of which the light is off.

    Attributes
    ----------
    slm
        `slmsuite.hardware.slms.slm.SLM`.
    camera
        `slmsuite.hardware.cameras.camera.Camera`.
    """

    slm: BenchSLM
    camera: BenchCamera

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Light off, devices safe and closed, the bench free."""
        self.slm.held.close()


def as_slmsuite(
    station: AnyStation = None,
    panel: str = "slm",
    *,
    other_level: int | None = None,
    settle_frames: int | None = None,
    slm_options: Mapping[str, Any] | None = None,
    camera_options: Mapping[str, Any] | None = None,
) -> SlmsuitePair:
    """Open a bench as an SLM and a camera of slmsuite; the bench is held, and the light on, until either is closed.

    Each image is of what the panel shows, settled by counted frames: slmsuite's ``settle`` adds nothing to that. The
    panels of our benches are imaged onto the camera and change how much light passes. So whatever slmsuite works out
    from phases in a Fourier plane is refused: its calibrations, holograms, gratings and lenses.

    Parameters
    ----------
    station
        What `load_station` gives; the path of a station file; the name of one that is shipped; the mock bench if None.
    panel
        Which of the bench's two panels becomes the SLM: ``"slm"`` or ``"display"``.
    other_level
        Gray level of the other panel, everywhere; its highest if None.
    settle_frames
        Frames that pass unread after a panel has changed; what the station says if None.
    slm_options
        More arguments of slmsuite's SLM: ``pitch_um``, which only its plots use, ``settle_time_s``, ``name``.
    camera_options
        More arguments of slmsuite's camera: ``averaging``, ``hdr``, ``exposure_bounds_s``, ``pitch_um``, ``rot``,
        ``fliplr``, ``flipud``, ``capture_attempts``, ``name``.

    Raises
    ------
    UsageError
        When slmsuite is not installed, or there is no such panel.
    BenchBusy
        When somebody holds the bench.
    InterlockOpen
        When an interlock is open.
    CapabilityError
        When the panel's levels are no power of two, which slmsuite cannot count.

    Examples
    --------
    >>> import labctl, numpy as np
    >>> with labctl.as_slmsuite("bench.toml") as (slm, camera):
    ...     dark = slm.set_phase(np.zeros(slm.shape, slm.dtype))  # gray levels; floats are slmsuite's phases
    ...     image = camera.get_image()
    >>> image.shape == camera.shape
    True
    """
    require_package("slmsuite", "'labctl[slmsuite]'")
    require_panel(panel)
    objects = load("labctl.doors.slmsuite_objects")
    held = HeldBench(station, "labctl.as_slmsuite", settle_frames)
    try:
        return SlmsuitePair(
            objects.BenchSLM(held, panel, other_level, slm_options or {}),
            objects.BenchCamera(held, camera_options or {}),
        )
    except TypeError as error:  # of the constructors of slmsuite's classes
        held.close()
        raise UsageError("slmsuite does not take these options", seen=str(error)) from error
    except BaseException:
        held.close()
        raise

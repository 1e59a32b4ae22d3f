"""A bench as Python devices of Micro-Manager's core, so that its scripts and its windows run on it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from drivers.errors import CapabilityError
from drivers.libraries.loading import load
from labctl.doors.held import AnyStation, HeldBench
from labctl.doors.packages import require_package
from labctl.errors import UsageError

if TYPE_CHECKING:
    from pymmcore_plus.experimental.unicore import UniMMCore

LABELS = ("camera", "slm", "display", "light")
"""What the devices are called in the core."""


def as_micromanager(
    station: AnyStation = None, *, core: UniMMCore | None = None, settle_frames: int | None = None
) -> UniMMCore:
    """Open a bench as devices of Micro-Manager: ``camera``, the SLMs ``slm`` and ``display``, the shutter ``light``.

    The bench is held until one of the devices is unloaded or nothing refers to the core any more;
    ``core.unloadAllDevices()`` does that at once. Each image is of what the panels show, settled by counted frames. An
    image for a panel is gray levels, 0 … ``levels`` − 1; it is shown by ``displaySLMImage``, and both panels begin at
    their highest level. ``light`` is the current shutter, and closed at first: the core's auto shutter, where it is on,
    opens it for each image or sequence. ``setAutoShutter(False)`` and ``setShutterOpen(True)`` leave the light on, and
    then an image has nothing to wait for.

    Parameters
    ----------
    station
        As for `as_slmsuite`.
    core
        That gets the devices; a new one if None.
    settle_frames
        Frames that pass unread after a panel has changed; what the station says if None.

    Returns
    -------
    The core, of which ``camera``, ``slm`` and ``light`` are the current devices.

    Raises
    ------
    UsageError
        When pymmcore-plus is not installed, or the core has a device of one of these names already.
    BenchBusy
        When somebody holds the bench.
    InterlockOpen
        When an interlock is open.

    Examples
    --------
    >>> import labctl, numpy as np
    >>> core = labctl.as_micromanager("bench.toml")
    >>> core.setSLMImage(np.zeros((core.getSLMHeight(), core.getSLMWidth()), np.uint16))
    >>> core.displaySLMImage()
    >>> image = core.snap()
    >>> core.unloadAllDevices()
    >>> image.dtype
    dtype('uint16')
    """
    require_package("pymmcore_plus", "'labctl[micromanager]'")
    if core is None:
        core = load("pymmcore_plus.experimental.unicore:UniMMCore")()
    if taken := sorted(set(LABELS) & set(core.getLoadedDevices())):
        raise UsageError(
            "the core has a device of this name already",
            device=", ".join(taken),
            expected=f"a core without {', '.join(LABELS)}",
            safe="no device was opened",
            hint="core.unloadAllDevices()",
        )
    objects = load("labctl.doors.micromanager_objects")
    held = HeldBench(station, "labctl.as_micromanager", settle_frames)
    try:
        devices: dict[str, Any] = {
            "camera": objects.BenchCamera(held, core),
            "slm": objects.BenchPanel(held, "slm"),
            "display": objects.BenchPanel(held, "display"),
            objects.LIGHT: objects.BenchLight(held),
        }
        for label, device in devices.items():
            core.loadPyDevice(label, device)
            core.initializeDevice(label)
        core.setCameraDevice("camera")
        core.setSLMDevice("slm")
        core.setShutterDevice(objects.LIGHT)
        with suppress(CapabilityError):  # a light that stays on is a shutter that stays open
            core.setShutterOpen(False)
    except BaseException:
        held.close()
        raise
    return core

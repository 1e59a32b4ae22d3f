"""Parameters of the mock bench: frozen, range-checked, read from the plain table ``[bench.mock]``."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

from drivers.errors import CapabilityError

T = TypeVar("T")


def _param(low: float, high: float, default: Any = MISSING) -> Any:
    """One number of a table, allowed in ``low … high``, both included."""
    return field(default=default, metadata={"range": (low, high)})


class _Checked:
    """Refuses numbers outside the range that their field declares."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if "range" in item.metadata:
                low, high = item.metadata["range"]
                if not low <= value <= high:
                    raise CapabilityError(
                        f"{type(self).__name__}.{item.name} is out of range",
                        device="mock",
                        action="read its parameters",
                        expected=f"{low:g} … {high:g}",
                        seen=f"{value!r}",
                    )


@dataclass(frozen=True)
class PanelConfig(_Checked):
    """A panel of gray levels and where its image lies on the sensor.

    Attributes
    ----------
    rows, cols
        Pixels.
    levels
        Gray levels ``0 … levels − 1``.
    gamma, floor
        Response ``T(g) = floor + (1 − floor) (g / (levels − 1))^gamma``; ``floor`` is one over the extinction ratio.
    refresh_hz
        A frame takes effect at the first tick of this clock at or after ``show`` [Hz].
    tau_s
        Time constant of the liquid crystal [s].
    magnification, rotation_deg
        Camera pixels per panel pixel; rotation from the x axis towards the y axis (clockwise on the image) [deg].
    offset_x_px, offset_y_px
        Where the panel's centre falls, from the sensor's centre [camera pixels].
    """

    rows: int = _param(1, 8192)
    cols: int = _param(1, 8192)
    levels: int = _param(2, 65536)
    gamma: float = _param(0.1, 10)
    floor: float = _param(0, 1)
    refresh_hz: float = _param(1, 1e5)
    tau_s: float = _param(1e-7, 10)
    magnification: float = _param(0.05, 20)
    rotation_deg: float = _param(-180, 180)
    offset_x_px: float = _param(-1e4, 1e4)
    offset_y_px: float = _param(-1e4, 1e4)


SLM = PanelConfig(
    rows=1024,
    cols=1280,
    levels=256,
    gamma=1.8,
    floor=0.02,
    refresh_hz=60.0,
    tau_s=0.004,
    magnification=1.0,
    rotation_deg=0.25,
    offset_x_px=3.4,
    offset_y_px=-2.7,
)
DISPLAY = PanelConfig(
    rows=1024,
    cols=1280,
    levels=256,
    gamma=2.2,
    floor=0.004,
    refresh_hz=60.0,
    tau_s=0.0015,
    magnification=1.003,
    rotation_deg=-0.1,
    offset_x_px=1.6,
    offset_y_px=-1.1,
)


@dataclass(frozen=True)
class SourceConfig(_Checked):
    """The light.

    Attributes
    ----------
    power_mw
        Optical power; 0 is a laser that does not lase [mW].
    peak_electrons
        Photo-electrons per camera pixel where the beam is brightest, both panels at full transmission, at 1 mW and
        10 ms [e-]. Photons are this over the camera's quantum efficiency.
    rin_rms
        Relative intensity noise: one factor per frame [1].
    """

    power_mw: float = _param(0, 1e4, 1.0)
    peak_electrons: float = _param(0, 1e6, 250.0)
    rin_rms: float = _param(0, 0.5, 0.0005)


@dataclass(frozen=True)
class OpticsConfig(_Checked):
    """Illumination, blur and stray light between the panels and the sensor.

    Attributes
    ----------
    beam_radius_px
        1/e² radius of the Gaussian beam on the SLM [SLM pixels]; 1940 leaves 70 % in the corners of 1024 × 1280.
    beam_offset_x_px, beam_offset_y_px
        Centre of the beam from the SLM's centre [SLM pixels].
    display_psf_px
        Standard deviation of the Gaussian point-spread function, display to SLM [SLM pixels].
    camera_psf_px
        The same, SLM to camera [camera pixels].
    stray_fraction
        Light of the source that goes round the modulators, uniform, of ``peak_electrons`` [1].
    ambient_e_per_s
        Light of the room, there with the source off [e-/s per camera pixel].
    """

    beam_radius_px: float = _param(1, 1e6, 1940.0)
    beam_offset_x_px: float = _param(-1e4, 1e4, 35.0)
    beam_offset_y_px: float = _param(-1e4, 1e4, -20.0)
    display_psf_px: float = _param(0, 20, 0.6)
    camera_psf_px: float = _param(0, 20, 0.8)
    stray_fraction: float = _param(0, 1, 0.002)
    ambient_e_per_s: float = _param(0, 1e7, 20.0)


@dataclass(frozen=True)
class CameraConfig(_Checked):
    """A linear camera in the terms of EMVA 1288.

    Attributes
    ----------
    rows, cols
        Pixels.
    bit_depth
        Of the converter, which saturates at ``2^bit_depth − 1`` [bit].
    quantum_efficiency
        Photo-electrons per photon [e-/photon]; every other number here counts electrons.
    gain_dn_per_e
        System gain K [DN/e-].
    read_noise_e
        rms of the dark noise, without quantisation [e-].
    full_well_e
        Electrons a pixel holds [e-]; the default is where the converter saturates.
    black_level_dn
        Mean signal without electrons [DN].
    dark_current_e_per_s
        Per pixel [e-/s].
    exposure_s
        Exposure at opening [s].
    exposure_min_s, exposure_max_s
        Its limits [s].
    max_fps
        Frame period is the longer of the exposure and ``1 / max_fps`` [Hz].
    """

    rows: int = _param(1, 8192, 1100)
    cols: int = _param(1, 8192, 1380)
    bit_depth: int = _param(8, 16, 12)
    quantum_efficiency: float = _param(0.01, 1, 0.6)
    gain_dn_per_e: float = _param(1e-3, 1e3, 4.0)
    read_noise_e: float = _param(0, 1e3, 2.0)
    full_well_e: float = _param(1, 1e6, 1000.0)
    black_level_dn: float = _param(0, 1e4, 100.0)
    dark_current_e_per_s: float = _param(0, 1e6, 10.0)
    exposure_s: float = _param(1e-6, 100, 0.010)
    exposure_min_s: float = _param(1e-6, 100, 1e-5)
    exposure_max_s: float = _param(1e-6, 100, 1.0)
    max_fps: float = _param(0.1, 1e5, 60.0)


@dataclass(frozen=True)
class BenchConfig(_Checked):
    """The whole bench.

    Attributes
    ----------
    seed
        Of all its noise: same seed and same calls, same frames bit for bit.
    threads
        That draw noise; the frames do not depend on it.
    slm, display, source, optics, camera
        Its parts.
    """

    seed: int = _param(0, 2**63 - 1, 1)
    threads: int = _param(1, 64, 2)
    slm: PanelConfig = SLM
    display: PanelConfig = DISPLAY
    source: SourceConfig = field(default_factory=SourceConfig)
    optics: OpticsConfig = field(default_factory=OpticsConfig)
    camera: CameraConfig = field(default_factory=CameraConfig)


def parse(table: Mapping[str, Any]) -> BenchConfig:
    """The bench that ``table`` describes; what it does not name keeps its default.

    Raises
    ------
    CapabilityError
        For a key that does not exist, a value of another type, or one out of range.
    """
    return _merge(BenchConfig(), table, "bench.mock")


def _merge(default: T, table: Mapping[str, Any], where: str) -> T:
    known = [item.name for item in fields(default)]  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            raise _refused(
                f"unknown parameter {where}.{key}",
                expected="one of " + ", ".join(known),
                seen=str(key),
                hint=f"did you mean {near[0]!r}?" if near else "",
            )
        old = getattr(default, key)
        if is_dataclass(old):
            if not isinstance(value, Mapping):
                raise _refused(f"{where}.{key} is not a table", expected="a table", seen=repr(value))
            changes[key] = _merge(old, value, f"{where}.{key}")
        else:
            changes[key] = _number(old, value, f"{where}.{key}")
    return replace(default, **changes)  # type: ignore[type-var]


def _number(default: float, value: Any, where: str) -> float:
    """``value`` as the type of ``default``; an integer may stand for a real number, nothing else may change type."""
    kind = type(default)
    allowed = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or not math.isfinite(value):
        raise _refused(f"{where} has the wrong type", expected=f"a finite {kind.__name__}", seen=repr(value))
    return kind(value)


def _refused(what: str, **parts: str) -> CapabilityError:
    return CapabilityError(what, device="mock", action="read its parameters", **parts)

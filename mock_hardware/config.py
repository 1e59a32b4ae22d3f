"""Parameters of the mock bench: frozen, range-checked, read from the plain table ``[mock]`` of the station file.

Every effect beyond the plain bench is off by default: a zero means that it is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from drivers.options import Checked, merge, option, refused
from mock_hardware.faults import Fault, parse_faults


@dataclass(frozen=True)
class PanelConfig(Checked):
    """A panel of gray levels and where its image lies on the sensor.

    Attributes
    ----------
    rows, cols
        Pixels.
    levels
        Gray levels ``0 … levels − 1``.
    gamma, s_shape, floor
        Response ``T(g) = floor + (1 − floor) S(d^gamma)`` with ``d = g / (levels − 1)`` and
        ``S(v) = (1 − s_shape) v + s_shape sin²(π v / 2)``; ``floor`` is one over the extinction ratio. The sin² is the
        S-shaped curve of a liquid-crystal cell between crossed polarisers, whose retardance is π v
        (B. E. A. Saleh, M. C. Teich, Fundamentals of Photonics, 3rd ed., § 21.3).
    retardance
        Of that cell at full drive, over π; ``sin²(π retardance v / 2)`` above. Beyond 1 the curve is folded: it passes
        its brightest level and becomes darker again, as with a phase panel driven past 2π between polarisers [1].
    fringing
        Share of a pixel's drive that is the mean of its four neighbours', by the fringing field between electrodes.
    uniformity_rms
        Pixel-to-pixel spread of the transmission, relative [1].
    dead_fraction, stuck_fraction
        Pixels that always show the lowest, or the highest level.
    flicker_depth, flicker_hz
        The transmission is multiplied by ``1 − depth sin²(π f t)``, the response to an alternating drive [1], [Hz].
    refresh_hz
        A frame takes effect at the first tick of this clock at or after ``show`` [Hz].
    tau_s, fall_ratio
        Time constant of the liquid crystal towards bright [s]; towards dark it is ``fall_ratio`` times that.
    magnification, rotation_deg
        Camera pixels per panel pixel; rotation from the x axis towards the y axis (clockwise on the image) [deg].
    offset_x_px, offset_y_px
        Where the panel's centre falls, from the sensor's centre [camera pixels].
    keystone_x, keystone_y
        Relative change of magnification from the panel's centre to its right and to its lower edge: a tilted panel.
    mirrored
        Its image on the sensor is mirrored, left for right, before it is rotated; rotated by 180° as well, it is
        mirrored top for bottom.
    inverted
        Its brightest level is dark and its darkest bright, as with a polariser turned by 90°.
    elsewhere
        Its frames go to another monitor: the panel in the beam stays uniformly gray, whatever is shown.
    """

    rows: int = option(1, 8192)
    cols: int = option(1, 8192)
    levels: int = option(2, 65536)
    gamma: float = option(0.1, 10)
    floor: float = option(0, 1)
    refresh_hz: float = option(1, 1e5)
    tau_s: float = option(1e-7, 10)
    magnification: float = option(0.05, 20)
    rotation_deg: float = option(-180, 180)
    offset_x_px: float = option(-1e4, 1e4)
    offset_y_px: float = option(-1e4, 1e4)
    s_shape: float = option(0, 1, 0.0)
    retardance: float = option(0.2, 4, 1.0)
    fringing: float = option(0, 0.8, 0.0)
    uniformity_rms: float = option(0, 0.2, 0.0)
    dead_fraction: float = option(0, 0.1, 0.0)
    stuck_fraction: float = option(0, 0.1, 0.0)
    flicker_depth: float = option(0, 1, 0.0)
    flicker_hz: float = option(0.01, 1e5, 120.0)
    fall_ratio: float = option(0.05, 20, 1.0)
    keystone_x: float = option(-0.2, 0.2, 0.0)
    keystone_y: float = option(-0.2, 0.2, 0.0)
    mirrored: bool = False
    inverted: bool = False
    elsewhere: bool = False


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
class SourceConfig(Checked):
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

    power_mw: float = option(0, 1e4, 1.0)
    peak_electrons: float = option(0, 1e6, 250.0)
    rin_rms: float = option(0, 0.5, 0.0005)


@dataclass(frozen=True)
class OpticsConfig(Checked):
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
    camera_psf_growth_px2
        What its variance along each axis grows by, from the sensor's centre to its corners, as the square of the
        distance [camera pixels²].
    distortion
        Radial distortion of the relay: where the sensor sees a point at distance r from its centre, an ideal lens
        would put it at ``r (1 + distortion (r/R)²)``, R half the sensor's diagonal. Positive is barrel.
    row_sum_px
        Width (standard deviation) of the line into which a cylinder lens sums every row, at the sensor's centre
        column [camera pixels]; 0 without the lens, and the camera sums.
    stray_fraction
        Light of the source that goes round the modulators, uniform, of ``peak_electrons`` [1].
    ambient_e_per_s
        Light of the room, there with the source off [e-/s per camera pixel].
    """

    beam_radius_px: float = option(1, 1e6, 1940.0)
    beam_offset_x_px: float = option(-1e4, 1e4, 35.0)
    beam_offset_y_px: float = option(-1e4, 1e4, -20.0)
    display_psf_px: float = option(0, 20, 0.6)
    camera_psf_px: float = option(0, 20, 0.8)
    camera_psf_growth_px2: float = option(0, 0.45, 0.0)
    distortion: float = option(-0.1, 0.1, 0.0)
    row_sum_px: float = option(0, 100, 0.0)
    stray_fraction: float = option(0, 1, 0.002)
    ambient_e_per_s: float = option(0, 1e7, 20.0)


@dataclass(frozen=True)
class DriftConfig(Checked):
    """What changes slowly, and what changes once.

    Attributes
    ----------
    power_walk_per_sqrt_s
        Random walk of the power: its standard deviation after one second [1/√s].
    power_flicker_rms
        1/f noise of the power between 1 mHz and 1 Hz [1].
    pointing_walk_px_per_sqrt_s
        Random walk of the image on the sensor, along each axis [camera pixels/√s].
    knock_at_s
        When someone knocks the bench [s of device time].
    knock_x_px, knock_y_px
        What that moves the image on the sensor by: the last mirror has turned [camera pixels].
    knock_display_x_px, knock_display_y_px
        What it moves the display's image by, seen on the sensor, against the SLM's [camera pixels].
    """

    power_walk_per_sqrt_s: float = option(0, 0.1, 0.0)
    power_flicker_rms: float = option(0, 0.2, 0.0)
    pointing_walk_px_per_sqrt_s: float = option(0, 10, 0.0)
    knock_at_s: float = option(0, 1e9, 0.0)
    knock_x_px: float = option(-100, 100, 0.0)
    knock_y_px: float = option(-100, 100, 0.0)
    knock_display_x_px: float = option(-100, 100, 0.0)
    knock_display_y_px: float = option(-100, 100, 0.0)


@dataclass(frozen=True)
class CameraConfig(Checked):
    """A camera in the terms of EMVA 1288 (release 4.0).

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
    row_noise_e
        rms of an offset that each row draws anew in each frame [e-].
    prnu
        Photo-response non-uniformity: spread of the pixels' responsivity, relative [1].
    dsnu_e
        Dark-signal non-uniformity: spread of the pixels' offsets [e-].
    full_well_e
        Electrons a pixel holds [e-]; the default is where the converter saturates.
    nonlinearity
        Part of the signal n that is missing at full well: ``n (1 − nonlinearity (n / full_well)³)``.
    black_level_dn
        Mean signal without electrons [DN].
    dark_current_e_per_s
        Per pixel at 20 °C [e-/s].
    temperature_c, doubling_c
        Of the sensor [°C]; what doubles the dark current [°C].
    hot_fraction, hot_e_per_s
        Hot pixels, and their dark current at 20 °C, exponentially distributed about this mean [e-/s].
    exposure_s
        Exposure at opening [s].
    exposure_min_s, exposure_max_s
        Its limits [s].
    max_fps
        Frame period is the longer of the exposure and ``1 / max_fps`` [Hz].
    row_time_s
        Rolling shutter: each row starts this much later than the one above it [s]; 0 is a global shutter.
    mirrored, upside_down
        It reads its rows from right to left, or looks into a mirror; it reads them from the last to the first.
    turned_deg
        By how much it is turned in its mount: the picture on it turns by as much, clockwise, about the sensor's
        centre, before it is mirrored; 180 is a camera hung from the ceiling [deg].
    clips_at_dn
        Where it saturates without saying so, below what ``bit_depth`` promises; 0 for nowhere [DN].
    shift_bits
        By how many bits its numbers are moved to the left in their words, though it declares ``bit_depth`` [bit].
    """

    rows: int = option(1, 8192, 1100)
    cols: int = option(1, 8192, 1380)
    bit_depth: int = option(8, 16, 12)
    quantum_efficiency: float = option(0.01, 1, 0.6)
    gain_dn_per_e: float = option(1e-3, 1e3, 4.0)
    read_noise_e: float = option(0, 1e3, 2.0)
    row_noise_e: float = option(0, 1e3, 0.0)
    prnu: float = option(0, 0.2, 0.0)
    dsnu_e: float = option(0, 1e4, 0.0)
    full_well_e: float = option(1, 1e6, 1000.0)
    nonlinearity: float = option(0, 0.2, 0.0)
    black_level_dn: float = option(0, 1e4, 100.0)
    dark_current_e_per_s: float = option(0, 1e6, 10.0)
    temperature_c: float = option(-100, 100, 20.0)
    doubling_c: float = option(1, 50, 7.0)
    hot_fraction: float = option(0, 0.1, 0.0)
    hot_e_per_s: float = option(0, 1e7, 0.0)
    exposure_s: float = option(1e-6, 100, 0.010)
    exposure_min_s: float = option(1e-6, 100, 1e-5)
    exposure_max_s: float = option(1e-6, 100, 1.0)
    max_fps: float = option(0.1, 1e5, 60.0)
    row_time_s: float = option(0, 1e-3, 0.0)
    mirrored: bool = False
    upside_down: bool = False
    turned_deg: float = option(-360, 360, 0.0)
    clips_at_dn: int = option(0, 65535, 0)
    shift_bits: int = option(0, 8, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        full_scale = 2**self.bit_depth - 1
        for name, value, low, high in (
            ("black_level_dn", self.black_level_dn, 0, full_scale),
            ("exposure_max_s", self.exposure_max_s, self.exposure_min_s, 100),
            ("shift_bits", self.shift_bits, 0, 16 - self.bit_depth),
        ):
            if not low <= value <= high:
                raise refused(f"mock.camera.{name} is out of range", expected=f"{low:g} … {high:g}", seen=f"{value:g}")

    @property
    def dark_doublings(self) -> float:
        """How much more dark current than at 20 °C [1]."""
        return float(2.0 ** ((self.temperature_c - 20.0) / self.doubling_c))


@dataclass(frozen=True)
class BenchConfig(Checked):
    """The whole bench.

    Attributes
    ----------
    seed
        From which all its noise is drawn: the same seed and the same calls give the same frames, bit for bit.
    threads
        How many threads compute frames; the frames do not depend on it.
    slm, display, source, optics, drift, camera
        Parameters of its parts.
    faults
        The fault script: what goes wrong, and at which frame.
    """

    seed: int = option(0, 2**63 - 1, 1)
    threads: int = option(1, 64, 2)
    slm: PanelConfig = SLM
    display: PanelConfig = DISPLAY
    source: SourceConfig = field(default_factory=SourceConfig)
    optics: OpticsConfig = field(default_factory=OpticsConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    camera: CameraConfig = field(default_factory=CameraConfig)
    faults: tuple[Fault, ...] = ()


def parse(table: Mapping[str, Any]) -> BenchConfig:
    """The bench that ``table`` describes; what it does not name keeps its default.

    Raises
    ------
    OptionError
        For a key that does not exist, a value of another type, or one out of range.
    """
    numbers = {key: value for key, value in table.items() if key != "faults"}
    config = merge(BenchConfig(), numbers, "mock")
    return replace(config, faults=parse_faults(table.get("faults", ()), "mock.faults"))

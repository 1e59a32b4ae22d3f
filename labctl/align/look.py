"""What the camera sees of the panels, measured with nothing known beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.bench.focus import Focus, focus
from calibration.bench.hot import HotPixels
from calibration.bench.stripes import Located, Seen, lit_share, locate, stripes, told_apart
from calibration.bench.timing import BEFORE, Step, StepFit, fit_step
from calibration.errors import CalibrationError
from drivers.errors import CapabilityError, DeviceError
from drivers.protocols import FrameBlock, Modulator, Roi
from labctl.bench.bench import Bench
from labctl.bench.interlocks import require_closed

Float = NDArray[np.float64]
Levels = NDArray[np.integer[Any]]

NAMES = {"slm": "SLM", "display": "display"}
"""As people call the panels."""
PANELS = tuple(NAMES)
TARGET, LOW, HIGH = 0.7, 0.25, 0.9
"""Of the converter's range: where the brightest pixels are put, and where they may stay."""
EXPOSURE_MAX_S = 1.0
FAINT = 0.15
"""Signal, as a part of the range, below which sharpness is not judged."""
BLUR_MIN_PX = 0.2
TRIES = 8
TOP = 0.001
"""Share of the pixels that count as the brightest."""
SEEN_SIGMAS = 6.0
SETTLE_FRAMES_MIN = 12
AVERAGED = 2
AFTER_FRAMES, AFTER_FRAMES_MAX, WINDOW_PX = 14, 500, 128
STEPS = 3
SATURATED = 0.99
STEADY_FRAMES = 8
SAME_LIGHT = 0.5, 2.0
"""Between which factors a drift of the light is taken off."""


@dataclass(frozen=True)
class Light:
    """How bright it is.

    Attributes
    ----------
    full_scale_dn
        The most that the camera reads [DN].
    asked_s, exposure_s
        Exposure of the station file, and the one at which the brightest pixels are well inside the range [s].
    asked_peak, peak
        Brightest pixels, dark level included, as a part of the range, at these two exposures [1].
    dark
        Median with the source off, as a part of the range, at ``exposure_s`` [1].
    signal_sigmas
        Brightest pixels over the dark level in standard deviations of a pixel's dark noise [1].
    unsteady
        Standard deviation of the light from frame to frame while nothing is shown anew, relative [1].
    """

    full_scale_dn: int
    asked_s: float
    exposure_s: float
    asked_peak: float
    peak: float
    dark: float
    signal_sigmas: float
    unsteady: float = 0.0

    @property
    def is_seen(self) -> bool:
        """Whether any light of the source reaches the camera."""
        return self.signal_sigmas > SEEN_SIGMAS

    @property
    def fits(self) -> bool:
        """Whether the exposure of the station file is fine."""
        return LOW <= self.asked_peak <= HIGH

    @property
    def is_saturated(self) -> bool:
        """Whether the picture is saturated at `exposure_s`, too: then it shows where things are, and no more."""
        return self.peak > SATURATED


@dataclass(frozen=True)
class PanelView:
    """One panel as the camera sees it.

    Attributes
    ----------
    shape
        (rows, columns) [px].
    responds
        Whether the camera sees it change.
    told
        Along which axes of the panel stripes are told apart: of ``"x"`` and ``"y"``.
    lit
        Part of its area on the sensor that the camera sees change [1].
    inverted
        Whether its highest level is its darkest.
    ratio
        Bright over dark in the pixels that see it change, dark signal subtracted; infinite where dark is within noise.
    located, focus
        Where and how sharp it is; None where that could not be found out.
    settling
        Rises and falls of a step, each measured several times; None where it could not be measured.
    refresh_hz
        As the driver says [Hz].
    """

    shape: tuple[int, int]
    responds: bool
    inverted: bool
    ratio: float
    located: Located | None
    focus: Focus | None
    settling: tuple[Sequence[StepFit], Sequence[StepFit]] | None
    refresh_hz: float
    told: str = ""
    lit: float = 1.0

    def settle_frames(self, share: float) -> int:
        """Frames to let pass until less than ``share`` of a step is left, by the step of each kind that tells most."""
        return max(fit.settle_frames(share, 1 / self.refresh_hz) for fit in self._telling)

    @property
    def slowest(self) -> StepFit:
        """Of a rise and a fall that tell most, the one that may take the longer."""
        return max(self._telling, key=lambda fit: fit.tau_range_s[1])

    @property
    def _telling(self) -> list[StepFit]:
        assert self.settling is not None
        return [min(fits, key=lambda fit: fit.tau_range_s[1] - fit.tau_range_s[0]) for fits in self.settling]


@dataclass(frozen=True)
class View:
    """Everything that was seen.

    Attributes
    ----------
    light
        How bright it is.
    panels
        By role; empty where there is no light.
    picture : (H, W)
        Both panels bright, dark signal subtracted [DN].
    """

    light: Light
    panels: Mapping[str, PanelView]
    picture: Float

    @property
    def blurs_px(self) -> dict[str, float]:
        """Blur of the SLM on the camera, and of the display on the SLM, both in SLM pixels; empty where unknown.

        The display is seen through both: of its blur, what the SLM shows of the camera's own is taken off. It is not
        known in a picture so dark that noise widens the edges, or in a saturated one.
        """
        seen = [self.panels[name] for name in PANELS if name in self.panels]
        slm, display = seen if len(seen) == len(PANELS) else (None, None)
        if not (slm and display and slm.focus and display.focus and slm.located and display.located):
            return {}
        if self.light.is_saturated or self.light.peak - self.light.dark < FAINT:
            return {}
        whole = display.focus.blur_px * display.located.magnification / slm.located.magnification
        own = math.sqrt(max(whole**2 - slm.focus.blur_px**2, BLUR_MIN_PX**2))
        return {"slm": slm.focus.blur_px, "display": own}


class Looker:
    """Shows pictures and averages settled frames on an open bench.

    Parameters
    ----------
    bench
        Open.
    timeout_s
        Longest wait for frames beyond their exposures [s].
    beat
        Called after each picture.
    """

    def __init__(self, bench: Bench, timeout_s: float, beat: Callable[[], None]) -> None:
        self.bench, self._timeout_s, self._beat = bench, timeout_s, beat
        self.camera = bench.camera
        self._panels: dict[str, Modulator] = {"slm": bench.slm, "display": bench.display}
        rows, columns = self.camera.shape
        self._whole = Roi(0, 0, columns, rows)
        self.hot = HotPixels.none()

    def panel(self, name: str) -> Modulator:
        """The panel of a role."""
        return self._panels[name]

    def show(self, name: str, bright: NDArray[np.bool_] | bool) -> None:
        """Show the highest level where ``bright``, and level 0 elsewhere."""
        panel = self._panels[name]
        kind = np.uint8 if panel.levels <= 256 else np.uint16
        mask = np.broadcast_to(np.asarray(bright), panel.shape)
        panel.show(np.where(mask, panel.levels - 1, 0).astype(kind))

    def frame(self, n: int = AVERAGED) -> Float:
        """(H, W) mean of ``n`` settled frames of the whole sensor [DN]."""
        if self.camera.roi != self._whole:
            self.camera.roi = self._whole
        frames = self.fetch(n, self.settle_frames).frames
        self._beat()
        return self.hot.mended(np.asarray(frames.mean(axis=0, dtype=np.float64)))

    def next_frame(self) -> Float:
        """(H, W) the next frame, with what was shown already [DN]."""
        return self.hot.mended(np.asarray(self.fetch(1).frames[0], np.float64))

    @property
    def settle_frames(self) -> int:
        """Frames in which both panels certainly come to rest, at the present exposure."""
        settle_s = 3 * max(panel.settle_s for panel in self._panels.values())
        return max(math.ceil(settle_s / self.camera.frame_period_s), SETTLE_FRAMES_MIN)

    def fetch(self, n: int, skip: int = 0) -> FrameBlock:
        """``n`` frames after ``skip`` others; none while an interlock is open."""
        require_closed(self.bench.interlocks)
        self.camera.arm(n, skip)
        return self.camera.fetch(self._timeout_s + 2 * (n + skip) * self.camera.frame_period_s)


def look(bench: Bench, exposure_s: float, timeout_s: float, beat: Callable[[], None]) -> View:
    """Measure light, places, sharpness and settling; the source is off afterwards.

    Parameters
    ----------
    bench
        Open; its interlocks are asked before there is light, and before each picture.
    exposure_s
        Of the station file [s].
    timeout_s
        As for `Looker`.
    beat
        Called after each picture: there are about a hundred.
    """
    require_closed(bench.interlocks)
    looker = Looker(bench, timeout_s, beat)
    try:
        light, dark, picture = _light(looker, exposure_s)
        panels = {name: _panel(looker, name, light, dark) for name in PANELS} if light.is_seen else {}
    except BaseException:
        with suppress(DeviceError):  # what failed first is what is told; closing the bench says whether it is dark
            bench.source.off()
        raise
    bench.source.off()
    return View(light, panels, picture)


def _light(looker: Looker, asked_s: float) -> tuple[Light, Float, Float]:
    """The exposure, the dark frame there, and the picture of both panels at their brightest [DN]."""
    bench, camera = looker.bench, looker.camera
    full_scale = 2**camera.bit_depth - 1
    camera.exposure_s = asked_s
    asked_s = camera.exposure_s
    looker.hot = HotPixels.of(looker.frame(1), full_scale)
    bench.source.on()
    brightest, asked_peak = (True, True), -1.0
    for slm in (True, False):
        for display in (True, False):
            looker.show("slm", slm)
            looker.show("display", display)
            if (peak := _top(looker.frame(1)) / full_scale) > asked_peak + 0.01:
                brightest, asked_peak = (slm, display), peak
    shown = dict(zip(PANELS, brightest, strict=True))
    for name, bright in shown.items():
        looker.show(name, bright)
    peak = asked_peak if LOW <= asked_peak <= HIGH else _adjust(looker, full_scale, asked_peak)
    single = [looker.frame(1), *(looker.next_frame() for _ in range(STEADY_FRAMES - 1))]
    picture = np.asarray(np.mean(single[:AVERAGED], axis=0))
    bench.source.off()
    for name, bright in shown.items():
        looker.show(name, not bright)
    noise = np.stack([looker.frame(1) for _ in range(2)])
    bench.source.on()
    for name, bright in shown.items():
        looker.show(name, bright)
    dark = noise.mean(axis=0)
    noise_dn = max(float(np.std(noise[1] - noise[0])) / math.sqrt(2), 0.3)  # 0.3: of rounding to whole counts
    signal = picture - dark
    sigmas = _top(signal) / noise_dn * math.sqrt(AVERAGED)
    bright = signal >= 0.5 * _top(signal)
    totals = np.array([float((one - dark)[bright].sum()) for one in single])
    light = Light(
        full_scale,
        asked_s,
        camera.exposure_s,
        asked_peak,
        peak,
        float(np.median(dark)) / full_scale,
        float(sigmas),
        math.sqrt(max(float(totals.var(ddof=1)) - noise_dn**2 * float(bright.sum()), 0.0)) / max(totals.mean(), 1e-300),
    )
    return light, dark, signal


def _adjust(looker: Looker, full_scale: int, peak: float) -> float:
    """Find an exposure at which the brightest pixels are well inside the range; returns them, as a part of it."""
    camera = looker.camera
    for _ in range(TRIES):
        if abs(peak - TARGET) < HIGH - TARGET:
            break
        factor = 0.2 if peak >= SATURATED else min(TARGET / max(peak, 0.02), 10.0)
        if not _expose(looker, factor):
            break
        peak = _top(looker.frame(1)) / full_scale
        if camera.exposure_s >= EXPOSURE_MAX_S and peak < TARGET:
            break
    return peak


def _expose(looker: Looker, factor: float) -> bool:
    """Change the exposure by a factor, or as far towards that as the camera goes; says whether it has changed."""
    before = looker.camera.exposure_s
    for share in (1.0, 0.5, 0.25, 0.125):
        try:
            looker.camera.exposure_s = float(f"{min(before * factor**share, EXPOSURE_MAX_S):.4g}")
        except CapabilityError:
            continue
        return looker.camera.exposure_s != before
    return False


def _panel(looker: Looker, name: str, light: Light, dark: Float) -> PanelView:
    """One panel, the other one at its brightest as it was left."""
    panel = looker.panel(name)
    looker.show(name, False)
    low = looker.frame()
    looker.show(name, True)
    high = looker.frame()
    again = looker.frame()
    noise_dn = max(float(np.std(again - high)), 0.3)
    pictures = stripes(panel.shape)
    contrast = high - low
    lit = Seen(panel.shape, [], np.empty((0, *dark.shape)), contrast, noise_dn).lit
    responds = float(lit.mean()) > 0.001
    if not responds:
        return PanelView(panel.shape, False, False, 1.0, None, None, None, panel.refresh_hz)
    whole_dn = float((high + low - 2 * dark).sum())
    masks = (picture.mask(panel.shape) for picture in pictures)
    differences = np.stack([_difference(looker, name, mask, dark, whole_dn) for mask in masks])
    seen = Seen(panel.shape, pictures, differences, contrast, noise_dn)
    located = locate(seen)
    inverted = float(np.median(contrast[lit])) < 0
    bright, dim = (low, high) if inverted else (high, low)
    residue = float(np.median((dim - dark)[lit]))
    ratio = float(np.median((bright - dark)[lit])) / residue if residue > noise_dn / math.sqrt(lit.sum()) else math.inf
    settling = None if light.is_saturated else _settling(looker, name, seen)
    looker.show(name, not inverted)
    sharp = focus(seen, located) if located else None
    share = lit_share(seen, located) if located else 1.0
    return PanelView(
        panel.shape, True, inverted, ratio, located, sharp, settling, panel.refresh_hz, told_apart(seen), share
    )


def _difference(looker: Looker, name: str, mask: NDArray[np.bool_], dark: Float, whole_dn: float) -> Float:
    """Frame of a picture minus frame of its negative, for a light that makes ``whole_dn`` of both together [DN]."""
    looker.show(name, mask)
    positive = looker.frame()
    looker.show(name, ~mask)
    negative = looker.frame()
    light_dn = max(float((positive + negative - 2 * dark).sum()), 1e-300)
    return (positive - negative) * float(np.clip(whole_dn / light_dn, *SAME_LIGHT))


def _settling(looker: Looker, name: str, seen: Seen) -> tuple[Sequence[StepFit], Sequence[StepFit]] | None:
    """Rises and falls of the light where the panel is seen, frame by frame; None where it does not follow."""
    camera = looker.camera
    rows, columns = np.nonzero(seen.lit)
    height, width = (min(WINDOW_PX, size) for size in camera.shape)
    y = int(np.clip(np.median(rows) - height // 2, 0, camera.shape[0] - height))
    x = int(np.clip(np.median(columns) - width // 2, 0, camera.shape[1] - width))
    looker.show(name, False)
    looker.frame(1)
    camera.roi = Roi(x, y, width, height)
    try:
        pairs = [[fit_step(step, name) for step in _steps(looker, name)] for _ in range(STEPS)]
    except CalibrationError:
        return None
    return [rise for rise, _ in pairs], [fall for _, fall in pairs]


def _steps(looker: Looker, name: str) -> Iterator[Step]:
    panel, period_s = looker.panel(name), looker.camera.frame_period_s
    frames = math.ceil(1.5 * (panel.settle_s + 1 / panel.refresh_hz) / period_s)  # the last third must be at rest
    frames = min(max(frames, AFTER_FRAMES), AFTER_FRAMES_MAX)
    for bright in (True, False):
        before = looker.fetch(BEFORE, looker.settle_frames).frames
        looker.show(name, bright)
        after = looker.fetch(frames).frames
        light = np.concatenate([before, after]).sum(axis=(1, 2), dtype=np.float64)
        yield Step(np.asarray(light, np.float64), looker.camera.exposure_s, looker.camera.frame_period_s)


def _top(frame: Float) -> float:
    """What the brightest pixels read, single hot ones aside [DN]."""
    return float(np.quantile(frame, 1 - TOP))

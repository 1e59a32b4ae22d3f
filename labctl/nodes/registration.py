"""Node *registration*: where the panels' pixels lie on the camera, and so where the camera reads each output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.bench.dark import Dark
from calibration.bench.focus import leak
from calibration.bench.regions import Regions, camera_regions
from calibration.bench.registration import (
    DOT_PX,
    SQUARE_PX,
    between,
    draw,
    edge_blur,
    grid_centres,
    place_noise_px,
    register,
    require_unclipped,
    square_centres,
    through_lens,
)
from calibration.errors import BadScan
from calibration.machine.layout import Layout
from calibration.machine.registration import STRAIGHT_DEG, UPRIGHT, Pose, Registration
from labctl.bench.steps import Exposure, Place, Step, WholeFrames
from labctl.nodes.dark import DARK_NODE
from labctl.nodes.evidence import FIDUCIALS, Evidence, Fiducials
from labctl.nodes.node import HARDWARE, Node, Results, Setting, Titled
from labctl.nodes.saturation import allowing_for
from labctl.nodes.timing import TIMING_NODE
from labctl.station.model import Limits, Station
from labctl.summary import Metric

Float = NDArray[np.float64]

GRID_FRAMES = 4
LUT_ROWS = 32
PANELS = ("slm", "display")
LEAK_MAX = 0.5
"""Of a macropixel's light, along one axis: with more of it elsewhere no gain map tells macropixels apart."""


@dataclass(frozen=True)
class Geometry:
    """Where things are: what must be known before numbers can be shown.

    Attributes
    ----------
    layout
        `Layout`
    registrations
        Of ``display`` and ``slm``.
    regions
        Camera regions of the layout's rows.
    display_index
        `Layout.display_index`
    dark
        `Dark`
    """

    layout: Layout
    registrations: dict[str, Registration]
    regions: Regions
    display_index: NDArray[np.intp]
    dark: Dark

    @property
    def dark_dn(self) -> Float:
        """(M,) dark signal of each region [DN]."""
        return self._dark_of(self.regions)

    @property
    def dark_stderr_dn(self) -> Float:
        """(M,) standard error of `dark_dn` [DN]."""
        return self.dark.noise_dn * np.sqrt(self.regions.area2_px / self.dark.frames)

    @property
    def column_edges_px(self) -> Float:
        """`Layout.column_edges`"""
        return self.layout.column_edges(
            self.display_index, between(self.registrations["display"], self.registrations["slm"])
        )

    def tolerant(self, limits: Limits) -> Limits:
        """The limits, with as many saturated pixels besides as count in no region."""
        return allowing_for(self.dark.useless, self.regions.window, limits)

    @property
    def place(self) -> Place:
        """Where products are shown and read."""
        return Place(self.layout, self.regions, self.display_index)

    @property
    def lut_regions(self) -> Regions:
        """The bands in the middle that the ramps are read from: fewer pixels, the same source noise."""
        return self.regions.central(LUT_ROWS)

    @property
    def lut_dark_dn(self) -> Float:
        """(rows,) dark signal of `lut_regions` [DN]."""
        return self._dark_of(self.lut_regions)

    def _dark_of(self, regions: Regions) -> Float:
        x, y, width, height = regions.window
        return np.asarray(regions.weights @ self.dark.mean_dn[y : y + height, x : x + width].ravel())


def layout_of(station: Station, slm_shape: tuple[int, int]) -> Layout:
    """The station's layout on an SLM of that shape."""
    t = station.layout
    return Layout(
        slm_shape, t.rows, t.columns, t.pitch_rows_px, t.pitch_columns_px, t.active_rows_px, t.active_columns_px
    )


class RegistrationNode(Node[Geometry]):
    """Homographies, regions, and where the display's columns lie."""

    name = "registration"
    kind = FIDUCIALS
    parents = (DARK_NODE, TIMING_NODE)
    max_age_h = 24.0
    keys = (*HARDWARE, "limits.registration_residual_px_max")

    def steps(self, setting: Setting, results: Results) -> Iterator[Step]:
        return self._fiducials(setting, GRID_FRAMES)

    def missing(self, evidence: Evidence, setting: Setting) -> list[str]:
        return [f"fiducials of the {panel}" for panel in PANELS if panel not in evidence.fiducials]

    def analyse(self, evidence: Evidence, results: Results, setting: Setting, metrics: list[Metric]) -> Geometry:
        dark, limit_px = results[DARK_NODE], setting.station.limits.registration_residual_px_max
        for fiducials in evidence.fiducials.values():
            for square in fiducials.squares:
                require_unclipped(square, evidence.full_scale_dn)
        found = _registered(evidence.fiducials, dark)
        for panel, registration in found.items():
            words = _scatter(registration, *_grid(evidence.fiducials[panel], dark))
            name = f"registration_{panel}_rms"
            metrics.append(Metric.judge(name, registration.rms_px, "px", maximum=limit_px, words=words))
        layout = layout_of(setting.station, evidence.fiducials["slm"].panel_shape)
        for panel, registration in found.items():
            metrics += [_pose(registration, evidence), _focus(panel, evidence.fiducials[panel], registration, layout)]
        slm = found["slm"]
        regions = camera_regions(layout, slm.panel_to_camera, dark.mean_dn.shape, lens=slm.lens, useless=dark.useless)
        index = layout.display_index(evidence.fiducials["display"].panel_shape, between(found["display"], found["slm"]))
        return Geometry(layout, found, regions, index, dark)

    def check_steps(self, setting: Setting, results: Results) -> Iterator[Step]:
        return self._fiducials(setting, 1)

    def check(self, readings: Evidence, evidence: Evidence, results: Results, setting: Setting) -> list[Metric]:
        """No corner of the layout may have moved by more than a registration may be wrong."""
        geometry, limit_px = results[self], setting.station.limits.registration_residual_px_max
        metrics = []
        for panel, now in _registered(readings.fiducials, geometry.dark).items():
            then = geometry.registrations[panel]
            rows, columns = readings.fiducials[panel].panel_shape
            x, y = np.array([0.25, 0.75, 0.75, 0.25]) * columns, np.array([0.25, 0.25, 0.75, 0.75]) * rows
            places = (np.stack(r.to_camera(x, y)) for r in (now, then))
            moved_px = float(np.hypot(*np.subtract(*places)).max())
            words = _turned_over(panel, *(Pose.of(r.panel_to_camera, (rows, columns)) for r in (now, then)))
            metrics.append(Metric.judge(f"{panel}_moved", moved_px, "px", maximum=limit_px, words=words))
        return metrics

    def _fiducials(self, setting: Setting, grid_frames: int) -> Iterator[Step]:
        """Background, three squares and the grid on one panel, the other panel bright."""
        facts = setting.facts
        assert facts is not None
        shapes = {"slm": facts.slm_shape, "display": facts.display_shape}
        for panel in PANELS:
            shape = shapes[panel]
            (other,) = (facts.uniform(name, facts.bright(name)) for name in PANELS if name != panel)
            bright = facts.bright(panel)
            drawn = [facts.uniform(panel, 0)]
            drawn += [draw(shape, centre[None], SQUARE_PX, bright) for centre in square_centres(shape)]
            drawn.append(draw(shape, grid_centres(shape), DOT_PX, bright))
            counts = [1] * (len(drawn) - 1) + [grid_frames]
            pairs = [(other, mine) if panel == "slm" else (mine, other) for mine in drawn]
            yield WholeFrames(
                kind=FIDUCIALS,
                attrs={"panel": panel, "panel_rows": shape[0], "panel_columns": shape[1]},
                exposures=tuple(Exposure(*pair, n) for pair, n in zip(pairs, counts, strict=True)),
            )

    def figures(self, evidence: Evidence, results: Results, setting: Setting) -> Iterator[Titled]:
        from labctl.nodes import figures

        yield Titled(
            "Registration",
            "Dots shown on each panel, found on the camera. Arrows show what the map misses, enlarged."
            + _unusual(results[self].registrations, evidence),
            figures.registration(results[self].layout, results[self].registrations, evidence),
        )


def _pose(registration: Registration, evidence: Evidence) -> Metric:
    """By how much a panel's picture is turned on the camera, and in words what is unusual about it."""
    panel = registration.panel
    pose = Pose.of(registration.panel_to_camera, evidence.fiducials[panel].panel_shape)
    words = "" if pose.in_words == UPRIGHT else f"the camera sees the {panel} {pose.in_words}: the calibration follows"
    return Metric(name=f"{panel}_turned", value=pose.turned_deg, unit="deg", words=words)


def _unusual(registrations: Mapping[str, Registration], evidence: Evidence) -> str:
    """What `_pose` says of both panels, as sentences; nothing of panels that stand upright."""
    said = (_pose(registration, evidence).words for registration in registrations.values())
    return "".join(f" {words[:1].upper()}{words[1:]}." for words in said if words)


def _turned_over(panel: str, now: Pose, then: Pose) -> str:
    """What to say of a panel that is mirrored or turned since it was registered; nothing of one that is not."""
    if now.mirrored == then.mirrored and abs(now.turned_from(then)) < STRAIGHT_DEG:
        return ""
    return (
        f"the camera sees the {panel} {now.in_words}, and {then.in_words} when it was registered: somebody has turned "
        "something, or a driver mirrors now; undo that, or calibrate again from the registration on"
    )


def _registered(fiducials: Mapping[str, Fiducials], dark: Dark) -> dict[str, Registration]:
    """Each panel that has fiducials, seen through the lens that all of them need."""
    found = {}
    for panel, f in fiducials.items():
        squares = f.squares.astype(np.float64) - f.background
        found[panel] = register(panel, f.panel_shape, squares, *_grid(f, dark))
    return through_lens(found, dark.mean_dn.shape)


def _grid(fiducials: Fiducials, dark: Dark) -> tuple[Float, float]:
    """The dots, background subtracted, and the noise of one pixel of them [DN]."""
    grid = fiducials.grid.mean(axis=0, dtype=np.float64) - fiducials.background.astype(np.float64)
    return grid, float(dark.noise_dn * np.sqrt(1 + 1 / len(fiducials.grid)))


def _scatter(registration: Registration, grid: Float, noise_dn: float) -> str:
    """Why dots lie beside their map, in words: noise, where it makes more than half of it, or else the bench."""
    by_noise_px = place_noise_px(registration, grid, noise_dn)
    if 2 * by_noise_px**2 > registration.rms_px**2:
        return (
            f"too little light: noise alone places a dot to {by_noise_px:.2g} px; "
            "raise acquisition.exposure_s or the source"
        )
    return (
        f"noise places a dot to {by_noise_px:.2g} px: look for reflections, for a panel that is not flat, and for what "
        "moved between the frames: labctl align"
    )


def _focus(panel: str, fiducials: Fiducials, registration: Registration, layout: Layout) -> Metric:
    """Blur of a panel on the camera.

    Raises
    ------
    BadScan
        When most of a macropixel's light falls beyond its own pitch.
    """
    sharpest = min(edge_blur(square - fiducials.background.astype(np.float64)) for square in fiducials.squares)
    scale = float(np.sqrt(abs(np.linalg.det(registration.panel_to_camera[:2, :2]))))
    size = (layout.pitch_rows_px, layout.active_rows_px), (layout.pitch_columns_px, layout.active_columns_px)
    lost = max(leak(pitch, active, max(sharpest / scale, 1e-3)) for pitch, active in size)
    if lost > LEAK_MAX:
        raise BadScan(
            f"the {panel} is out of focus: a macropixel keeps {1 - lost:.0%} of its light to itself",
            device=panel,
            action="registration",
            expected=f"{1 - LEAK_MAX:.0%} or more",
            seen=f"edges blurred by {sharpest:.1f} camera px (rms), {sharpest / scale:.1f} px of the {panel}",
            hint="focus the camera and the relay on the panels, or give [layout] larger macropixels: labctl align",
        )
    return Metric.judge(f"{panel}_blur", sharpest, "px")


REGISTRATION_NODE = RegistrationNode()

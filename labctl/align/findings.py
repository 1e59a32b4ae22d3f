"""What is right and what is wrong on the bench, in the words of somebody who stands beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from calibration.bench.focus import bleed, leak
from calibration.bench.stripes import FINEST_PX, Located
from calibration.errors import OutOfDomain
from labctl.align.look import FAINT, NAMES, Light, PanelView, View
from labctl.align.proposal import proposals
from labctl.nodes.registration import layout_of
from labctl.station.model import LayoutTable, Station

State = Literal["PASS", "WARN", "FAIL"]

LEAK_WARN, LEAK_FAIL = 0.05, 0.15
"""Part of a macropixel's light beyond its own pitch: couplings beyond nearest neighbours are not modelled."""
RATIO_WARN, RATIO_FAIL = 10.0, 2.0
DARK_WARN, DARK_FAIL = 0.2, 0.5
SQUARE_DEG = 20.0
STRAIGHT_DEG = 3.0
UNSTEADY_WARN, UNSTEADY_FAIL = 0.02, 0.1
"""Part by which the light changes from frame to frame; beyond a tenth no step of a panel can be told from it."""
SEEN_WARN, SEEN_FAIL = 0.98, 0.65
"""Part of a panel on the sensor: `labctl calibrate` looks for dots all over it, and needs three in five."""
LIT_WARN = 0.75
TAPER_WARN, TAPER_FAIL = 0.05, 0.1
"""Part of its size by which a panel's corner lies beside where a picture without keystone would have it."""
BENT_PX, BENT_TO_BLUR = 0.4, 0.35
"""Misfit of the map from which on lines count as bent [camera px], and that to the blur, which adds to it [1]."""
CELLS = 5
"""Stripes that number a panel need so many cells along each axis at least."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    about
        ``"light"``, ``"slm"``, ``"display"``.
    state
        PASS, WARN: it works, but look at it, or FAIL: a calibration would be worthless.
    name
        One word for programs: ``"mirrored"``.
    words
        What was seen.
    fix
        What to do; empty when there is nothing to do.
    """

    about: str
    state: State
    name: str
    words: str
    fix: str = ""


def findings(view: View, station: Station, accept_blur: bool = False) -> list[Finding]:
    """Everything there is to say, in the order in which a person would mend it.

    Parameters
    ----------
    view, station
        What was seen, and what the bench should be.
    accept_blur
        Whether a person has said that it is as sharp as it gets: then blur is no failure.
    """
    found = list(_of_light(view.light))
    for name, panel in view.panels.items():
        found += _of_panel(name, panel, view.light)
    if len(view.panels) == 2:
        found += _of_both(view.panels["slm"], view.panels["display"])
    found += _of_focus(view, station.layout, "WARN" if accept_blur else "FAIL")
    if "slm" in view.panels:
        found += _of_layout(view, station)
    return found


def _of_light(light: Light) -> Iterator[Finding]:
    if light.dark > DARK_WARN:
        state: State = "FAIL" if light.dark > DARK_FAIL else "WARN"
        yield Finding(
            "light",
            state,
            "stray-light",
            f"with the source off the camera still reads {light.dark:.0%} of its range",
            "close the enclosure; check that the source really goes dark",
        )
    if not light.is_seen:
        drowned = "the light of the source does not stand out from the stray light"
        nothing = f"no light reaches the camera, at {light.exposure_s:.4g} s exposure either"
        yield Finding(
            "light",
            "FAIL",
            "no-light",
            drowned if light.dark > DARK_WARN else nothing,
            "is the source on and its shutter open? is the lens cap off? do the polarisers let light through?",
        )
        return
    if light.asked_peak > 0.99:
        yield _exposure(light, "saturated", f"the picture is saturated at {light.asked_s:.4g} s exposure")
    elif light.asked_peak > 0.9:
        yield _exposure(light, "bright", f"the brightest pixels are at {light.asked_peak:.0%} of the range")
    elif not light.fits:
        yield _exposure(
            light,
            "dim",
            f"too dark at {light.asked_s:.4g} s exposure: the brightest are at {light.asked_peak:.0%} of full scale",
        )
    else:
        yield Finding(
            "light", "PASS", "exposure", f"the brightest pixels are at {light.peak:.0%} of the camera's range"
        )
    if light.unsteady > UNSTEADY_WARN and not light.is_saturated:
        yield Finding(
            "light",
            "FAIL" if light.unsteady > UNSTEADY_FAIL else "WARN",
            "unsteady",
            f"the light changes by {light.unsteady:.0%} from frame to frame, with nothing shown anew",
            "does the source or a panel flicker, or the room? an exposure of whole periods evens it out",
        )


def _exposure(light: Light, name: str, words: str) -> Finding:
    if 0.3 <= light.peak <= 0.95:
        return Finding(
            "light", "WARN", name, words, f"exposure_s = {light.exposure_s:.4g} puts them at {light.peak:.0%}"
        )
    more = (
        "more light: raise the power, open the iris"
        if light.peak < 0.3
        else "less light: lower the power, add a filter"
    )
    return Finding("light", "FAIL", name, words, f"{more} ({light.exposure_s:.4g} s gives {light.peak:.0%})")


def _of_panel(name: str, panel: PanelView, light: Light) -> Iterator[Finding]:
    if not panel.responds and light.unsteady > UNSTEADY_FAIL:
        return  # it may well respond: the light alone changes by as much
    if not panel.responds:
        yield Finding(
            name,
            "FAIL",
            "wrong-monitor",
            f"what is shown on the {NAMES[name]} does not reach the camera: nothing changes",
            f"are its frames on the right monitor, is the panel on and in the beam? labctl devices show {name} checker",
        )
        return
    if panel.inverted:
        yield Finding(
            name,
            "FAIL",
            "inverted",
            f"the {NAMES[name]}'s highest level is its darkest",
            f"turn the polariser behind the {NAMES[name]} by 90°, or load the LUT of the other polarity",
        )
    if panel.ratio < RATIO_WARN and not light.is_saturated:
        yield Finding(
            name,
            "FAIL" if panel.ratio < RATIO_FAIL else "WARN",
            "contrast",
            f"the {NAMES[name]} is only {panel.ratio:.2g} times brighter at its highest level than at its lowest",
            "turn the polarisers for the darkest dark; check the LUT and the range of levels",
        )
    yield from _of_place(name, panel, _is_judged(light))
    if panel.settling is None and not light.is_saturated:
        yield Finding(
            name,
            "WARN",
            "settling",
            f"how the {NAMES[name]} settles could not be measured",
            "does the light flicker, or does the panel take many seconds? look at its steps: labctl calibrate timing",
        )


def _is_judged(light: Light) -> bool:
    """Whether more can be said of a panel than where it lies: not in the dark, in saturation, or in flicker."""
    return light.unsteady <= UNSTEADY_FAIL and not light.is_saturated and light.peak - light.dark >= FAINT


def _of_place(name: str, panel: PanelView, is_judged: bool) -> Iterator[Finding]:
    place = panel.located
    if place is None:
        yield _not_located(name, panel)
        return
    if name == "slm" and panel.lit < LIT_WARN and is_judged:
        yield Finding(
            name,
            "FAIL" if panel.lit * place.visible < SEEN_FAIL else "WARN",
            "half-lit",
            f"only {panel.lit:.0%} of the SLM is lit",
            "widen and centre the beam, and the display's picture; or use that part of it only: backend region",
        )
    if place.visible < SEEN_WARN:
        yield Finding(
            name,
            "WARN" if place.visible * panel.lit > SEEN_FAIL else "FAIL",
            "cut-off",
            f"only {place.visible:.0%} of the {NAMES[name]} lies on the sensor",
            "aim the camera, or use a shorter focal length; the layout below keeps to what is seen",
        )
    if place.mirrored:
        yield Finding(
            name,
            "WARN",
            "mirrored",
            f"the {NAMES[name]}'s picture is mirrored",
            "an odd number of mirrors lies between: the calibration copes; mend it if you did not expect it",
        )
    if abs(place.turned_deg) > 180 - SQUARE_DEG:
        yield Finding(
            name,
            "WARN",
            "upside-down",
            f"the {NAMES[name]}'s picture is upside down (turned by {place.turned_deg:.1f}°)",
            "the calibration copes; turn the camera if you did not expect it",
        )
    elif abs(place.turned_deg) > STRAIGHT_DEG:
        yield Finding(
            name,
            "WARN",
            "turned",
            f"the {NAMES[name]}'s picture is turned by {place.turned_deg:.1f}°",
            "turn the camera or the panel's mount",
        )
    if is_judged:
        yield from _of_shape(name, panel, place)
    if place.visible >= 0.98 and not place.mirrored and abs(place.turned_deg) <= STRAIGHT_DEG:
        yield Finding(
            name,
            "PASS",
            "place",
            f"the whole {NAMES[name]} is seen, upright, {place.magnification:.3g} camera pixels for one of its own",
        )


def _of_shape(name: str, panel: PanelView, place: Located) -> Iterator[Finding]:
    """Keystone, and lines that are not straight."""
    if place.taper > TAPER_WARN:
        yield Finding(
            name,
            "FAIL" if place.taper > TAPER_FAIL else "WARN",
            "keystone",
            f"the {NAMES[name]}'s picture is no rectangle: a corner is off by {place.taper:.0%} of the diagonal",
            "the panel or the camera is tilted: square them to the beam",
        )
    blur_px = panel.focus.blur_px * place.magnification if panel.focus else 0.0
    if place.rms_px > max(BENT_PX, BENT_TO_BLUR * blur_px):
        yield Finding(
            name,
            "WARN",
            "bent",
            f"the {NAMES[name]}'s picture does not lie straight: {place.rms_px:.2g} camera pixels beside a plane map",
            "a lens that distorts: a calibration allows for no more than limits.registration_residual_px_max",
        )


def _not_located(name: str, panel: PanelView) -> Finding:
    """Why it is not known where a panel lies, as far as its stripes say."""
    words = f"the {NAMES[name]} is seen, but stripes on it cannot be told apart"
    fix = "far out of focus, or only a small part of it is on the camera: focus first, then look at the aim"
    if min(panel.shape) < CELLS * FINEST_PX:
        rows, columns = panel.shape
        words = f"the {NAMES[name]} has only {rows} × {columns} pixels, too few for stripes that are {FINEST_PX} wide"
        fix = f"a panel of {CELLS * FINEST_PX} pixels each way at least"
    elif panel.told in ("x", "y"):
        seen, lost = ("columns", "rows") if panel.told == "x" else ("rows", "columns")
        words = f"the camera tells the {seen} of the {NAMES[name]} apart, but not its {lost}"
        fix = "does a cylinder lens sum them? take it out while you align: places are found in an image"
    elif panel.told:
        words = f"stripes on the {NAMES[name]} are told apart, but too few of them are seen to say where it lies"
        fix = "is only a small part of it on the camera, or lit? look at the aim"
    return Finding(name, "FAIL", "not-located", words, fix)


def _of_layout(view: View, station: Station) -> Iterator[Finding]:
    t, (rows, columns) = station.layout, view.panels["slm"].shape
    try:
        layout_of(station, (rows, columns))
    except OutOfDomain:
        mended = any(one.key.startswith("layout.") for one in proposals(view, station))
        yield Finding(
            "slm",
            "WARN" if mended else "FAIL",
            "layout",
            f"the layout needs {t.rows * t.pitch_rows_px} × {t.columns * t.pitch_columns_px} pixels, "
            f"and the SLM has {rows} × {columns}",
            "the one below fits" if mended else "fewer or smaller macropixels: [layout] of the station file",
        )


def _of_focus(view: View, layout: LayoutTable, worst: State) -> Iterator[Finding]:
    blurs = view.blurs_px
    if not blurs:
        return
    rows = leak(layout.pitch_rows_px, layout.active_rows_px, blurs["slm"])
    columns = bleed(layout.pitch_columns_px, layout.active_columns_px, blurs["display"])
    yield _sharp(
        "slm",
        rows,
        f"the camera sees the SLM with a blur of {blurs['slm']:.2g} SLM pixels (1 σ): {rows:.1%} of each row's light "
        "falls on other rows",
        "focus the camera on the SLM",
        worst,
    )
    yield _sharp(
        "display",
        columns,
        f"the display lies on the SLM with a blur of {blurs['display']:.2g} SLM pixels (1 σ): {columns:.1%} of each "
        "column's light reaches other columns",
        "focus the display on the SLM",
        worst,
    )


def _sharp(about: str, lost: float, words: str, fix: str, worst: State) -> Finding:
    if lost <= LEAK_WARN:
        return Finding(about, "PASS", "focus", words)
    state = worst if lost > LEAK_FAIL else "WARN"
    if state == "FAIL":
        fix += "; if this is as sharp as it gets, larger macropixels carry it: labctl align --accept-blur"
    return Finding(about, state, "out-of-focus", words, fix)


def _of_both(slm: PanelView, display: PanelView) -> Iterator[Finding]:
    if slm.located is None or display.located is None:
        return
    between = (display.located.turned_deg - slm.located.turned_deg + 180) % 360 - 180
    flipped = display.located.mirrored != slm.located.mirrored
    crossed = 90 - SQUARE_DEG < abs(between) < 90 + SQUARE_DEG
    if crossed or STRAIGHT_DEG < abs(between) < 180 - STRAIGHT_DEG:
        yield Finding(
            "display",
            "FAIL",
            "crossed" if crossed else "askew",
            f"the display is turned by {between:.1f}° against the SLM: its columns are not the SLM's",
            "turn the display or the SLM until their columns are parallel",
        )
    elif flipped or abs(between) > 180 - STRAIGHT_DEG:
        yield Finding(
            "display",
            "WARN",
            "opposed",
            "display and SLM are upside down or mirrored against each other",
            "the calibration copes; mend it if you did not expect it",
        )

"""What is right and what is wrong on the bench, in the words of somebody who stands beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from calibration.bench.focus import bleed, leak
from labctl.align.look import NAMES, Light, PanelView, View
from labctl.station.model import LayoutTable, Station

State = Literal["PASS", "WARN", "FAIL"]

LEAK_WARN, LEAK_FAIL = 0.05, 0.15
"""Part of a macropixel's light beyond its own pitch: couplings beyond nearest neighbours are not modelled."""
RATIO_WARN, RATIO_FAIL = 10.0, 2.0
DARK_WARN, DARK_FAIL = 0.2, 0.5
PIXELS_PER_PITCH_MIN = 2.0
SQUARE_DEG = 20.0
STRAIGHT_DEG = 3.0


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
        found += _of_panel(name, panel)
    if len(view.panels) == 2:
        found += _of_both(view.panels["slm"], view.panels["display"])
    found += _of_focus(view, station.layout, "WARN" if accept_blur else "FAIL")
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
        yield Finding(
            "light",
            "FAIL",
            "no-light",
            f"no light reaches the camera, at {light.exposure_s:.4g} s exposure either",
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


def _of_panel(name: str, panel: PanelView) -> Iterator[Finding]:
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
    if panel.ratio < RATIO_WARN:
        yield Finding(
            name,
            "FAIL" if panel.ratio < RATIO_FAIL else "WARN",
            "contrast",
            f"the {NAMES[name]} is only {panel.ratio:.2g} times brighter at its highest level than at its lowest",
            "turn the polarisers for the darkest dark; check the LUT and the range of levels",
        )
    yield from _of_place(name, panel)
    if panel.settling is None:
        yield Finding(
            name,
            "WARN",
            "settling",
            f"how the {NAMES[name]} settles could not be measured",
            "a flickering source or panel? labctl calibrate timing says more",
        )


def _of_place(name: str, panel: PanelView) -> Iterator[Finding]:
    place = panel.located
    if place is None:
        yield Finding(
            name,
            "FAIL",
            "not-located",
            f"the {NAMES[name]} is seen, but stripes on it cannot be told apart",
            "far out of focus, or only a small part of it is on the camera: focus first, then look at the aim",
        )
        return
    if place.visible < 0.98:
        yield Finding(
            name,
            "WARN" if place.visible > 0.5 else "FAIL",
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
    if place.visible >= 0.98 and not place.mirrored and abs(place.turned_deg) <= STRAIGHT_DEG:
        yield Finding(
            name,
            "PASS",
            "place",
            f"the whole {NAMES[name]} is seen, upright, {place.magnification:.3g} camera pixels to one of its own",
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

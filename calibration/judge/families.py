"""A bench calibration as families of numbers with standard errors, to be compared with another of the same bench."""

from __future__ import annotations

import numpy as np

from calibration.machine.artefact import Calibration
from calibration.machine.layout import apply_homography
from calibration.statistics.difference import Family

SCALAR_NOISE = (("read noise", "DN"), ("system gain", "DN/e-"), ("flicker", "1"))
AFFINE, PROJECTIVE = 6, 8
"""Free numbers of a map from a panel to the camera."""


def families(calibration: Calibration) -> list[Family]:
    """Everything that two calibrations of one bench can be compared in."""
    return [*_channel(calibration), *_noise(calibration), *_luts(calibration), *_dark(calibration), *_maps(calibration)]


def _channel(calibration: Calibration) -> list[Family]:
    c, found = calibration.machine.channel, calibration.evidence
    outputs, inputs = c.shape
    inner = np.ones((outputs, 2), np.bool_)
    inner[0, 0] = inner[-1, 1] = False  # no neighbour beyond the edge
    pairs = 2 if found.crosstalk_is_common else int(inner.sum())
    full = (found.gain_parameters or c.gain_dn.size) >= c.gain_dn.size
    flicker = c.noise.flicker / np.sqrt(2 * inputs)  # of the mean over the gain scan's 2K frames
    return [
        Family("gain", "DN", c.gain_dn, c.gain_stderr_dn, _free_gains(calibration), flicker, True, shared=not full),
        Family("offset", "DN", c.offset_dn, c.offset_stderr_dn, c.offset_dn.size),
        Family("crosstalk", "1", c.crosstalk[inner], c.crosstalk_stderr[inner], pairs, scaled=True),
        Family("bleed", "1", c.bleed, c.bleed_stderr, 2, scaled=True),
    ]


def _free_gains(calibration: Calibration) -> int:
    """Independent numbers in the errors of the gain map.

    Where every macropixel has a gain of its own, those of one display column share what the flicker of the source did
    to that column's patterns: as much of their variance as flicker has of a reading with half the columns lit.
    """
    c = calibration.machine.channel
    chosen = calibration.evidence.gain_parameters or c.gain_dn.size
    if chosen < c.gain_dn.size:
        return chosen
    half_lit_dn = c.gain_dn.sum(axis=1) / 2
    common = (c.noise.flicker * half_lit_dn) ** 2 / c.noise.variance(half_lit_dn)
    outputs = len(half_lit_dn)
    return max(round(chosen / (1 + (outputs - 1) * float(np.mean(common)) ** 2)), 1)


def _noise(calibration: Calibration) -> list[Family]:
    noise = calibration.machine.channel.noise
    values = np.array([noise.read_dn, noise.shot_dn, noise.flicker])
    return [
        Family(name, unit, values[i : i + 1], noise.stderr[i : i + 1], 1) for i, (name, unit) in enumerate(SCALAR_NOISE)
    ]


def _luts(calibration: Calibration) -> list[Family]:
    machine = calibration.machine
    return [
        Family(f"{panel} LUT", "1", lut.transmission, lut.stderr, lut.transmission.size, alike=True, shared=True)
        for panel, lut in (("display", machine.display), ("SLM", machine.slm))
    ]


def _dark(calibration: Calibration) -> list[Family]:
    dark = calibration.evidence.dark
    if dark is None:
        return []
    return [Family("dark level", "DN", np.array([dark.level_dn]), np.array([dark.level_stderr_dn]), 1)]


def _maps(calibration: Calibration) -> list[Family]:
    """Where the panels' fiducials lie on the camera."""
    found = []
    for panel, r in calibration.registrations.items():
        where = np.stack(apply_homography(r.panel_to_camera, r.points_px[:, 0], r.points_px[:, 1]))
        free = AFFINE if r.model == "affine" else PROJECTIVE
        name = f"{'SLM' if panel == 'slm' else panel} geometry"
        found.append(Family(name, "px", where, np.full_like(where, r.map_stderr_px), free))
    return found

"""A bench calibration as families of numbers with standard errors, to be compared with another of the same bench."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from calibration.machine.channel import Channel
from calibration.machine.findings import DarkLevel, Findings
from calibration.machine.machine import Machine
from calibration.machine.noise import Noise
from calibration.machine.registration import Registration
from calibration.statistics.difference import Family

SCALAR_NOISE = (("read noise", "DN"), ("system gain", "DN/e-"), ("flicker", "1"))
AFFINE, PROJECTIVE = 6, 8
"""Free numbers of a map from a panel to the camera."""


def families_of(machine: Machine, found: Findings, registrations: Mapping[str, Registration]) -> list[Family]:
    """Everything that two calibrations of one bench can be compared in."""
    channel = machine.channel
    return [
        *_channel(channel, found),
        *_noise(channel.noise),
        *_luts(machine),
        *_dark(found.dark),
        *_maps(registrations),
    ]


def _channel(c: Channel, found: Findings) -> list[Family]:
    outputs, inputs = c.shape
    inner = np.ones((outputs, 2), np.bool_)
    inner[0, 0] = inner[-1, 1] = False  # no neighbour beyond the edge
    pairs = 2 if found.crosstalk_is_common else int(inner.sum())
    full = (found.gain_parameters or c.gain_dn.size) >= c.gain_dn.size
    flicker = c.noise.flicker / np.sqrt(2 * inputs)  # of the mean over the gain scan's 2K frames
    return [
        Family("gain", "DN", c.gain_dn, c.gain_stderr_dn, _free_gains(c, found), flicker, True, shared=not full),
        Family("offset", "DN", c.offset_dn, c.offset_stderr_dn, c.offset_dn.size),
        Family("crosstalk", "1", c.crosstalk[inner], c.crosstalk_stderr[inner], pairs, scaled=True),
        Family("bleed", "1", c.bleed, c.bleed_stderr, 2, scaled=True),
    ]


def _free_gains(c: Channel, found: Findings) -> int:
    """Independent numbers in the errors of the gain map.

    Where every macropixel has a gain of its own, those of one display column share what the flicker of the source did
    to that column's patterns: as much of their variance as flicker has of a reading with half the columns lit.
    """
    chosen = found.gain_parameters or c.gain_dn.size
    if chosen < c.gain_dn.size:
        return chosen
    half_lit_dn = c.gain_dn.sum(axis=1) / 2
    common = (c.noise.flicker * half_lit_dn) ** 2 / c.noise.variance(half_lit_dn)
    outputs = len(half_lit_dn)
    return max(round(chosen / (1 + (outputs - 1) * float(np.mean(common)) ** 2)), 1)


def _noise(noise: Noise) -> list[Family]:
    values = np.array([noise.read_dn, noise.shot_dn, noise.flicker])
    return [
        Family(name, unit, values[i : i + 1], noise.stderr[i : i + 1], 1) for i, (name, unit) in enumerate(SCALAR_NOISE)
    ]


def _luts(machine: Machine) -> list[Family]:
    return [
        Family(f"{panel} LUT", "1", lut.transmission, lut.stderr, lut.transmission.size, alike=True, shared=True)
        for panel, lut in (("display", machine.display), ("SLM", machine.slm))
    ]


def _dark(dark: DarkLevel | None) -> list[Family]:
    if dark is None:
        return []
    return [Family("dark level", "DN", np.array([dark.level_dn]), np.array([dark.level_stderr_dn]), 1)]


def _maps(registrations: Mapping[str, Registration]) -> list[Family]:
    """Where the panels' fiducials lie on the camera."""
    found = []
    for panel, r in registrations.items():
        where = np.stack(r.to_camera(r.points_px[:, 0], r.points_px[:, 1]))
        free = AFFINE if r.model == "affine" else PROJECTIVE
        name = f"{'SLM' if panel == 'slm' else panel} geometry"
        found.append(Family(name, "px", where, np.full_like(where, r.map_stderr_px), free))
    return found

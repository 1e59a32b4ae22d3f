"""Readings that are no measure of light are refused: pixels at full scale, and frames after the light has gone out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.errors import BadScan, Saturated
from calibration.frames.scan import Readings
from labctl.nodes.evidence import Evidence
from labctl.station.model import Limits

Float = NDArray[np.float64]

OUT = 0.05
"""Share of the usual light of a reference below which the light is out."""
LEAST = 0.01
"""Share of a panel at full transmission below which a reference over it says nothing of the source."""


def unsaturated(evidence: Evidence, name: str, limits: Limits, few: float = 0.0) -> Readings:
    """A scan no more than the share ``few`` of whose frames is saturated.

    Raises
    ------
    Saturated
        When more are.
    """
    readings = evidence.scans[name]
    if (readings.saturated > limits.saturated_fraction_max).mean() > few:
        worst = int(np.argmax(readings.saturated))
        require_unsaturated(float(readings.saturated[worst]), f"{name} scan, frame {worst}", name, limits)
    return readings


def require_light_to_the_end(evidence: Evidence, name: str, dark_dn: Float) -> None:
    """Refuse readings between which the light was out, or at whose end it is, by their reference frames.

    Parameters
    ----------
    name
        Of the scan, or of all products.
    dark_dn
        (M,) dark signal of the regions that were read [DN].

    Raises
    ------
    BadScan
        With the time at which the light went out.
    """
    light_dn, at_s = _reference_light(evidence, name, dark_dn)
    if len(light_dn) < 3:
        return
    out = light_dn < OUT * np.sort(light_dn)[-2]  # one alone may be a frame that is too bright
    gone = np.flatnonzero(out[1:] & (out[:-1] | (np.arange(1, len(out)) == len(out) - 1))) + 1
    if not len(gone):
        return
    last = int(np.flatnonzero(~out[: gone[0]]).max(initial=0))
    back = "and did not come back" if out[-1] else "and came back later"
    raise BadScan(
        f"the light went out in the {name}, {back}",
        device="source",
        action=name,
        expected="reference frames that are bright to the end",
        seen=f"light until {at_s[last]:.1f} s of device time, then {light_dn[gone[0]]:.3g} of {light_dn[last]:.3g} DN",
        hint="see what switches or covers the source, then measure again; what was read before is kept",
    )


def _reference_light(evidence: Evidence, name: str, dark_dn: Float) -> tuple[Float, Float]:
    """Mean light [DN] and device time [s] of the references with a bright display; of a probe's over a bright SLM.

    Between products a reference is shown over the matrix that lies on the SLM, be it small or nearly dark: the light
    is that over the whole panel, as far as gray levels tell; matrices that let less than `LEAST` pass tell nothing.
    """
    light, shown, at_s = [], [], []
    for readings in evidence.references.get(name, []):
        scan = readings.scan
        kept = (scan.display == scan.display.max(initial=1)).all(axis=1)
        if name in evidence.scans:
            kept &= (scan.slm == scan.slm.max(initial=1)).all(axis=(1, 2))[scan.slm_index]
        if readings.at_s is not None:
            light.append((readings.dn[kept] - dark_dn).mean(axis=1))
            shown.append(scan.slm.sum(axis=(1, 2), dtype=np.float64)[scan.slm_index][kept])
            at_s.append(readings.at_s[kept])
    if not light:
        return np.zeros(0), np.zeros(0)
    share = np.concatenate(shown)
    share /= share.max(initial=1.0)
    tells = share >= LEAST
    return np.concatenate(light)[tells] / share[tells], np.concatenate(at_s)[tells]


def allowing_for(useless: NDArray[np.bool_], window: tuple[int, int, int, int], limits: Limits) -> Limits:
    """The limits for frames of a window (x, y, width, height) in which pixels may be at full scale that count nowhere.

    Parameters
    ----------
    useless
        (H, W) of the sensor: `calibration.bench.dark.Dark.useless`.
    """
    x, y, width, height = window
    share = float(useless[y : y + height, x : x + width].mean())
    return limits.model_copy(update={"saturated_fraction_max": limits.saturated_fraction_max + share})


def require_unsaturated(fraction: float, where: str, action: str, limits: Limits) -> None:
    """Refuse readings of which a larger fraction of pixels is at full scale than the station allows."""
    if fraction > limits.saturated_fraction_max:
        raise Saturated(
            f"saturated pixels in the {where}",
            device="camera",
            action=action,
            expected=f"at most {limits.saturated_fraction_max:g} of the pixels at full scale",
            seen=f"{fraction:.2g}",
            hint="shorten acquisition.exposure_s in the station file or lower the source",
        )

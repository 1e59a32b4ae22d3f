"""Which share of bad frames is found, by kind and with the right reason, and how many good ones are accused?

Two parts. Readings of a channel written here, photon by photon, with 1 % of the frames replaced by each kind of fault,
at four light levels from less than one photon per output to full wells. And the mock bench, through its fault script:
the pixels are faulty, the pipeline reads them, and what changed is known from the same bench without faults.

A fault counts when its effect is *detectable*: the light shown differs from the light asked for by so much that one of
the three tests (χ² of the frame, common factor, farthest output; each with 1e-7 false alarms) has a power of 99.9 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from calibration.bad_frames import FALSE_ALARM, find
from calibration.channel import Noise

Float = NDArray[np.float64]

OUTPUTS = 48
INPUTS = 64
FAULTS = 0.01
POWER = 0.999
REASON = {
    "stale": "stale",
    "stale copy": "stale",
    "swapped": "swapped",
    "duplicated": "duplicated",
    "blank": "blank",
    "saturated": "saturated",
    "flickering": "flickering",
    "torn": "partial",
    "stuck rows": "partial",
    "garbage": "garbage",
}
BENCHES = (  # photons per output at full light, read noise in electrons, flicker of the source
    ("under a photon", 2.0, 0.15, 0.01),
    ("few photons", 60.0, 1.0, 0.01),
    ("camera", 20_000.0, 40.0, 0.002),
    ("full wells", 2_000_000.0, 400.0, 0.0005),
)
SMALL = """
[bench]
name = "small"
[layout]
rows = 32
columns = 32
[mock.slm]
rows = 256
cols = 320
[mock.display]
rows = 256
cols = 320
[mock.camera]
rows = 310
cols = 380
"""


@dataclass
class Tally:
    """Faults injected, detectable, found, and found with the right reason; good frames and how many were accused."""

    injected: int = 0
    detectable: int = 0
    found: int = 0
    named: int = 0
    good: int = 0
    accused: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def channel_tally(kind: str, photons: float, read_e: float, rho: float, frames: int, seed: int) -> Tally:
    """One scan of ``frames`` random frames, ``FAULTS`` of them of one kind."""
    rng = np.random.default_rng(seed)
    asked = photons / INPUTS * 2 * (rng.random((frames, INPUTS)) ** 2) @ rng.uniform(0, 1, (INPUTS, OUTPUTS))
    candidates = 5 + 5 * rng.choice(frames // 5 - 2, max(1, int(FAULTS * frames)), replace=False)
    shown, copy, saturated = asked.copy(), {}, np.zeros(frames, np.bool_)
    faulty: list[int] = []
    for i in sorted(int(c) for c in candidates):
        faulty.append(i)
        rows = slice(OUTPUTS // 4, OUTPUTS // 2)
        if kind in ("stale", "stale copy"):
            shown[i] = asked[i - 1]
        elif kind == "swapped":
            shown[[i, i + 1]] = asked[[i + 1, i]]
            faulty.append(i + 1)
        elif kind == "duplicated":
            shown[i] = asked[i - 3]
        elif kind == "blank":
            shown[i] = 0.003 * asked[i]
        elif kind == "saturated":
            shown[i], saturated[i] = 30 * asked[i], True
        elif kind == "flickering":
            shown[i] = asked[i] * (1 + rng.choice([-1, 1]) * rng.uniform(0.005, 0.5))
        elif kind == "torn":
            shown[i, rows.start :] = asked[i - 1, rows.start :]
        elif kind == "stuck rows":
            shown[i, rows] = asked[i - 1, rows]
        else:
            shown[i] = rng.uniform(0, 2 * asked.mean(), OUTPUTS)
        copy[i] = {"stale copy": i - 1, "duplicated": i - 3}.get(kind, -1)
    light = shown * np.maximum(1 + rho * rng.standard_normal((frames, 1)), 0)
    dn = rng.poisson(light) + read_e * rng.standard_normal(light.shape)
    for i, j in copy.items():
        if j >= 0:
            dn[i] = dn[j]
    noise = Noise(read_e, 1.0, rho, np.zeros(3))
    found = {bad.index: bad.reason for bad in find(dn, asked, np.zeros(OUTPUTS), noise, saturated)}
    loud = [i for i in faulty if saturated[i] or detectable(shown[i], asked[i], noise)]
    return Tally(
        injected=len(faulty),
        detectable=len(loud),
        found=sum(i in found for i in loud),
        named=sum(found.get(i) == REASON[kind] for i in loud),
        good=frames - len(faulty),
        accused=len(set(found) - set(faulty)),
    )


def detectable(shown: Float, asked: Float, noise: Noise) -> bool:
    """Whether light ``shown`` for ``asked``, (M,) each [DN], sets off one of the three tests with power ``POWER``."""
    independent = noise.read_dn**2 + noise.shot_dn * asked
    change, rho2 = shown - asked, noise.intensity**2
    information = float((asked**2 / independent).sum())
    along = float((change * asked / independent).sum())
    lam = float((change**2 / independent).sum()) - rho2 * along**2 / (1 + rho2 * information)
    spare = float(stats.norm.isf(1 - POWER))
    m = len(asked)
    by_chi2 = stats.ncx2.sf(stats.chi2.isf(FALSE_ALARM, m), m, lam) >= POWER
    by_factor = abs(along / information) / np.sqrt(1 / information + rho2) > stats.norm.isf(FALSE_ALARM / 2) + spare
    peak = np.abs(change) / np.sqrt(independent + rho2 * asked**2)
    return bool(by_chi2 or by_factor or peak.max() > stats.norm.isf(FALSE_ALARM / 2 / m) + spare)


def clean_alarms(photons: float, read_e: float, rho: float, frames: int, seed: int) -> int:
    """Frames accused where none is bad."""
    rng = np.random.default_rng(seed)
    asked = photons / INPUTS * 2 * (rng.random((frames, INPUTS)) ** 2) @ rng.uniform(0, 1, (INPUTS, OUTPUTS))
    light = asked * np.maximum(1 + rho * rng.standard_normal((frames, 1)), 0)
    dn = rng.poisson(light) + read_e * rng.standard_normal(light.shape)
    noise = Noise(read_e, 1.0, rho, np.zeros(3))
    return len(find(dn, asked, np.zeros(OUTPUTS), noise, np.zeros(frames, np.bool_)))


def channel_figures(quick: bool) -> list[dict[str, Any]]:
    """Detection, naming and false alarms of readings made here."""
    frames = 4_000 if quick else 20_000
    out = []
    for kind in REASON:
        total = Tally()
        for seed, (_, photons, read_e, rho) in enumerate(BENCHES):
            total += channel_tally(kind, photons, read_e, rho, frames, seed)
        out += [
            figure(
                f"{kind}: found of {total.detectable} detectable", total.found / max(total.detectable, 1), "1", 0.99
            ),
            figure(f"{kind}: named rightly", total.named / max(total.found, 1), "1", 0.95),
            figure(f"{kind}: good frames accused", total.accused / total.good, "1", 0.001, upper=True),
        ]
    for seed, (name, photons, read_e, rho) in enumerate(BENCHES):
        rate = clean_alarms(photons, read_e, rho, 5 * frames, 100 + seed) / (5 * frames)
        out.append(figure(f"false alarms, {name}", rate, "1", 0.001, upper=True))
    return out


def figure(name: str, value: float, unit: str, goal: float, *, upper: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "goal": goal,
        "reached": value <= goal if upper else value >= goal,
    }


def figures(quick: bool) -> list[dict[str, Any]]:
    return channel_figures(quick)


if __name__ == "__main__":
    import sys

    for f in figures("--quick" in sys.argv):
        print(f["reached"], f["name"], round(f["value"], 5))

"""Does a photon transfer through the Micro-Manager driver find the numbers of a camera that we did not write?

Micro-Manager's demonstration camera simulates shot noise and read noise; its conversion factor and its read noise are
properties, and its offset is 100 DN in 16 bits. Frames come through the core and the driver, and
`calibration.bench.fit_photon_transfer` finds the numbers. The camera cuts its counts down to whole numbers twice, so
that its frames are darker than its offset by 0.94 DN.

    python benchmarks/photon_transfer.py [--json] [--quick]
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from _common import figure, parser, show
from numpy.typing import NDArray

from calibration.bench import fit_photon_transfer
from drivers import Camera, OpenContext, is_a, open_device

E_PER_DN, READ_E, OFFSET_DN = 0.5, 4.0, 100
FLUX_E_PER_MS = 500
DARKEST_E_PER_MS = 2
EXPOSURES_S = 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02
GOAL_PERCENT = 1.0

Pair = NDArray[np.uint16]


def pairs(flux_e_per_ms: float, exposures_s: tuple[float, ...], count: int) -> tuple[list[Pair], int]:
    """``count`` pairs of frames (2, H, W) [DN] at each exposure, and the camera's full scale [DN]."""
    properties = {
        "PixelType": "16bit",
        "BitDepth": 16,
        "Mode": "Noise",
        "Photon Conversion Factor": E_PER_DN,
        "ReadNoise (electrons)": READ_E,
        "Photon Flux": flux_e_per_ms,
    }
    options = {"library": "DemoCamera", "device": "DCam", "properties": properties}
    with open_device("micromanager.camera", "camera", options, OpenContext()) as camera:
        assert is_a(camera, Camera)
        found: list[Pair] = []
        for exposure_s in exposures_s:
            camera.exposure_s = exposure_s
            camera.arm(2 * count)
            frames = camera.fetch(60.0).frames
            found += [frames[i : i + 2] for i in range(0, 2 * count, 2)]
        return found, int(2**camera.bit_depth - 1)


def figures(quick: bool) -> list[dict[str, Any]]:
    count = 4 if quick else 12
    start = time.perf_counter()
    dark, full_scale_dn = pairs(DARKEST_E_PER_MS, (1e-5,), count)
    bright, _ = pairs(FLUX_E_PER_MS, EXPOSURES_S, count)
    taken_s = time.perf_counter() - start
    start = time.perf_counter()
    found = fit_photon_transfer(dark, bright, full_scale_dn)
    fitted_s = time.perf_counter() - start
    answers = (
        ("conversion factor", found.e_per_dn, E_PER_DN, "e-/DN"),
        ("read noise", found.read_noise_e, READ_E, "e-"),
        ("offset", found.offset_dn, float(OFFSET_DN), "DN"),
    )
    lines = []
    for name, value, truth, unit in answers:
        off = 100 * abs(value / truth - 1)
        lines.append(figure(f"{name}, {truth:g} {unit} in the camera", value, unit))
        lines.append(figure(f"{name}, off by", off, "%", f"≤ {GOAL_PERCENT:g}", off <= GOAL_PERCENT))
    lines.append(figure("χ² for each degree of freedom", found.chi2_per_dof, "1"))
    lines.append(figure("frames taken through the driver", 2.0 * (len(dark) + len(bright)), "1"))
    lines.append(figure("time to take them, two openings included", taken_s, "s"))
    lines.append(figure("time of the fit", fitted_s, "s"))
    return lines


def main() -> None:
    chosen = parser(__doc__).parse_args()
    show("photon_transfer", lambda: figures(chosen.quick), chosen.json)


if __name__ == "__main__":
    main()

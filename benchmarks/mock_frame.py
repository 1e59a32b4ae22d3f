"""Does the mock bench keep up with a 60 Hz SLM, at full HD, with every effect on?

In one run: our frames (display changed for each one, SLM kept, as in a weight-stationary schedule; every panel, relay,
drift and camera effect on), slmsuite's simulated camera at the same size with its noise, our peak memory in a process
of its own, and our time at four sizes. Times are medians of wall-clock time on as many cores as ``--threads``.

    python benchmarks/mock_frame.py [--json] [--quick] [--threads 2]
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import figure, parser, show

from drivers.protocols import Roi
from mock_hardware import MockBench, parse

FULL_HD = 1080, 1920
SIZES = (270, 480), (540, 960), (1080, 1920), (1620, 2880)
PANEL = {
    "s_shape": 0.5,
    "fringing": 0.1,
    "uniformity_rms": 0.01,
    "dead_fraction": 1e-4,
    "stuck_fraction": 1e-4,
    "flicker_depth": 0.02,
    "fall_ratio": 1.5,
    "keystone_x": 0.002,
    "keystone_y": -0.001,
}
CAMERA = {
    "prnu": 0.01,
    "dsnu_e": 0.5,
    "row_noise_e": 0.3,
    "hot_fraction": 1e-4,
    "hot_e_per_s": 100.0,
    "nonlinearity": 0.01,
    "row_time_s": 5e-6,
}
OPTICS = {"camera_psf_growth_px2": 0.2, "distortion": 0.002}
DRIFT = {
    "power_walk_per_sqrt_s": 1e-3,
    "power_flicker_rms": 1e-3,
    "pointing_walk_px_per_sqrt_s": 0.02,
    "knock_at_s": 0.3,
    "knock_x_px": 1.3,
    "knock_display_y_px": 0.4,
}


def frames_s(
    shape: tuple[int, int], frames: int, threads: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Time of each frame, after three to warm up; the display shows another frame for each one [s]."""
    rows, cols = shape
    size = {"rows": rows, "cols": cols}
    table = {"slm": size | PANEL, "display": size | PANEL, "camera": size | CAMERA, "optics": OPTICS, "drift": DRIFT}
    bench = MockBench(parse({**table, "threads": threads}))
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 256, (4, rows, cols), dtype=np.uint8)
    bench.slm.show(shown[0], 0.0)
    bench.pass_frames(6)
    took = []
    for k in range(frames + 3):
        bench.display.show(shown[k % 4], bench.clock_s)
        start = clock()
        bench.expose(Roi(0, 0, cols, rows))
        took.append(clock() - start)
    return took[3:]


def slmsuite_s(shape: tuple[int, int], frames: int) -> list[float]:
    """The same of slmsuite's simulated SLM and camera, sampled one to one: its fastest way.

    With both of its kinds of noise, ``dark`` and ``read``, Gaussian: cheaper than the example in its documentation,
    which draws the second from a Poisson law.
    """
    import logging
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import slmsuite
        from slmsuite.hardware.cameras.simulated import SimulatedCamera
        from slmsuite.hardware.slms.simulated import SimulatedSLM

    slmsuite.configure_logging(logging.WARNING)
    rows, cols = shape
    slm = SimulatedSLM((cols, rows), pitch_um=(8, 8))
    rng = np.random.default_rng(0)
    noise = {name: lambda image: rng.normal(0.01, 0.003, image.shape) for name in ("dark", "read")}
    camera = SimulatedCamera(slm, resolution=(cols, rows), bitdepth=12, noise=noise)
    shown = rng.integers(0, 256, (2, rows, cols), dtype=np.uint8)
    took = []
    for k in range(frames + 1):
        slm.set_phase(shown[k % 2], settle=False)
        start = time.perf_counter()
        camera.get_image()
        took.append(time.perf_counter() - start)
    return took[1:]


def peak_mb(threads: int) -> float:
    """Peak resident memory of a process that renders full-HD frames [MB]."""
    here = str(Path(__file__).parent)
    code = f"import _common, mock_frame; mock_frame.frames_s({FULL_HD}, 12, {threads}); print(_common.own_peak_mb())"
    child = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=here)
    return float(child.stdout)


def median_ms(times_s: list[float]) -> float:
    return float(1e3 * np.median(times_s))


def linear(megapixels: Any, times_ms: Any) -> tuple[float, float, float]:
    """Fixed cost [ms], cost of a megapixel [ms], and the largest relative deviation of a time from that line."""
    design = np.stack([np.ones_like(megapixels), megapixels], axis=1) / times_ms[:, None]  # relative errors count
    fixed, slope = np.linalg.lstsq(design, np.ones_like(times_ms), rcond=None)[0]
    return float(fixed), float(slope), float(np.abs((fixed + slope * megapixels) / times_ms - 1).max())


def figures(quick: bool, threads: int) -> list[dict[str, Any]]:
    frames = 30 if quick else 150
    frames_s(FULL_HD, 1, threads)  # compiles
    alone = frames_s(FULL_HD, frames, threads)
    ours = median_ms(alone)
    found = [
        figure("full-HD frame, all effects, median", ours, "ms", "≤ 16.7", ours <= 16.7),
        figure("full-HD frame, all effects, 95th percentile", 1e3 * float(np.percentile(alone, 95)), "ms", "", None),
    ]
    processor = median_ms(frames_s(FULL_HD, frames // 3, threads, time.process_time))
    found.append(figure("the same in processor time, all threads", processor, "ms", "", None))
    try:
        theirs = median_ms(slmsuite_s(FULL_HD, 5 if quick else 15))
        found.append(figure("slmsuite's simulated camera with noise, median", theirs, "ms", "", None))
        found.append(figure("times faster", theirs / ours, "1", "≥ 10", theirs / ours >= 10))
    except ImportError:
        found.append(figure("times faster (slmsuite is not installed)", float("nan"), "1", "≥ 10", None))
    memory = peak_mb(threads)
    found.append(figure("peak memory", memory, "MB", "< 400", memory < 400))
    times_ms = [median_ms(frames_s(shape, frames // 3, threads)) for shape in SIZES]
    for (rows, cols), took in zip(SIZES, times_ms, strict=True):
        found.append(figure(f"{cols} × {rows}", took, "ms", "", None))
    fixed_ms, per_megapixel_ms, off = linear(np.array([rows * cols / 1e6 for rows, cols in SIZES]), np.array(times_ms))
    found.append(figure("fixed cost", fixed_ms, "ms", "", None))
    found.append(figure("cost of a megapixel", per_megapixel_ms, "ms", "", None))
    found.append(figure("largest deviation from fixed + megapixels", 100 * off, "%", "≤ 15", off <= 0.15))
    return found


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--threads", type=int, default=2)
    chosen = options.parse_args()
    show("mock_frame", lambda: figures(chosen.quick, chosen.threads), chosen.json)


if __name__ == "__main__":
    main()

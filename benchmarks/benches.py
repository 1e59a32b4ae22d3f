"""Does a bench drawn at random calibrate, and is a bench that does not told its true cause?

Each seed draws a bench over the ranges of `RANGES`, calibrates it with the default limits, shows products that no fit
has seen, and compares what was found with what the mock bench says of itself.

    python benchmarks/benches.py [--json] [--quick] [--seeds 0:60] [--log FILE]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _common import Figure, figure, parser, show

from calibration.frames.products import ProductGroup
from calibration.machine.machine import Machine
from groundwork.errors import CodedError
from labctl.archive import RunWriter
from labctl.bench.acquirer import Acquirer
from labctl.bench.bench import open_bench
from labctl.engine.ledger import Ledger
from labctl.engine.walk import walk_on
from labctl.nodes.couplings import COUPLINGS_NODE
from labctl.nodes.registry import MACHINE, with_parents
from labctl.nodes.validation import VALIDATION_NODE
from labctl.station.loading import LoadedStation, load_station
from mock_hardware.bench import MockBench
from mock_hardware.config import parse
from mock_hardware.effective import effective

SEEDS = 60
GOAL = 55
ROWS, COLUMNS = 24, 24
SLM_SHAPE = (184, 232)
PRODUCTS = 40
DITHER_DN = 0.4
LAST_ROW_S = 0.006
"""When a rolling shutter begins the last row: a frame of 60 Hz less an exposure of 10 ms [s]."""

RANGES = {
    "magnification": "0.5 … 3, even in its logarithm: sensors have pixels of 2 … 12 µm, panels of 4 … 20 µm",
    "display_ratio": "0.8 … 1.25 of the SLM's: the display's pixels are another maker's, and commensurate with nothing",
    "rotation": "±3° for each panel: what is left after aligning by hand in a mount without a stage",
    "keystone": "±0.03: a panel tilted by up to 2°, so that its reflection clears the lens",
    "distortion": "±2 % in the corners: a photographic lens; a telecentric one has 0.1 %",
    "mirrored": "one bench in four has an odd number of mirrors",
    "gamma": "1 … 2.4 with S-shapes of 0 … 1: panels are delivered linear, as sRGB, or not calibrated at all",
    "floor": "1:1000 … 1:30, even in its logarithm",
    "levels": "256, or 1024 on one panel in six",
    "folded": "one SLM in sixty is driven past its brightest level",
    "fringing": "0 … 0.25 on the SLM: pixels of 4 µm under a cell as thick",
    "uniformity": "0 … 3 % rms",
    "pixels": "dead and stuck ones 0 … 0.05 % of the SLM and of the display, on half of the benches: what makers allow",
    "bit_depth": "8, 10 or 12",
    "filled": "the brightest pixel at 30 … 75 % of full scale: what an operator sets",
    "electrons": "300 … 6000 at the brightest pixel, even in its logarithm: full wells of 500 … 20,000 e-",
    "coarse": "dark noise of 0.4 DN or more, as EMVA 1288 asks for, so that rounding shifts no mean: 8 bits then end "
    "at some 1000 e-; one bench in thirty has a gain too low for that",
    "hot": "0 … 0.1 % of the camera's pixels with up to 3000 e-/s, on half of the benches",
    "camera": "read noise 1.2 … 6 e-, row noise 0 … 0.5 e-, PRNU 0 … 1.5 %, DSNU 0 … 2 e-, 0 … 3 % not linear",
    "blur": "0.4 … 1.0 SLM pixels from display to SLM, 0.4 … 1.0 camera pixels on to the camera",
    "stray": "0 … 1 % of the light, and 0 … 50 e-/s of the room",
    "source": "relative intensity noise 0.02 … 0.3 %",
    "drift": "random walk of 0 … 0.1 % per √s, 1/f noise 0 … 0.1 %, pointing 0 … 0.001 px per √s",
    "beam": "1/e² radius 0.7 … 2 times the panel's width",
    "flicker": "0 … 2 % of each panel at 120, 240 or 1000 Hz: the alternating field that drives a liquid crystal; off "
    "by up to 0.1 %, as panel and camera have clocks of their own and the flicker beats between them",
    "rolling": "every other camera exposes its rows one after the other, 5 … 12 µs apart: CMOS sensors without a "
    "global shutter; the last row is done before the next frame",
    "dark current": "1 … 300 e-/s, even in its logarithm: cooled, or warm in a closed box",
    "field": "the blur's variance grows by 0 … 0.3 px² to the corners: the curved field of a lens of few elements",
    "upside down": "one camera in eight: its cable has to come out somewhere",
    "settling": "0.5 … 8 ms, falling 0.7 … 2.5 times slower; one station in sixty waits half as long",
}
"""What is drawn, over which range, and why."""


@dataclass(frozen=True)
class Row:
    """One bench.

    Attributes
    ----------
    seed, drawn
        What it is.
    verdict
        ``in_spec``, ``out_of_spec``, or the code of the error.
    cause
        First line of what the operator is told, empty in spec.
    gain_error, crosstalk_error
        Relative error of the mean gain, and error of the mean crosstalk, against the mock's truth [1].
    chi2, probe_chi2, nrmse
        Of held-out products, of held-out frames, and of the products in units of their range [1].
    duration_s
        On this machine [s].
    """

    seed: int
    drawn: dict[str, Any]
    verdict: str
    cause: str
    gain_error: float | None
    crosstalk_error: float | None
    chi2: float | None
    probe_chi2: float | None
    nrmse: float | None
    coverage: float | None
    duration_s: float


def drawn(seed: int) -> dict[str, Any]:
    """Settings of the station, by key, that differ from the default."""
    rng = np.random.default_rng([20261129, seed])

    def between(low: float, high: float, digits: int = 4) -> float:
        return round(float(rng.uniform(low, high)), digits)

    def logarithmic(low: float, high: float) -> float:
        return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))), 5)

    magnification, mirrored = logarithmic(0.5, 3.0), bool(rng.random() < 0.25)
    ratio = between(0.8, 1.25)
    depth, electrons, filled = int(rng.choice([8, 10, 12])), logarithmic(300, 6000), between(0.3, 0.75)
    black_dn, read_e = round(0.03 * 2**depth), between(1.2, 6)
    coarse = rng.random() < 1 / 30
    if not coarse:
        electrons = round(min(electrons, filled * (2**depth - 1 - black_dn) * read_e / DITHER_DN), 1)
    flaws, hot = rng.random() < 0.5, rng.random() < 0.5
    rows, cols = (int(np.ceil(n * magnification * between(1.05, 1.25))) + 24 for n in SLM_SHAPE)
    found: dict[str, Any] = {
        "layout.rows": ROWS,
        "layout.columns": COLUMNS,
        "mock.seed": seed + 1,
        "mock.source.peak_electrons": electrons,
        "mock.source.rin_rms": logarithmic(2e-4, 3e-3),
        "mock.camera.rows": rows,
        "mock.camera.cols": cols,
        "mock.camera.bit_depth": depth,
        "mock.camera.gain_dn_per_e": round(filled * (2**depth - 1 - black_dn) / electrons, 5),
        "mock.camera.full_well_e": round(1.3 * electrons / filled, 1),
        "mock.camera.black_level_dn": float(black_dn),
        "mock.camera.read_noise_e": read_e,
        "mock.camera.row_noise_e": between(0, 0.5),
        "mock.camera.prnu": between(0, 0.015),
        "mock.camera.dsnu_e": between(0, 2),
        "mock.camera.nonlinearity": between(0, 0.03),
        "mock.camera.hot_fraction": between(0, 1e-3, 6) if hot else 0.0,
        "mock.camera.hot_e_per_s": between(0, 3000, 1) if hot else 0.0,
        "mock.optics.beam_radius_px": round(SLM_SHAPE[1] * between(0.7, 2.0), 1),
        "mock.optics.beam_offset_x_px": between(-15, 15, 1),
        "mock.optics.beam_offset_y_px": between(-15, 15, 1),
        "mock.optics.display_psf_px": between(0.4, 1.0),
        "mock.optics.camera_psf_px": between(0.4, 1.0),
        "mock.optics.distortion": between(-0.02, 0.02),
        "mock.optics.stray_fraction": between(0, 0.01),
        "mock.optics.ambient_e_per_s": between(0, 50),
        "mock.drift.power_walk_per_sqrt_s": between(0, 1e-3, 6),
        "mock.drift.power_flicker_rms": between(0, 1e-3, 6),
        "mock.drift.pointing_walk_px_per_sqrt_s": between(0, 1e-3, 6),
    }
    for panel, extra in (("slm", 1.0), ("display", ratio)):
        scale = 1.0 if panel == "slm" else 1.0 / ratio
        found |= {
            f"mock.{panel}.rows": round(SLM_SHAPE[0] * scale),
            f"mock.{panel}.cols": round(SLM_SHAPE[1] * scale),
            f"mock.{panel}.magnification": round(magnification * extra, 5),
            f"mock.{panel}.rotation_deg": between(-3, 3, 3),
            f"mock.{panel}.offset_x_px": between(-6, 6, 2),
            f"mock.{panel}.offset_y_px": between(-6, 6, 2),
            f"mock.{panel}.keystone_x": between(-0.03, 0.03),
            f"mock.{panel}.keystone_y": between(-0.03, 0.03),
            f"mock.{panel}.gamma": between(1.0, 2.4, 2),
            f"mock.{panel}.s_shape": between(0, 1, 2),
            f"mock.{panel}.floor": logarithmic(1e-3, 1 / 30),
            f"mock.{panel}.levels": 1024 if rng.random() < 1 / 6 else 256,
            f"mock.{panel}.uniformity_rms": between(0, 0.03),
            f"mock.{panel}.dead_fraction": between(0, 5e-4, 6) if flaws else 0.0,
            f"mock.{panel}.stuck_fraction": between(0, 5e-4, 6) if flaws else 0.0,
            f"mock.{panel}.tau_s": logarithmic(5e-4, 8e-3),
            f"mock.{panel}.fall_ratio": between(0.7, 2.5, 2),
            f"mock.{panel}.mirrored": mirrored,
        }
    found["mock.slm.fringing"] = between(0, 0.25)
    if rng.random() < 1 / 60:
        found |= {"mock.slm.retardance": between(1.15, 1.6, 2), "mock.slm.s_shape": 1.0}
    hasty = rng.random() < 1 / 60
    for panel in ("slm", "display"):
        needed = settle_frames(found[f"mock.{panel}.tau_s"] * max(found[f"mock.{panel}.fall_ratio"], 1.0))
        found[f"acquisition.{panel}_settle_frames"] = needed // 2 if hasty else needed
    return found | _drawn_since(seed, rows)


def _drawn_since(seed: int, camera_rows: int) -> dict[str, Any]:
    """What benches were given later: from a generator of its own, so that the rest of each is as it was before."""
    rng = np.random.default_rng([20261130, seed])
    rolling, row_time_s = rng.random() < 0.5, min(float(rng.uniform(5e-6, 1.2e-5)), LAST_ROW_S / camera_rows)
    found: dict[str, Any] = {
        "mock.camera.row_time_s": round(row_time_s, 8) if rolling else 0.0,
        "mock.camera.dark_current_e_per_s": round(float(np.exp(rng.uniform(0, np.log(300)))), 2),
        "mock.camera.turned_deg": 180.0 if rng.random() < 1 / 8 else 0.0,
        "mock.optics.camera_psf_growth_px2": round(float(rng.uniform(0, 0.3)), 4),
    }
    for panel in ("slm", "display"):
        found[f"mock.{panel}.flicker_depth"] = round(float(rng.uniform(0, 0.02)), 4)
        found[f"mock.{panel}.flicker_hz"] = round(float(rng.choice([120, 240, 1000]) * rng.uniform(0.999, 1.001)), 4)
    return found


def settle_frames(tau_s: float) -> int:
    """Frames at 60 Hz until less than 0.2 % of a step is missing, one refresh of 60 Hz waited for, and one to spare."""
    return int(np.ceil(60 * (tau_s * np.log(500) + 1 / 60))) + 1


def products(seed: int) -> ProductGroup:
    """Random products that fit the layout; every other one has inputs without a sign, as those of rectifiers are."""
    rng = np.random.default_rng([7, seed])
    weight = rng.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    inputs = rng.standard_normal((PRODUCTS, COLUMNS)).astype(np.float32)
    inputs[1::2] = np.abs(inputs[1::2])
    positions = np.stack([np.zeros(PRODUCTS, np.int64), np.arange(PRODUCTS)], axis=1)
    scale = float(np.percentile(np.abs(weight), 99))
    return ProductGroup("random", "linear", 0, weight, inputs, inputs @ weight.T, positions, scale)


def loaded(settings: dict[str, Any]) -> LoadedStation:
    """The default station with these settings."""
    return load_station(None, tuple(f"{key}={json.dumps(value)}" for key, value in settings.items()))


def calibrated(seed: int, settings: dict[str, Any]) -> Row:
    """Calibrate a bench, show it products, and compare it with the truth."""
    started_s = time.monotonic()
    ledger, gain = Ledger(), (None, None)
    verdict, cause = "in_spec", ""
    try:
        station = loaded(settings)
        with (
            tempfile.TemporaryDirectory() as runs,
            RunWriter.create(Path(runs), "benches", station) as run,
            open_bench(station.station) as bench,
        ):
            acquirer = Acquirer(bench, run, station.station.acquisition)
            walk = walk_on(acquirer, station.station, with_parents([MACHINE]), ledger, (products(seed),))
            walk.go([VALIDATION_NODE])
        gain = against_truth(station, walk.results[COUPLINGS_NODE].machine)
        if ledger.out_of_spec:
            verdict, cause = "out_of_spec", ledger.out_of_spec[0]
    except CodedError as error:
        verdict, cause = error.code, error.what
    except Exception as error:  # a bug, and a line of the table that says so
        verdict, cause = "bug", f"{type(error).__name__}: {error}"
    seen = {metric.name: metric.value for metric in ledger.metrics}
    figures = [seen.get(name) for name in ("chi2_per_dof", "probe_chi2_per_dof", "nrmse", "coverage95")]
    return Row(seed, settings, verdict, cause, *gain, *figures, round(time.monotonic() - started_s, 1))


def against_truth(station: LoadedStation, machine: Machine) -> tuple[float, float]:
    """Relative error of the mean gain, and error of the mean crosstalk.

    The truth is what a macropixel alone sends between its darkest and brightest level, its display column alone lit:
    the calibration's gain less what both panels let through when dark, and less what comes from other columns. The
    mock's is that of panels that do not flicker: half their depth is lost in the mean.
    """
    mock = parse(station.station.mock)
    truth = effective(MockBench(mock), station.station.layout.model_dump())
    lit = (1 - mock.slm.flicker_depth / 2) * (1 - mock.display.flicker_depth / 2)
    channel, c = machine.channel, machine.channel.couplings
    alone = 1 - (channel.bleed.sum() if c is None else c.before + c.after)
    found_dn = (channel.gain_dn * alone).mean() * (1 - machine.slm.floor) * (1 - machine.display.floor)
    gain = float(found_dn / (truth["gain_mean_dn"] * lit) - 1)
    found = channel.crosstalk[1:-1].mean(axis=0)
    return gain, float(np.abs(found - truth["crosstalk"]).max())


def line(row: Row) -> str:
    """A row of the table."""
    d = row.drawn
    told = (
        f"{row.seed:>3} ×{d['mock.slm.magnification']:<5.3g}{d['mock.camera.bit_depth']:>3} bit "
        f"{d['mock.source.peak_electrons']:>6.0f} e-  "
    )
    found = " ".join(
        f"{name} {value:.3g}"
        for name, value in (
            ("χ²", row.chi2),
            ("probe", row.probe_chi2),
            ("nrmse", row.nrmse),
            ("gain", row.gain_error),
            ("crosstalk", row.crosstalk_error),
        )
        if value is not None
    )
    return f"{told}{row.verdict:<12} {row.duration_s:>5.1f} s  {found}  {row.cause}".rstrip()


def figures(seeds: range, log: Path | None) -> list[Figure]:
    rows = []
    for seed in seeds:
        rows.append(calibrated(seed, drawn(seed)))
        print(line(rows[-1]), file=sys.stderr, flush=True)
        if log is not None:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(rows[-1]), ensure_ascii=False) + "\n")
    good = [row for row in rows if row.verdict == "in_spec"]
    share = GOAL / SEEDS
    return [
        figure("benches", len(rows), "1"),
        figure("in spec", len(good), "1", f"≥ {np.ceil(share * len(rows)):.0f}", len(good) >= share * len(rows)),
        figure("bugs", sum(row.verdict == "bug" for row in rows), "1", "0", all(row.verdict != "bug" for row in rows)),
        figure("gain, worst error of those in spec", _worst([row.gain_error for row in good]), "1"),
        figure("crosstalk, worst error of those in spec", _worst([row.crosstalk_error for row in good]), "1"),
        figure("seconds a bench", float(np.mean([row.duration_s for row in rows])), "s"),
    ]


def _worst(errors: list[float | None]) -> float:
    return max((abs(error) for error in errors if error is not None), default=float("nan"))


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", default=f"0:{SEEDS}", help="first and last seed but one, FIRST:END")
    options.add_argument("--log", type=Path, help="takes one JSON line for each bench")
    given = options.parse_args()
    first, end = (int(part) for part in given.seeds.split(":"))
    seeds = range(first, min(end, first + 4) if given.quick else end)
    show("benches", lambda: figures(seeds, given.log), given.json)


if __name__ == "__main__":
    main()

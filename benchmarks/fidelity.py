"""Does the exported twin predict what the bench measures? Held-out Transformer products, which no fit saw.

A run calibrates a bench, shows every product several times and exports; then the simulation, from the exported file
alone, computes the same products. Two questions, apart:

- noise: the scatter between showings of one product, in which nothing systematic is left, over the twin's noise;
- mean: the mean of the showings less the twin's, in its standard error: noise over the showings, and the spread of the
  benches that the calibration could have come from (24 of them, drawn from its standard errors).

The twin has the light of the calibration; a product that was shown at another (the source drifts) is computed at that.

    python benchmarks/fidelity.py [--bench mock] [--set KEY=VALUE] [--run FOLDER] [--json] [--quick]

A sealed run folder is judged instead of a new run; without repeated products it says nothing of the noise alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import Figure, figure, parser, show
from bench_paper import QUICK
from scipy import stats

from calibration.frames.products import ProductGroup
from calibration.frames.scan import Readings
from calibration.frames.schedule import ProductResult, TileScan
from calibration.machine.artefact import Calibration, load, save
from labctl.console import Console
from labctl.engine.refit import refit
from labctl.lab import Lab
from labctl.nodes.analysis import analysis_of
from labctl.nodes.registry import EXPORT
from labctl.nodes.validation import VALIDATION_NODE
from labctl.summary import reasons_out_of_spec
from labctl.workload import read_workload, write_workload
from simulation.light.accounting import Tally
from simulation.light.optics import Optics
from simulation.light.product import Bench
from simulation.light.settings import Noise

DRAWS = 1000
DEVICES = 24
SHOWINGS = 8
PRODUCTS, PRODUCTS_QUICK = 12, 4
NOISE_GOAL = 0.03
MEAN_GOAL = 0.1

Part = tuple[TileScan, Readings]


@dataclass(frozen=True)
class Compared:
    """One product, in units of its scales.

    Attributes
    ----------
    group
        Which matrix.
    measured
        (n, M) of n showings.
    twin, noise
        (M,) the twin's mean and standard deviation.
    others
        (d, M) what benches that the calibration could have come from expect, less what it expects.
    realised, predicted
        (M,) what the calibrated machine itself expects, and its standard deviation.
    """

    group: int
    measured: Any
    twin: Any
    noise: Any
    others: Any
    realised: Any
    predicted: Any


def new_run(bench: str, overrides: list[str], per_layer: int, folder: Path) -> Path:
    """Folder of a new run that shows real products several times."""
    workload = folder / "products.h5"
    labctl = [sys.executable, "-m", "labctl"]
    subprocess.run([*labctl, "sample", "-o", str(workload), "--per-layer", str(per_layer), "--quiet"], check=True)
    sampled = read_workload(workload)
    write_workload(workload, [shown_again(group) for group in sampled.groups], {"model": sampled.model})
    settings = [word for override in overrides for word in ("--set", override)]
    command = [*labctl, "measure", str(workload), "--bench", bench, *settings, "--runs", str(folder), "--quiet"]
    done = subprocess.run(command, check=False, stdout=sys.stderr)
    found = sorted(path.parent for path in folder.rglob("SEAL"))
    if not found:
        raise SystemExit(f"the run left no data (exit code {done.returncode}): labctl explain-exit {done.returncode}")
    return found[-1]


def shown_again(group: ProductGroup) -> ProductGroup:
    """All products of a group, and then all of them again and again."""
    parts = {name: np.tile(getattr(group, name), (SHOWINGS, 1)) for name in ("inputs", "outputs", "positions")}
    return replace(group, **parts)


def compare(run: Path, draws: int) -> tuple[int, float, list[Compared]]:
    """How many nodes are out of spec, `noise_error` at the light of the products, and each against the twin."""
    again = refit(Lab(Console(quiet=True)), run)
    workload = again.workload
    if workload is None:
        raise SystemExit(f"the run measured no products: labctl run show {run.name}")
    analysis, validated = analysis_of(again.walk.results), again.walk.results[VALIDATION_NODE]
    with tempfile.TemporaryDirectory() as scratch:
        calibration = load(save(again.walk.analyse(EXPORT), Path(scratch))[0])
    drift, dark_dn = validated.drift, analysis.geometry.dark_dn
    tiles = [(tile, readings.minus(dark_dn)) for tile, readings in again.walk.evidence.tiles]
    steady = [(tile, drift.steady(readings) if drift else readings) for tile, readings in tiles]
    found: list[Compared] = []
    for result in validated.results:
        group = workload.groups[result.group]
        if len(result.measured) == len(group.inputs):  # none was left out for a bad frame
            found += products(calibration, group, result, power_of(steady, result), draws)
    light = float(
        np.mean([readings.dn.mean() for _, readings in steady]) - calibration.machine.channel.offset_dn.mean()
    )
    return len(reasons_out_of_spec(again.summary.nodes)), noise_error(calibration, light), found


def power_of(tiles: list[Part], result: ProductResult) -> Any:
    """(n,) mean light of a product's frames, over that of the calibration."""
    power, frames = np.zeros(len(result.measured)), np.zeros(len(result.measured))
    for tile, readings in tiles:
        if tile.group == result.group:
            np.add.at(power, tile.product, 1.0 if readings.power is None else readings.power)
            np.add.at(frames, tile.product, 1.0)
    return power / np.maximum(frames, 1)


def products(
    calibration: Calibration, group: ProductGroup, result: ProductResult, power: Any, draws: int
) -> Iterator[Compared]:
    """The products of one group."""
    optics, noise = Optics.of(calibration), Noise((1, result.group))
    scaled = torch.from_numpy(group.weight / group.weight_scale)[None]
    vectors, same = np.unique(
        group.inputs / group.input_scales[:, None].astype(np.float32), axis=0, return_inverse=True
    )
    others = [silent(Optics.of(calibration, device_seed=seed)) for seed in range(DEVICES)]
    expected, *theirs = (drawn(o, scaled, vectors, noise) for o in (silent(optics), *others))
    apart = np.stack(theirs) - expected
    shown = Bench(optics, None, "exact").place(group.weight.shape).show(scaled, static=True)
    for i, vector in enumerate(vectors):
        of = np.nonzero(same.ravel() == i)[0]
        if not vector.any():
            continue
        p = float(power[of].mean())
        bench = Bench(replace(optics, electrons=p * optics.electrons, photons=p * optics.photons), None, "exact")
        x = torch.from_numpy(np.repeat(vector[None], draws, axis=0))[None]
        y = bench.product(x, shown, noise, Tally(), unit=torch.ones(1))[0].double().numpy()
        yield Compared(
            result.group, result.measured[of], y.mean(0), y.std(0, ddof=1), apart[:, i],
            result.realised[of].mean(0), np.sqrt(result.variance[of].mean(0)),
        )  # fmt: skip


def silent(optics: Optics) -> Optics:
    return replace(optics, electrons=0.0, photons=0.0, read_e=0.0, flicker=0.0)


def drawn(optics: Optics, scaled: torch.Tensor, vectors: Any, noise: Noise) -> Any:
    """(n, M) one draw of every product."""
    bench = Bench(optics, None, "exact")
    weights = bench.place((scaled.shape[1], scaled.shape[2])).show(scaled, static=True)
    return bench.product(torch.from_numpy(vectors)[None], weights, noise, Tally(), unit=torch.ones(1))[0].numpy()


def noise_error(calibration: Calibration, light: float) -> float:
    """Relative standard error of the noise of a reading of ``light`` [DN], as the calibration states it [1]."""
    n = calibration.machine.channel.noise
    slopes = np.array([2 * n.read_dn, light, 2 * n.flicker * light**2]) * n.stderr
    return float(np.sqrt((slopes**2).sum()) / 2 / n.variance(np.array(light)))


def figures_of(run: Path, draws: int) -> list[Figure]:
    out_of_spec, stated, found = compare(run, draws)
    if not found:
        raise SystemExit("no product of the run is without a bad frame")
    pooled = draws / (draws - 3)  # E[σ²/s²] of a variance from so many normal draws, nearly
    showings = min(len(c.measured) for c in found)
    z, shared, twin, own = [], [], [], []
    offsets: dict[int, list[float]] = {}
    for c in found:
        error = np.sqrt(c.noise**2 * (1 / len(c.measured) + 1 / draws) + (c.others**2).mean(0))
        z.append((c.measured.mean(0) - c.twin) / error)
        offsets.setdefault(c.group, []).append(z[-1].mean())
        shared.append((c.others / error).mean(1))
        twin.append((c.twin - c.realised) / c.noise)
        own.append(c.predicted / c.noise)
    # what is left of the drift is the same for all products of one moment: independent are only the matrices
    alone = np.array([np.mean(part) for part in offsets.values()])
    stderr2 = alone.var(ddof=1) / len(alone) + np.mean(np.mean(shared, axis=0) ** 2)
    offset, farthest = float(alone.mean() / np.sqrt(stderr2)), float(stats.t.isf(0.025, len(alone) - 1))
    mean = rms(z)
    figures = [
        figure("nodes out of spec: such a bench exports nothing", out_of_spec, "1", "0", out_of_spec == 0),
        figure("products compared", len(found), "1"),
        figure("mean: rms of measured − twin, in its standard errors", mean, "1", "≤ 1.1", mean <= 1 + MEAN_GOAL),
        figure(
            "mean: all products together, in standard errors from matrix to matrix (95 %)",
            offset,
            "1",
            f"|…| ≤ {farthest:.1f}",
            abs(offset) <= farthest,
        ),
        figure("mean: twin − machine's own prediction, rms, in the noise of one showing", rms(twin), "1"),
        figure("noise: machine's own prediction over twin", rms(own) / np.sqrt(pooled), "1"),
        figure("noise: standard error of the calibration's own figures, relative", stated, "1"),
    ]
    if showings > 1:
        squares = np.array([np.mean(c.measured.var(0, ddof=1) / c.noise**2) for c in found]) / pooled
        ratio = float(np.sqrt(squares.mean()))
        error = float(squares.std(ddof=1) / np.sqrt(len(squares)) / 2 / ratio)
        close = abs(ratio - 1) <= NOISE_GOAL
        figures[4:4] = [
            figure("noise: measured over twin", ratio, "1", f"1 ± {NOISE_GOAL:g}", close),
            figure("noise: standard error of that, from product to product", error, "1"),
        ]
    return figures


def rms(parts: list[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(np.concatenate(parts)))))


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--bench", default="mock", help="station file, or the name of a shipped one")
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the station")
    options.add_argument("--run", type=Path, help="a sealed run folder with measured products")
    options.add_argument("--per-layer", type=int, help=f"products of each layer ({PRODUCTS})")
    given = options.parse_args()
    torch.set_num_threads(1)
    per_layer = given.per_layer or (PRODUCTS_QUICK if given.quick else PRODUCTS)
    cut = [*QUICK] if given.quick and given.bench == "paper" else []
    with tempfile.TemporaryDirectory() as scratch:
        run = given.run or new_run(given.bench, cut + given.set, per_layer, Path(scratch))
        show("fidelity", lambda: figures_of(run, DRAWS), given.json)


if __name__ == "__main__":
    main()

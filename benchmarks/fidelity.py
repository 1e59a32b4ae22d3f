"""Does the exported twin predict what the bench measures? Held-out Transformer products of a run, no fit saw them.

The run calibrates a bench, measures real products and exports; then the simulation, from the exported file alone,
computes the same products: its mean against the readings (in standard errors, products being independent), and the
scatter of the readings about it against its noise and the spread of the benches that the calibration allows. A run
that exists can be judged instead of a new one.

    python benchmarks/fidelity.py [--bench mock] [--run FOLDER] [--per-layer 33] [--json] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibration.artefact import load
from calibration.schedule import ProductResult
from labctl.console import Console
from labctl.lab import Lab
from labctl.pipeline.refit import refit
from labctl.workload import Workload
from simulation.light.accounting import Tally
from simulation.light.optics import Optics
from simulation.light.product import Bench, Noise

DRAWS = 400
DEVICES = 24
NOISE_GOAL = 0.03
MEAN_GOAL = 2.0  # standard errors: 95 % of all true predictions

Figure = dict[str, Any]


def new_run(bench: str, per_layer: int, runs: Path) -> Path:
    """Folder of a new demo run."""
    command = [sys.executable, "-m", "labctl", "demo", "--bench", bench, "--per-layer", str(per_layer), "--quiet"]
    done = subprocess.run([*command, "--runs", str(runs)], check=False)
    found = sorted(path.parent for path in runs.rglob("SEAL"))
    if not found:
        raise SystemExit(f"the run left no data (exit code {done.returncode}): labctl explain-exit {done.returncode}")
    return found[-1]


def twin(bench: Bench, workload: Workload, result: ProductResult, draws: int, seed: int) -> tuple[Any, Any]:
    """Mean and standard deviation (n, M) of the simulated products of a group, in the units of ``result``."""
    group = workload.groups[result.group]
    weights = bench.place(group.weight.shape).show(
        torch.from_numpy(group.weight / group.weight_scale)[None], static=True
    )
    x = torch.from_numpy(group.inputs / group.input_scales[:, None].astype(np.float32))[None]
    noise = Noise((seed, result.group))
    total, squares = np.zeros(group.outputs.shape), np.zeros(group.outputs.shape)
    for _ in range(draws):
        y = bench.product(x, weights, noise, Tally(), unit=torch.ones(1))[0].numpy() - result.realised
        total += y
        squares += y**2
    mean = total / draws
    return mean + result.realised, np.sqrt((squares / draws - mean**2) * draws / (draws - 1))


def unknown(devices: list[Bench], workload: Workload, result: ProductResult, mean: Any) -> Any:
    """(n, M) standard deviation of the expectation over benches that the calibration could have come from."""
    found = [twin(device, workload, result, 2, seed=1)[0] - mean for device in devices]
    return np.sqrt(np.mean(np.square(found), axis=0))


def figures_of(run: Path, draws: int) -> list[Figure]:
    exported = sorted((run / "export").glob("*.calib.h5"))
    if not exported:
        return [figure("the run is out of spec and exported nothing", float("nan"), "", "", None)]
    calibration = load(exported[-1])
    bench = Bench(Optics.of(calibration), None, "exact")
    devices = [
        Bench(
            replace(Optics.of(calibration, device_seed=d), electrons=0.0, photons=0.0, read_e=0.0, intensity=0.0),
            None,
            "exact",
        )
        for d in range(DEVICES)
    ]
    again = refit(Lab(Console(quiet=True)), run)
    validated, workload = again.measured.validated, again.workload
    assert validated is not None
    assert workload is not None
    residuals, z, alone, systematic, products = [], [], [], [], 0
    for result in validated.results:
        mean, noise = twin(bench, workload, result, draws, seed=1)
        spread = np.hypot(noise * np.sqrt(1 + 1 / draws), unknown(devices, workload, result, mean))
        lit = (noise > 0).all(1)
        alone.append(((result.measured - mean) / noise)[lit].ravel())
        residuals.append(((result.measured - mean) / spread)[lit].mean(1))  # a product's outputs share its frames
        z.append(((result.measured - mean) / spread)[lit].ravel())
        systematic.append(((mean - result.realised) / spread)[lit].ravel())
        products += int(lit.sum())
    per_product, pooled = np.concatenate(residuals), np.concatenate(z)
    offset = float(per_product.mean() / (per_product.std(ddof=1) / np.sqrt(len(per_product))))
    ratio, only = (float(np.sqrt(np.mean(np.square(part)))) for part in (pooled, np.concatenate(alone)))
    robust = float(np.median(np.abs(pooled)) / 0.674490)
    own = float(np.sqrt(np.mean(np.concatenate([r.z for r in validated.results]) ** 2)))
    differs = float(np.sqrt(np.mean(np.concatenate(systematic) ** 2)))
    true, close = abs(offset) <= MEAN_GOAL, abs(ratio - 1) <= NOISE_GOAL
    return [
        figure("products compared", products, "1", "", None),
        figure("mean: measured − twin, in its standard error", offset, "1", f"|…| ≤ {MEAN_GOAL:g}", true),
        figure("mean: twin − machine's own prediction, rms, in σ", differs, "1", "", None),
        figure("scatter: measured over twin", ratio, "1", f"1 ± {NOISE_GOAL:g}", close),
        figure("scatter: measured over the twin's noise alone", only, "1", "", None),
        figure("scatter: measured over the machine's own prediction", own, "1", "", None),
        figure("the first from the median deviation", robust, "1", "", None),
        figure("standard error of these ratios", float(1 / np.sqrt(2 * len(pooled))), "1", "", None),
    ]


def figure(name: str, value: float, unit: str, goal: str, reached: bool | None) -> Figure:
    return {"name": name, "value": round(value, 4), "unit": unit, "goal": goal, "reached": reached}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", default="mock", help="station file, or the name of a shipped one")
    parser.add_argument("--run", type=Path, help="a sealed run folder with measured products")
    parser.add_argument("--per-layer", type=int, default=33)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--quick", action="store_true", help="fewer products and draws, for CI")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        run = options.run or new_run(options.bench, 8 if options.quick else options.per_layer, Path(scratch))
        figures = figures_of(run, 100 if options.quick else DRAWS)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "bench": str(options.run or options.bench),
    }
    if options.json:
        print(json.dumps({"name": "fidelity", "machine": machine, "figures": figures}, ensure_ascii=False))
        return
    for entry in figures:
        verdict = {True: "reached", False: "MISSED", None: ""}[entry["reached"]]
        print(f"{entry['name']:<52}{entry['value']:>10.4g} {entry['unit']:<3}{entry['goal']:>10}  {verdict}")


if __name__ == "__main__":
    main()

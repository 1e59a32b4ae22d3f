"""Is the fold exact? Folded products against the passes they stand for, one count after the other, on every encoding.

For light from 0.1 to 1000 photons per MAC: worst deviation of the expectation, variance ratio over all draws, and the
two-sample Kolmogorov distance of the worst output, with the distance that chance alone exceeds once in a thousand runs.

    python benchmarks/fold.py [--json] [--quick] [--draws 100000]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from scipy import stats
from simulate import bench, figure

from calibration.machine.encoding import encoding
from simulation.light.accounting import Tally
from simulation.light.optics import Optics, ideal, paper
from simulation.light.pass_by_pass import pass_by_pass
from simulation.light.product import Bench
from simulation.light.settings import Noise

OUTPUTS, INPUTS, CHUNK = 12, 40, 20_000
LEVELS = 0.1, 1.0, 10.0, 1000.0
CASES = {
    "linear, sign split, ideal": (ideal(), False),
    "linear, sign split, paper": (paper(), False),
    "attention, sign split, paper": (paper(), True),
    "linear, offset, paper": (replace(paper(), encoding=encoding("offset"), per_pass=False), False),
    "linear, sign split, bench": (Optics.of(bench(8, 24)), False),
    "attention, sign split, bench": (Optics.of(bench(8, 24)), True),
    "linear, offset, bench": (replace(Optics.of(bench(8, 24)), encoding=encoding("offset")), False),
}


def folded(optics: Optics, weight: Any, x: Any, photons_per_mac: float | None, noise: Noise, attention: bool) -> Any:
    simulated = Bench(optics, photons_per_mac, "exact")
    shown = simulated.place(weight.shape).show(torch.from_numpy(weight).float()[None], static=not attention)
    vectors, unit = torch.from_numpy(x)[None], torch.ones(1)
    return simulated.product(vectors, shown, noise, Tally(), unit=unit, attention=attention)[0].double().numpy()


def compare(name: str, optics: Optics, attention: bool, draws: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    weight = np.clip(rng.standard_normal((OUTPUTS, INPUTS)) / 2.5, -1, 1)
    x = rng.standard_normal((1, INPUTS)).astype(np.float32)
    still = replace(optics, spread=(0.0, 0.0), read_e=0.0, flicker=0.0, electrons=0.0, photons=0.0)
    exact = pass_by_pass(still, weight, x, None)
    off = np.abs(folded(still, weight, x, None, Noise((0, 0)), attention) - exact).max() / exact.std()
    figures = [figure(f"{name}: expectation, worst deviation over spread", 1e6 * float(off), "1e-6", 30)]
    for level in LEVELS:
        noise, ours, theirs = Noise((1, 2)), [], []
        for _ in range(0, draws, CHUNK):
            many = np.repeat(x, min(CHUNK, draws), axis=0)
            ours.append(folded(optics, weight, many, level, noise, attention))
            theirs.append(pass_by_pass(optics, weight, many, rng, photons_per_mac=level, attention=attention))
        a, b = np.concatenate(ours), np.concatenate(theirs)
        # equal whole counts differ by float rounding: jitter far below a count keeps such ties from mattering
        jitter = rng.uniform(-1e-3, 1e-3, (2, *a.shape)) * b.std(0)
        distance = max(
            stats.ks_2samp(p, q).statistic for p, q in zip((a + jitter[0]).T, (b + jitter[1]).T, strict=True)
        )
        chance = float(stats.kstwobign.isf(1e-3 / OUTPUTS) * np.sqrt(2 / len(a)))
        label = f"{name}, {level:g} photons/MAC"
        figures.append(figure(f"{label}: variance off by", 100 * abs(float((a.var(0) / b.var(0)).mean()) - 1), "%", 1))
        figures.append(
            figure(f"{label}: Kolmogorov distance, worst output", 1e3 * float(distance), "1e-3", round(1e3 * chance, 2))
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--quick", action="store_true", help="a fifth of the draws, for CI")
    parser.add_argument("--draws", type=int, default=100_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    draws = options.draws // 5 if options.quick else options.draws
    figures = [f for name, (optics, attention) in CASES.items() for f in compare(name, optics, attention, draws)]
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__, "draws": draws}
    if options.json:
        print(json.dumps({"name": "fold", "machine": machine, "figures": figures}, ensure_ascii=False))
        return
    for entry in figures:
        verdict = {True: "reached", False: "MISSED", None: ""}[entry["reached"]]
        print(f"{entry['name']:<86}{entry['value']:>8.3f} {entry['unit']:<5}{entry['goal']:>7}  {verdict}")


if __name__ == "__main__":
    main()

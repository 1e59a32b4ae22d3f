"""Does the bench of the paper calibrate in spec, and are held-out products predicted down to the noise floor?

The mock preset ``paper`` is calibrated and shows random signed products twice. The noise floor is the rms of the
noise predicted for the decoded products: read, shot and intensity noise, and no error of any parameter. The
difference of the two readings, over √2, measures the same without any model. ``--quick`` cuts the panels down and
leaves the physics: with 48 columns for 128 the errors of single macropixels average less.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from calibration.frames.products import ProductGroup
from calibration.machine.machine import Machine
from labctl.archive import RunWriter
from labctl.bench.acquirer import Acquirer
from labctl.bench.bench import open_bench
from labctl.engine.ledger import Ledger
from labctl.engine.walk import walk_on
from labctl.nodes.analysis import analysis_of
from labctl.nodes.registry import MACHINE, with_parents
from labctl.nodes.validation import VALIDATION_NODE, Validated, validation_of
from labctl.station.loading import find_station, load_station

PRODUCTS = 400
QUICK = (
    "layout.rows=48", "layout.columns=48", "mock.slm.rows=360", "mock.slm.cols=400", "mock.display.rows=360",
    "mock.display.cols=400", "mock.camera.rows=380", "mock.camera.cols=420",
)  # fmt: skip
STEADY = ("mock.drift.power_walk_per_sqrt_s=0", "mock.drift.power_flicker_rms=0")


def figures(quick: bool) -> list[dict[str, Any]]:
    """For the benchmark of the whole calibration: the paper's bench, with its drift and without."""
    cut = QUICK if quick else ()
    found = []
    for name, overrides in (("paper", cut), ("paper, steady source", (*cut, *STEADY))):
        found += [{**figure, "name": f"{name}: {figure['name']}"} for figure in judge(overrides)]
    return found


def judge(overrides: tuple[str, ...] = (), seed: int = 0, products: int = PRODUCTS) -> list[dict[str, Any]]:
    """Calibrate, show the products twice, compare."""
    loaded = load_station(find_station("paper"), (*overrides, f"mock.seed={seed}"))
    station = loaded.station
    groups = _groups(station.layout.rows, station.layout.columns, products, seed)
    ledger = Ledger()
    with tempfile.TemporaryDirectory() as folder, RunWriter.create(Path(folder), "benchmark", loaded) as run:
        with open_bench(station) as bench:
            acquirer = Acquirer(bench, run, station.acquisition)
            walk = walk_on(acquirer, station, with_parents([MACHINE]), ledger, groups)
            analysis, calibrated, shows = analysis_of(walk.results), walk.evidence, []
            for _ in range(2):
                walk.evidence = replace(calibrated, tiles=[], references=dict(calibrated.references))
                walk.read(VALIDATION_NODE.steps(walk.setting, walk.results))
                shows.append(walk.evidence)
        gate, geometry = station.limits, analysis.geometry
        first, again = (validation_of(analysis.machine, geometry, groups, show, gate, []) for show in shows)
        quiet = validation_of(noise_only(analysis.machine), geometry, groups, shows[0], gate, [])
    floor = _rms(quiet, lambda r: np.sqrt(r.variance))
    pairs = [(a, b) for a, b in zip(first.results, again.results, strict=True) if a.measured.shape == b.measured.shape]
    repeated = np.concatenate([(a.measured - b.measured).ravel() for a, b in pairs]) / np.sqrt(2)
    v = first.validation
    ratio = _rms(first, lambda r: r.measured - r.realised) / floor
    return [
        _figure("rms over the predicted noise floor", ratio, "1", "≤ 1.05", ratio <= 1.05),
        _figure("χ²/dof", v.chi2_per_dof, "1", "0.97–1.03", 0.97 <= v.chi2_per_dof <= 1.03),
        _figure("coverage of the 95 % interval", v.coverage95, "1", "0.93–0.97", 0.93 <= v.coverage95 <= 0.97),
        _figure("bad frames", len(v.bad_frames), "1", "0", not v.bad_frames),
        _figure("rms of the difference of two readings / √2 over the predicted noise floor",
                float(np.sqrt(np.mean(repeated**2))) / floor, "1"),
        _figure("nodes out of spec", len(ledger.out_of_spec), "1", "0", not ledger.out_of_spec),
    ]  # fmt: skip


def noise_only(machine: Machine) -> Machine:
    """The machine as if its parameters had no error: what it predicts is noise alone."""
    channel = machine.channel
    couplings = channel.couplings and replace(channel.couplings, stderr=np.zeros_like(channel.couplings.stderr))
    silent = replace(channel, gain_stderr_dn=np.zeros_like(channel.gain_stderr_dn), couplings=couplings)
    return replace(machine, channel=silent)


def _groups(rows: int, columns: int, products: int, seed: int) -> tuple[ProductGroup, ...]:
    """A signed matrix under dense vectors, as Q·Kᵀ, and one under sparse positive ones, as a layer after ReLU."""
    rng = np.random.default_rng(seed)
    groups = []
    for name, sparse in (("qk", False), ("linear", True)):
        weight = rng.standard_normal((rows, columns)).astype(np.float32)
        inputs = rng.standard_normal((products, columns))
        inputs = (np.maximum(inputs, 0) * (rng.random(inputs.shape) < 0.4) if sparse else inputs).astype(np.float32)
        positions = np.stack([np.zeros(products, np.int64), np.arange(products)], axis=1)
        scale = float(np.percentile(np.abs(weight), 99))
        groups.append(ProductGroup(name, name, 0, weight, inputs, inputs @ weight.T, positions, scale))
    return tuple(groups)


def _rms(validated: Validated, of: Any) -> float:
    return float(np.sqrt(np.mean(np.concatenate([of(r).ravel() for r in validated.results]) ** 2)))


def _figure(name: str, value: float, unit: str, goal: str = "", reached: bool | None = None) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "goal": goal, "reached": reached}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--quick", action="store_true", help="panels cut down to 48 × 48 macropixels")
    options = parser.parse_args()
    document = {"name": "paper", "machine": platform.platform(), "figures": figures(options.quick)}
    if options.json:
        print(json.dumps(document, ensure_ascii=False))
        return
    for f in document["figures"]:  # type: ignore[union-attr]
        print(f"{f['name']:<95} {f['value']:8.4g}   {f['goal']:<10} {'' if f['reached'] is None else f['reached']}")


if __name__ == "__main__":
    main()

"""Which share of bad frames is found, by kind and with the right reason, and how many good ones are accused?

Two parts. Readings of a channel written here, photon by photon, with 1 % of the frames replaced by each kind of fault,
at four light levels from less than one photon per output to full wells. And the mock bench, through its fault script:
the pixels are faulty, the pipeline reads them, and what changed is known from the same bench without faults.

A fault counts when its effect is *detectable*: the light shown differs from the light asked for by so much that one of
the three tests (χ² of the frame, common factor, farthest output; each with 1e-7 false alarms) has a power of 99.9 %.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from calibration.fit.bad_frames import FALSE_ALARM, find_bad_frames
from calibration.frames.products import ProductGroup
from calibration.frames.schedule import predicted
from calibration.machine.noise import Noise
from labctl.__main__ import main as labctl
from labctl.archive import RunReader, find_run
from labctl.console import Console
from labctl.engine.refit import refit
from labctl.lab import Lab
from labctl.nodes.analysis import analysis_of
from labctl.nodes.evidence import PRODUCTS
from labctl.workload import write_workload

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
PROBES = ("gain", "crosstalk", "holdout")
MOCK_KINDS = {  # kind → word of the fault script, and the reasons that are right
    "stale": ("stale", ("stale",)),
    "swapped": ("swap", ("stale", "swapped")),  # frames that are read alone: the one before, twice in a row
    "garbage rows": ("garbage", ("garbage", "partial")),
    "flash": ("saturation", ("saturated",)),
}
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
    found = {bad.index: bad.reason for bad in find_bad_frames(dn, asked, np.zeros(OUTPUTS), noise, saturated)}
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
    change, rho2 = shown - asked, noise.flicker**2
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
    return len(find_bad_frames(dn, asked, np.zeros(OUTPUTS), noise, np.zeros(frames, np.bool_)))


def channel_figures(quick: bool) -> list[dict[str, Any]]:
    """Detection, naming and false alarms of readings made here."""
    frames = 4_000 if quick else 20_000
    out = []
    for kind in REASON:
        total = Tally()
        for seed, (_, photons, read_e, rho) in enumerate(BENCHES):
            total += channel_tally(kind, photons, read_e, rho, frames, seed)
        out += [
            figure(f"{kind}: found of {total.detectable} detectable", total.found / max(total.detectable, 1), 0.99),
            figure(f"{kind}: named rightly", total.named / max(total.found, 1), 0.95),
            figure(f"{kind}: good frames accused", total.accused / total.good, 0.001, upper=True),
        ]
    for seed, (name, photons, read_e, rho) in enumerate(BENCHES):
        rate = clean_alarms(photons, read_e, rho, 5 * frames, 100 + seed) / (5 * frames)
        out.append(figure(f"false alarms, {name}", rate, 0.001, upper=True))
    return out


def mock_figures(frames_apart: int) -> list[dict[str, Any]]:
    """The mock bench through the whole pipeline: every kind of fault in the products, then in the probe scans.

    What is detectable follows from what the same bench reads without faults; in a fitted scan, where a frame and its
    complement share the blame, from half of it.
    """
    out = []
    with tempfile.TemporaryDirectory() as folder:
        bench = _MockBench(Path(folder))
        clean = bench.run("clean", [])
        again = refit(Lab(Console(quiet=True)), clean.path)
        analysis = analysis_of(again.walk.results)
        machine, geometry = analysis.machine, analysis.geometry
        channel = machine.channel
        tiles = [readings.minus(geometry.dark_dn) for _, readings in again.walk.evidence.tiles]
        probes = {name: again.walk.evidence.scans[name].minus(geometry.dark_dn) for name in PROBES}
        asked = {PRODUCTS: np.concatenate([predicted(machine, readings.scan)[0] for readings in tiles])}
        asked |= {name: predicted(machine, scan.scan)[0] for name, scan in probes.items()}
        tally = {kind: Tally() for kind in MOCK_KINDS}
        for where in ([PRODUCTS], list(PROBES)):
            script: dict[int, str] = {}
            for scan in where:
                sequence = _frames(clean, scan, "sequence")
                chosen = range(frames_apart // 2, len(sequence) - 2, frames_apart if scan == PRODUCTS else 40)
                for n, i in enumerate(chosen):
                    script[int(sequence[i])] = list(MOCK_KINDS)[n % len(MOCK_KINDS)]
            words = [f"{MOCK_KINDS[kind][0]}@{at}" for at, kind in sorted(script.items())]
            faulty = bench.run(where[0], words)
            named = {(f.scan, f.index): f.reason for f in faulty.summary().bad_frames}
            for scan in where:
                tally = _count(
                    tally, clean, faulty, scan, script, named, asked[scan] - channel.offset_dn, channel.noise
                )
    for kind, t in tally.items():
        out += [
            figure(f"mock, {kind}: found of {t.detectable} detectable", t.found / max(t.detectable, 1), 0.99),
            figure(f"mock, {kind}: named rightly", t.named / max(t.found, 1), 0.95),
        ]
    accused, good = (sum(getattr(t, name) for t in tally.values()) for name in ("accused", "good"))
    out.append(figure(f"mock: accused of {good} good frames", accused / max(good, 1), 0.001, upper=True))
    return out


def _count(
    tally: dict[str, Tally],
    clean: RunReader,
    faulty: RunReader,
    scan: str,
    script: Mapping[int, str],
    named: Mapping[tuple[str, int], str],
    light: Float,
    noise: Noise,
) -> dict[str, Tally]:
    """Add one scan of the mock bench to the tally."""
    before, after = (_frames(run, scan, "readings_dn") for run in (clean, faulty))
    sequence = _frames(clean, scan, "sequence")
    saturated = _frames(faulty, scan, "saturated_fraction") > 0
    change = (after - before) * (1.0 if scan == PRODUCTS else 0.5)
    kinds, kind = [], ""
    for number in sequence:  # a swap changes the next frame as well
        kind = script.get(int(number), kind)
        kinds.append(kind)
    for i in range(len(sequence)):
        found = named.get((scan, i))
        if not change[i].any():
            first = next(iter(tally))
            tally[first] += Tally(good=1, accused=int(found is not None))
            continue
        loud = bool(saturated[i]) or detectable(light[i] + change[i], np.maximum(light[i], 0), noise)
        right = found in MOCK_KINDS[kinds[i]][1] or (found == "saturated" and bool(saturated[i]))
        tally[kinds[i]] += Tally(1, int(loud), int(loud and found is not None), int(loud and right))
    return tally


class _MockBench:
    """A small station and a workload in a folder; runs `labctl measure` on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "small.toml").write_text(SMALL, encoding="utf-8")
        rng = np.random.default_rng(7)
        weight = rng.standard_normal((32, 64)).astype(np.float32)
        inputs = rng.standard_normal((64, 64)).astype(np.float32)
        positions = np.stack([np.zeros(64, np.int64), np.arange(64)], axis=1)
        group = ProductGroup("random", "linear", 0, weight, inputs, inputs @ weight.T, positions, 2.5)
        write_workload(folder / "products.h5", [group], {"model": "random", "text": "none", "seed": 7})

    def run(self, name: str, faults: list[str]) -> RunReader:
        runs = self.folder / name
        with contextlib.redirect_stdout(sys.stderr):
            labctl(
                ["measure", str(self.folder / "products.h5"), "--bench", str(self.folder / "small.toml"), "--quiet",
                 "--runs", str(runs), "--set", f"mock.faults={json.dumps(faults)}", "--set",
                 "acquisition.play_lists=false"]
            )  # fmt: skip
        return RunReader(find_run(runs, "latest"))


def _frames(run: RunReader, scan: str, name: str) -> NDArray[Any]:
    """One array of a scan's segments, in the order shown, without the reference frames between."""
    kind = "products" if scan == PRODUCTS else "probe"
    segments = [s.arrays for s in run.segments(kind) if scan == PRODUCTS or s.attrs["scan"] == scan]
    return np.concatenate([arrays[name][arrays["reference"] == 0] for arrays in segments])


def figure(name: str, value: float, goal: float, *, upper: bool = False) -> dict[str, Any]:
    """One line of the document; ``upper`` goals are bounds from above."""
    reached = value <= goal if upper else value >= goal
    return {"name": name, "value": value, "unit": "1", "goal": f"{'≤' if upper else '≥'} {goal:g}", "reached": reached}


def figures(quick: bool) -> list[dict[str, Any]]:
    """Both parts."""
    return channel_figures(quick) + mock_figures(frames_apart=16 if quick else 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--quick", action="store_true", help="fewer frames, for CI")
    options = parser.parse_args()
    machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    document = {"name": "bad_frames", "machine": machine, "figures": figures(options.quick)}
    if options.json:
        print(json.dumps(document, ensure_ascii=False))
        return
    for entry in document["figures"]:
        verdict = "reached" if entry["reached"] else "MISSED"
        print(f"{entry['name']:<52}{entry['value']:>10.5f}{entry['goal']:>10}  {verdict}")


if __name__ == "__main__":
    main()

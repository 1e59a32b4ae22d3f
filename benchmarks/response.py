"""Does fitting somebody else's bench find what is there, refuse what is not, and stay cheap?

Four questions: the measured LCD-camera file (rows 0–1999 fitted, 2000–2999 predicted; skipped where the file is not
beside the project), benches with one gain and pure shot noise (does the fit say exactly that?), faults put into a
drifting session (are they found by index?), and cost: time against rows, peak memory, and time against
`scipy.optimize.least_squares` on the largest problem that it finishes in the time given.

    python benchmarks/response.py [--json] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.optimize import least_squares

from calibration.errors import CalibrationError
from calibration.response.fit import fit_response
from calibration.response.observations import Observations
from calibration.response.predict import predict

MEASURED = Path(__file__).parents[2] / "shared/data/measured/lcd_camera_36x4_train.npz"
EXACTLY = {
    "gain": "scalar",
    "crosstalk": "none",
    "nonlinearity": "none",
    "noise": "shot",
    "common noise": "none",
    "drift": "still",
}
PHOTONS, K, OFFSET = 2e4, 0.5, 100.0


def figure(name: str, value: float, unit: str, goal: str, reached: bool | None) -> dict[str, Any]:
    return {"name": name, "value": round(float(value), 4), "unit": unit, "goal": goal, "reached": reached}


def bench(rng: np.random.Generator, m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (M, N) and gain matrix (M, N) with separable gains of 5 % and neighbours' crosstalk of 1 %."""
    weights = rng.random((m, n))
    gain = np.outer(1 + 0.05 * rng.normal(size=m), 1 + 0.05 * rng.normal(size=n)) * weights
    mix = np.eye(m) + 0.01 * (np.eye(m, k=1) + np.eye(m, k=-1))
    return weights, mix @ gain / (0.25 * n)


def record(rng: np.random.Generator, gain: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    x = rng.random((rows, gain.shape[1]))
    return x, OFFSET + K * rng.poisson(PHOTONS * x @ gain.T)


def measured() -> list[dict[str, Any]]:
    if not MEASURED.exists():
        return [figure("measured file (not beside the project)", float("nan"), "%", "≤ 0.50 on every output", None)]
    with np.load(MEASURED, allow_pickle=False) as file:
        whole = Observations(file["inputs"], file["weights"], file["readings"])
    fit = fit_response(whole.between(0, 2000))
    found = predict(fit.response, whole.between(2000, 3000))
    rms, frozen, cover = found.rms_percent_of_range, found.rms_percent_of_range_frozen, found.coverage95
    assert rms is not None
    assert frozen is not None
    assert cover is not None
    inside = bool(cover.min() >= 0.93 and cover.max() <= 0.97)
    return [
        figure(
            "measured file, worst output, drift followed", rms.max(), "% of range", "≤ 0.50", bool(rms.max() <= 0.5)
        ),
        figure("measured file, worst output, frozen", frozen.max(), "% of range", "", None),
        figure("measured file, least coverage of the 95 % interval", 100 * cover.min(), "%", "93 … 97", inside),
        figure("measured file, largest coverage", 100 * cover.max(), "%", "93 … 97", inside),
        figure("measured file, rows called bad", len(found.bad_rows), "of 1000", "", None),
    ]


def controls(benches: int) -> list[dict[str, Any]]:
    exact, bad, rows = 0, 0, 0
    for seed in range(benches):
        rng = np.random.default_rng(seed)
        n, m = int(rng.integers(4, 40)), int(rng.integers(1, 9))
        weights = rng.random((m, n))
        x, y = record(rng, weights / (0.25 * n), int(rng.integers(300, 1500)))
        fit = fit_response(Observations(x, weights, y))
        exact += {name: choice.chosen for name, choice in fit.structure.items()} == EXACTLY
        bad, rows = bad + len(fit.bad_rows), rows + len(x)
    refused = 0
    rng = np.random.default_rng(1)
    weights = rng.random((4, 12))
    x, y = record(rng, weights / 3, 600)
    clipped = np.minimum(y, np.quantile(y, 0.7))
    for wrong in (OFFSET + rng.normal(size=y.shape), rng.permutation(y), np.roll(y, 1, axis=0), clipped):
        try:
            fit_response(Observations(x, weights, wrong))
        except CalibrationError:
            refused += 1
    false = 100 * (benches - exact) / benches
    return [
        figure(f"one gain, shot noise: something else found, of {benches} benches", false, "%", "≤ 1", false <= 1),
        figure("the same: good rows called bad", 100 * bad / rows, "%", "≤ 0.1", 100 * bad / rows <= 0.1),
        figure("no light, shuffled, shifted, saturated: refused", refused, "of 4", "4", refused == 4),
    ]


def faults(rows: int) -> list[dict[str, Any]]:
    """1 % each of stale, swapped, dropped, flickering rows and swapped outputs in a session with drift and a jump."""
    rng = np.random.default_rng(2)
    weights, gain = bench(rng, 4, 12)
    response = fit_response(Observations(*_with(rng, weights, gain, 1500))).response
    x, _, y = _with(rng, weights, gain, rows)
    course = 1 + 0.01 * np.sin(np.arange(rows) / 200) + 0.03 * (np.arange(rows) > 0.6 * rows)
    y = OFFSET + (y - OFFSET) * course[:, None]
    spoiled = y.copy()
    where = rng.choice(np.arange(2, rows - 2, 3), 5 * (rows // 100), replace=False)
    for kind, i in zip(np.arange(len(where)) % 5, where, strict=True):
        if kind == 0:
            spoiled[i] = y[i - 1] + 20 * rng.normal(size=4)
        elif kind == 1:
            spoiled[[i, i + 1]] = y[[i + 1, i]]
        elif kind == 2:
            spoiled[i] = 0
        elif kind == 3:
            spoiled[i] = OFFSET + 1.1 * (y[i] - OFFSET)
        else:
            spoiled[i] = y[i][[1, 0, 3, 2]]
    noise = np.sqrt(K * np.maximum(y - OFFSET, 1))
    large = set(np.nonzero(np.sqrt((((spoiled - y) / noise) ** 2).sum(1)) > 6)[0].tolist())
    changed = set(np.nonzero((spoiled != y).any(1))[0].tolist())
    found = {row.index for row in predict(response, Observations(x, weights, spoiled)).bad_rows}
    caught, false = 100 * len(large & found) / len(large), 100 * len(found - changed) / (rows - len(changed))
    return [
        figure(f"bad rows found, of {len(large)} that change by more than 6 σ", caught, "%", "≥ 99", caught >= 99),
        figure("good rows called bad in the same session", false, "%", "≤ 0.1", false <= 0.1),
    ]


def _with(
    rng: np.random.Generator, weights: np.ndarray, gain: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = record(rng, gain, rows)
    return x, weights, y


def write_large(path: Path, rows: int, m: int, n: int) -> None:
    rng = np.random.default_rng(3)
    weights, gain = bench(rng, m, n)
    with h5py.File(path, "w") as file:
        file["weights"] = weights
        inputs = file.create_dataset("inputs", (rows, n), "f4")
        readings = file.create_dataset("readings", (rows, m), "u2")
        for start in range(0, rows, 20000):
            x = rng.random((min(20000, rows - start), n)).astype("f4")
            light = PHOTONS * x @ gain.T
            shot = np.sqrt(light) * rng.normal(size=light.shape)  # at 2e4 photons Poisson is normal
            inputs[start : start + len(x)] = x
            readings[start : start + len(x)] = np.round(OFFSET + K * np.maximum(light + shot, 0))


def fit_large(path: str) -> None:
    """In a process of its own: prints processor time [s], peak memory [MiB] and the structure."""
    with h5py.File(path) as file:
        start = time.process_time()
        fit = fit_response(Observations(file["inputs"], file["weights"][()], file["readings"]))
        took = time.process_time() - start
    chosen = fit.structure["gain"].chosen, fit.structure["crosstalk"].chosen
    print(json.dumps({"s": took, "mib": peak_mib(), "chosen": chosen}))


def peak_mib() -> float:
    """Of this process; on Linux not from ``getrusage``, which counts the parent's memory before exec, too."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes, on macOS


def cost(ladder: tuple[int, ...], m: int, n: int) -> list[dict[str, Any]]:
    took, found = [], []
    for rows in ladder:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "large.h5"
            write_large(path, rows, m, n)
            code = f"import response; response.fit_large({str(path)!r})"
            here = str(Path(__file__).parent)
            child = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=here)
        result = json.loads(child.stdout)
        took.append(result["s"])
        right = result["chosen"] == ["separable", "neighbours"]
        found.append(figure(f"{rows} × {m} readings, N = {n}: processor time", result["s"], "s", "", None))
        found.append(figure("  structure is separable with neighbours", float(right), "1", "1", right))
        found.append(figure("  peak memory", result["mib"], "MiB", "< 1024", result["mib"] < 1024))
    design = np.stack([np.ones(len(ladder)), ladder], axis=1) / np.array(took)[:, None]
    line = np.linalg.lstsq(design, np.ones(len(ladder)), rcond=None)[0]
    off = float(np.abs(design @ line - 1).max())
    found.append(figure("largest deviation of the time from fixed + rows", 100 * off, "%", "≤ 15", off <= 0.15))
    return found


def against_scipy(limit_s: float, m: int, n: int) -> list[dict[str, Any]]:
    """The same model (separable, neighbours' crosstalk, offsets) handed to a general optimiser; processor time."""
    rows, theirs = 125, 0.0
    ours, reached = float("nan"), 0
    while theirs < limit_s / 1.7:  # half as many rows again take half as much time again or a little more
        rng = np.random.default_rng(4)
        weights, gain = bench(rng, m, n)
        x, y = record(rng, gain, rows)
        scale = np.sqrt(np.maximum(y, 1.0))

        def residual(p: np.ndarray, x: np.ndarray = x, y: np.ndarray = y, w: np.ndarray = weights) -> np.ndarray:
            z = (x * p[:n]) @ w.T * p[n : n + m]
            mixed = z.copy()
            mixed[:, 1:] += p[-2] * z[:, :-1]
            mixed[:, :-1] += p[-1] * z[:, 1:]
            return ((mixed + p[n + m : n + 2 * m] - y) / scale).ravel()  # noqa: B023 - called within the turn

        first = np.concatenate([np.full(n, PHOTONS * K / (0.25 * n)), np.ones(m), np.full(m, OFFSET), np.zeros(2)])
        start = time.process_time()
        least_squares(residual, first, x_scale="jac")
        theirs = time.process_time() - start
        start = time.process_time()
        fit_response(Observations(x, weights, y))
        ours, reached = time.process_time() - start, rows
        rows += rows // 2
    return [
        figure(f"scipy's least_squares, {reached} × {m} readings, N = {n}", theirs, "s", "", None),
        figure("this fit with its selection, the same data", ours, "s", "", None),
        figure("times faster", theirs / ours, "1", "≥ 20", theirs / ours >= 20),
    ]


def figures(quick: bool) -> list[dict[str, Any]]:
    ladder = (5_000, 10_000, 20_000) if quick else (250_000, 500_000, 1_000_000)
    return [
        *measured(),
        *controls(10 if quick else 200),
        *faults(1000 if quick else 5000),
        *cost(ladder, 32 if quick else 256, 64),
        *(against_scipy(6, 16, 32) if quick else against_scipy(120, 256, 64)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--quick", action="store_true", help="smaller, for CI")
    options = parser.parse_args()
    machine = {
        "processor": platform.processor() or platform.machine(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    document = {"name": "response", "machine": machine, "figures": figures(options.quick)}
    if options.json:
        print(json.dumps(document, ensure_ascii=False))
        return
    for entry in document["figures"]:
        verdict = {True: "reached", False: "MISSED", None: ""}[entry["reached"]]
        print(f"{entry['name']:<62}{entry['value']:>12.3f} {entry['unit']:<11}{entry['goal']:>24}  {verdict}")


if __name__ == "__main__":
    main()

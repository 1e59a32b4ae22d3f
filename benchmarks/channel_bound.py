"""How far is the channel fit from the Cramér–Rao bound, and are its error bars right?

Random benches (`cal_bench`: dense matrices, photon by photon), each captured several times with the frames of the
default probe plan and fitted from nothing. The bound is the full Fisher information of those frames, from a numeric
Jacobian of the generator's mean and covariance in all parameters jointly: gain parameters of the true structure,
offsets, crosstalk, bleed, σ, κ, ρ. Look-up tables are known to both, and are no parameters. A family's figure is the
rms over benches of the error in units of the bound, every bench with the same weight.

    python benchmarks/channel_bound.py [--json] [--quick]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from _common import Figure, figure, parser, show
from simulated.cal_bench import Bench, common_crosstalk, display_curve, products, slm_curve

from calibration.fit.channel import ChannelFit, fit_channel
from calibration.fit.noise import fit_noise
from calibration.frames.probes import ProbePlan, crosstalk_scan, gain_scan, holdout_scan, noise_scan
from calibration.frames.scan import Readings, Scan
from calibration.frames.schedule import assemble, schedule
from calibration.judge.validation import validate
from calibration.machine.encoding import encoding
from calibration.machine.layout import Layout
from calibration.machine.machine import Machine

STRUCTURES = ("scalar", "per output", "separable", "smooth", "full")
FAMILIES = ("gain", "offset", "crosstalk", "bleed", "read", "shot", "intensity")
INSIDE = 1.959964
PLAN = ProbePlan()
Vector = np.ndarray


@dataclass(frozen=True)
class Truth:
    """A bench as a function of its parameters, and their true values."""

    bench: Bench
    structure: str
    crosstalk: str
    theta: Vector
    build: Callable[[Vector], Bench]
    members: dict[str, Vector]


def random_truth(seed: int) -> Truth:
    """16 to 48 rows and columns; every fifth bench has the same structure of the gain, every second a crosstalk of
    each output, of the size of published 16- and 48-channel machines (AOC, 2025)."""
    rng = np.random.default_rng(seed)
    structure = STRUCTURES[seed % 5]
    crosstalk = "per output" if seed % 2 else "common"
    m, k = (int(n) for n in rng.integers(16, 49, 2))
    if seed % 10 == 7:
        m = 48
    level = rng.uniform(500, 2000)
    gain, map_of = _gain(structure, (m, k), level, rng)
    low, high = (0.05, 0.07) if m == 48 else (0.002, 0.03)
    pairs = rng.uniform(low, high, 2 if crosstalk == "common" else 2 * m - 2)
    intensity = rng.uniform(0.002, 0.008) if rng.random() < 0.7 else 0.0
    parts = {
        "gain": gain,
        "offset": rng.uniform(20, 80, m),
        "crosstalk": pairs,
        "bleed": rng.uniform(0, 0.03, 2),
        "read": rng.uniform(5, 30, 1),
        "shot": rng.uniform(0.1, 0.6, 1),
        "intensity": np.array([intensity] if intensity else []),
    }
    ends = np.cumsum([len(p) for p in parts.values()])
    members = {name: np.arange(end - len(p), end) for (name, p), end in zip(parts.items(), ends, strict=True)}
    curves = {
        "display": display_curve(1 / rng.uniform(50, 400)),
        "slm": slm_curve(1 / rng.uniform(50, 400)),
    }

    def build(theta: Vector) -> Bench:
        part = {name: theta[at] for name, at in members.items()}
        mixing = common_crosstalk(m, *part["crosstalk"]) if crosstalk == "common" else np.zeros((m, 2))
        if crosstalk == "per output":
            mixing[inner(m)] = part["crosstalk"]
        return Bench(
            map_of(part["gain"]),
            part["offset"],
            mixing,
            (part["bleed"][0], part["bleed"][1]),
            part["read"][0],
            part["shot"][0],
            part["intensity"][0] if intensity else 0.0,
            **curves,
        )

    theta = np.concatenate(list(parts.values()))
    return Truth(build(theta), structure, crosstalk, theta, build, members)


def _gain(
    structure: str, shape: tuple[int, int], level: float, rng: np.random.Generator
) -> tuple[Vector, Callable[[Vector], Vector]]:
    """Parameters of a gain map, and the map as a function of them; the separable one has its first column at 1."""
    m, k = shape
    rough = 1 + 0.08 * rng.standard_normal(shape)
    if structure == "scalar":
        return np.array([level]), lambda g: np.full(shape, g[0])
    if structure == "per output":
        return level * rough[:, 0], lambda g: np.tile(g[:, None], k)
    if structure == "separable":
        rows, columns = level * rough[:, 0], rough[0, 1:]
        return np.concatenate([rows, columns]), lambda g: np.outer(g[:m], np.concatenate([[1.0], g[m:]]))
    if structure == "full":
        return level * rough.ravel(), lambda g: g.reshape(shape)
    degree = int(rng.choice([2, 4]))
    y, x = np.meshgrid(np.linspace(-1, 1, m), np.linspace(-1, 1, k), indexing="ij")
    terms = np.stack([y**i * x**j for i in range(degree + 1) for j in range(degree + 1 - i)], axis=2)
    coefficients = level * rng.uniform(0.02, 0.08, terms.shape[2]) * rng.choice([-1, 1], terms.shape[2])
    coefficients[0] = level
    return coefficients, lambda g: terms @ g


def inner(m: int) -> Vector:
    """(M, 2) which outputs have a neighbour on either side."""
    found = np.ones((m, 2), bool)
    found[0, 0] = found[-1, 1] = False
    return found


def scans_of(shape: tuple[int, int], rng: np.random.Generator) -> dict[str, Scan]:
    """The probe scans, hold-out last."""
    made = {
        name: scan(shape, PLAN)
        for name, scan in (("gain", gain_scan), ("crosstalk", crosstalk_scan), ("noise", noise_scan))
    }
    return {**made, "holdout": holdout_scan(shape, PLAN, rng)}


def fitted(bench: Bench, rng: np.random.Generator) -> ChannelFit:
    """Capture and fit."""
    readings: dict[str, Readings] = {name: bench.read_scan(s, rng) for name, s in scans_of(bench.shape, rng).items()}
    holdout = readings.pop("holdout")
    first = fit_noise(readings["noise"], float(bench.display[0])).noise
    return fit_channel(*bench.luts, first, readings, holdout)


def bound(truth: Truth) -> Vector:
    """Cramér–Rao bound: the covariance of all parameters, from the frames that the fit sees but the hold-out's."""
    scans = [s for name, s in scans_of(truth.bench.shape, np.random.default_rng(0)).items() if name != "holdout"]
    shown: dict[tuple[bytes, bytes], int] = {}
    for scan in scans:
        for i, s in enumerate(scan.slm_index):
            key = scan.slm[s].tobytes(), scan.display[i].tobytes()
            shown[key] = shown.get(key, 0) + 1
    slms = {key: None for key, _ in shown}
    shape = truth.bench.shape
    groups = []
    for pattern in slms:
        mine = [(display, n) for (key, display), n in shown.items() if key == pattern]
        levels = np.stack([np.frombuffer(display, np.uint8) for display, _ in mine])
        groups.append((np.frombuffer(pattern, np.uint8).reshape(shape), levels))
    count = np.array([n for pattern in slms for (key, _), n in shown.items() if key == pattern], float)

    def light(theta: Vector) -> Vector:
        b = truth.build(theta)
        z = [(b.display[levels] @ b.blending.T) @ (b.gain * b.slm[pattern]).T for pattern, levels in groups]
        return np.concatenate(z) @ b.mixing.T  # (F, M)

    size = len(truth.theta)
    by = np.zeros((size, *light(truth.theta).shape))
    for i in np.concatenate([truth.members[name] for name in ("gain", "crosstalk", "bleed")]):
        step = np.zeros(size)
        step[i] = 1e-4 * max(abs(truth.theta[i]), 1e-2)
        by[i] = (light(truth.theta + step) - light(truth.theta - step)) / (2 * step[i])
    return np.linalg.inv(_information(truth, light(truth.theta), by, count))


def _information(truth: Truth, s: Vector, by: Vector, count: Vector) -> Vector:
    """Σ n [∂μᵀ C⁻¹ ∂μ + ½ tr(C⁻¹ ∂C C⁻¹ ∂C)] with C = D + t tᵀ, D = diag(σ² + κ s), t = ρ (s + b)."""
    b, m = truth.bench, truth.members
    size = len(by)
    slope = by.copy()
    slope[m["offset"], :, np.arange(len(m["offset"]))] = 1.0
    delta, v = b.shot * by, b.flicker * slope
    delta[m["read"]] += 2 * b.read
    delta[m["shot"]] += s
    v[m["intensity"]] += s + b.offset
    d, t = b.read**2 + b.shot * s, b.flicker * (s + b.offset)
    q = t / d
    g = 1 / (1 + (t * q).sum(axis=1))

    def inverse(values: Vector) -> Vector:
        """C⁻¹ times (p, F, M) or (F, M)."""
        return values / d - (g * (values * q).sum(axis=-1))[..., None] * q

    def product(one: Vector, other: Vector, weight: Vector = count[:, None]) -> Vector:
        return (one * weight).reshape(size, -1) @ other.reshape(size, -1).T

    pv, pt = inverse(v), inverse(t)
    diagonal = 1 / d - g[:, None] * q**2
    total = product(slope, inverse(slope))
    squares = (delta * q**2).sum(axis=2) * g
    total += 0.5 * (product(delta * (diagonal**2 - g[:, None] ** 2 * q**4), delta) + (squares * count) @ squares.T)
    mixed = product(delta * pt, pv)
    along = (v * pt).sum(axis=2)
    total += mixed + mixed.T + (along * count) @ along.T
    return total + product(v, pv, (count * (t * pt).sum(axis=1))[:, None])


def errors(truth: Truth, covariance: Vector, fit: ChannelFit) -> dict[str, tuple[Vector, Vector]]:
    """Of each family: errors in units of the bound, and in units of the error stated."""
    c, b = fit.channel, truth.bench
    own = np.sqrt(np.diag(covariance))
    at = truth.members["gain"]
    slope = np.stack([_gain_slope(truth, i).ravel() for i in at])
    crb_gain = np.sqrt(np.einsum("ik,ij,jk->k", slope, covariance[np.ix_(at, at)], slope, optimize=True))
    beside = inner(b.shape[0])
    values = c.crosstalk[beside], c.crosstalk_stderr[beside], b.crosstalk[beside]
    bounds = own[truth.members["crosstalk"]]
    if truth.crosstalk == "common":
        bounds = np.tile(bounds, (b.shape[0], 1))[beside]
    noise = [
        (n, e, t)
        for n, e, t in zip(
            (c.noise.read_dn, c.noise.shot_dn, c.noise.flicker),
            c.noise.stderr,
            (b.read, b.shot, b.flicker),
            strict=True,
        )
    ]
    found = {
        "gain": (c.gain_dn.ravel(), c.gain_stderr_dn.ravel(), b.gain.ravel(), crb_gain),
        "offset": (c.offset_dn, c.offset_stderr_dn, b.offset, own[truth.members["offset"]]),
        "crosstalk": (*values, bounds),
        "bleed": (c.bleed, c.bleed_stderr, np.array(b.bleed), own[truth.members["bleed"]]),
    }
    for name, (value, stderr, true) in zip(("read", "shot", "intensity"), noise, strict=True):
        if len(truth.members[name]):
            found[name] = (np.array([value]), np.array([stderr]), np.array([true]), own[truth.members[name]])
    return {name: ((v - t) / crb, (v - t) / e) for name, (v, e, t, crb) in found.items()}


def _gain_slope(truth: Truth, i: int) -> Vector:
    step = np.zeros(len(truth.theta))
    step[i] = 1e-4 * abs(truth.theta[i])
    return (truth.build(truth.theta + step).gain - truth.build(truth.theta - step).gain) / (2 * step[i])


def heldout_chi2(truth: Truth, fit: ChannelFit, rng: np.random.Generator) -> float:
    """χ² per degree of freedom of random products, shown with this calibration and read from the bench."""
    m, k = truth.bench.shape
    machine = Machine(
        Layout((6 * m + 4, 5 * k + 3), m, k, 6, 5, 4, 4), *truth.bench.luts, fit.channel, encoding("sign-split")
    )
    group = products((m, k), 40, int(rng.integers(1 << 30)))
    parts = [(tile, truth.bench.read_scan(tile.scan, rng)) for tile in schedule(machine, [group])]
    return validate([assemble(machine, group, 0, parts)], []).chi2_per_dof


def figures(quick: bool) -> list[Figure]:
    benches, captures = (10, 2) if quick else (50, 8)
    units: dict[str, list[float]] = {name: [] for name in FAMILIES}
    inside: dict[str, list[float]] = {name: [] for name in FAMILIES}
    chi2, right = [], []
    for seed in range(benches):
        truth = random_truth(seed)
        covariance = bound(truth)
        for capture in range(captures):
            rng = np.random.default_rng([seed, capture])
            fit = fitted(truth.bench, rng)
            for name, (by_bound, by_error) in errors(truth, covariance, fit).items():
                units[name].append(float(np.mean(by_bound**2)))
                inside[name].append(float(np.mean(np.abs(by_error) < INSIDE)))
            right.append(
                fit.structure["gain"].chosen.split("(")[0] == truth.structure
                and fit.structure["crosstalk"].chosen == truth.crosstalk
            )
            if capture == 0:
                chi2.append(heldout_chi2(truth, fit, rng))
    found = []
    for name in FAMILIES:
        ratio = float(np.sqrt(np.mean(units[name])))
        found.append(figure(f"{name}: rms error / Cramér–Rao bound", ratio, "1", "≤ 1.1", ratio <= 1.1))
    for name in FAMILIES:
        share = float(np.mean(inside[name]))
        found.append(figure(f"{name}: inside the 95 % interval", 100 * share, "%", "93–97", 0.93 <= share <= 0.97))
    mean = float(np.mean(chi2))
    found.append(figure("χ²/dof of held-out products", mean, "1", "0.97–1.03", 0.97 <= mean <= 1.03))
    found.append(figure("its standard deviation over benches", float(np.std(chi2)), "1"))
    found.append(figure("true structure of gain and crosstalk found", 100 * float(np.mean(right)), "%"))
    found.append(figure("benches × captures", benches * captures, "1"))
    return found


def main() -> None:
    options = parser(__doc__).parse_args()
    show("channel_bound", lambda: figures(options.quick), options.json)


if __name__ == "__main__":
    main()

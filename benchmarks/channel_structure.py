"""Does the channel fit call a simple bench simple, find what is there, and refuse what is no measurement?

Simulated benches (`cal_bench`, 24 × 24, default probe plan), each with its own noise, offsets and floors. *False
alarms*: scalar benches with common crosstalk, of which 0.1 % may be called anything else. *Power*: benches with one
deviation each, as large as published machines have (crosstalk 0.2–3 % between outputs: AOC 2025, 16 channels) or a
tenth of that, each counted where exactly the true form is chosen. *Negative controls*: no light, and each scan with its
frames shuffled.

    python benchmarks/channel_structure.py [--json] [--quick]
"""

from __future__ import annotations

import numpy as np
from _common import Figure, figure, parser, show
from channel_bound import fitted, scans_of
from simulated.cal_bench import Bench, common_crosstalk, display_curve, slm_curve

from calibration.errors import BadScan
from calibration.fit.channel import fit_channel
from calibration.frames.scan import Readings

SHAPE = (24, 24)
LEVEL_DN = 1000.0
NOISE = "read + shot + intensity"


def bench(rng: np.random.Generator, gain: np.ndarray | None = None, **changes: object) -> Bench:
    """A scalar bench with common crosstalk and all noises, but for the changes; ``gain`` relative to `LEVEL_DN`."""
    m, k = SHAPE
    parts = {
        "offset": rng.uniform(20, 80, m),
        "crosstalk": common_crosstalk(m, *rng.uniform(0.002, 0.03, 2)),
        "bleed": tuple(rng.uniform(0, 0.03, 2)),
        "read": rng.uniform(5, 30),
        "shot": rng.uniform(0.1, 0.6),
        "flicker": rng.uniform(0.002, 0.006),
        "display": display_curve(1 / rng.uniform(50, 400)),
        "slm": slm_curve(1 / rng.uniform(50, 400)),
    }
    return Bench(LEVEL_DN * (np.ones((m, k)) if gain is None else gain), **{**parts, **changes})


def deviations(rng: np.random.Generator) -> dict[str, tuple[str, str, Bench]]:
    """Name → which choice is at stake, its true form, and a bench."""
    m, k = SHAPE
    y, x = np.linspace(-1, 1, m)[:, None], np.linspace(-1, 1, k)
    rows, columns = rng.standard_normal((m, 1)), rng.standard_normal(k)
    each = 0.016 + 0.014 * rng.uniform(-1, 1, (m, 2))
    made = {
        f"gain, {size:.1%} from output to output": ("gain", "per output", {"gain": 1 + size * rows + 0 * x})
        for size in (0.01, 0.001)
    }
    made |= {
        f"gain, {size:.1%} of outputs and inputs": (
            "gain",
            "separable",
            {"gain": (1 + size * rows) * (1 + size * columns)},
        )
        for size in (0.03, 0.01)
    }
    made |= {
        f"gain, {size:.1%} vignetting": ("gain", "smooth(2)", {"gain": 1 - size * (x**2 + y**2)})
        for size in (0.03, 0.003)
    }
    made |= {
        f"gain, {size:.1%} from macropixel to macropixel": (
            "gain",
            "full",
            {"gain": 1 + size * rng.standard_normal((m, k))},
        )
        for size in (0.02, 0.01)
    }
    made["crosstalk, 0.2–3 % from output to output"] = ("crosstalk", "per output", {"crosstalk": each})
    near = 0.016 + (each - 0.016) / 10
    made["crosstalk, 1.5–1.7 % from output to output"] = ("crosstalk", "per output", {"crosstalk": near})
    made["crosstalk, none"] = ("crosstalk", "none", {"crosstalk": np.zeros((m, 2))})
    made["noise, intensity 0.1 %"] = ("noise", NOISE, {"flicker": 0.001})
    made["noise, no intensity"] = ("noise", "read + shot", {"flicker": 0.0})
    made["noise, shot alone"] = ("noise", "shot", {"flicker": 0.0, "read": 0.0})
    return {name: (part, form, bench(rng, **changes)) for name, (part, form, changes) in made.items()}


def refused(rng: np.random.Generator) -> tuple[int, int]:
    """How many of five spoiled captures are refused with the reason, of how many."""
    truth = bench(rng)
    scans = scans_of(SHAPE, rng)
    good = {name: truth.read_scan(scan, rng) for name, scan in scans.items()}
    dark = {n: Readings(r.scan, truth.read * rng.standard_normal(r.dn.shape), r.saturated) for n, r in good.items()}
    spoiled = [(dark, "no light")]
    for name, readings in good.items():
        mixed = Readings(readings.scan, rng.permutation(readings.dn), readings.saturated)
        spoiled.append((good | {name: mixed}, f"the readings of the {name} scan do not follow the patterns"))
    found = 0
    for readings, reason in spoiled:
        fitted_from = {name: readings[name] for name in ("gain", "crosstalk", "noise")}
        try:
            fit_channel(*truth.luts, truth.noise, fitted_from, readings["holdout"])
        except BadScan as error:
            found += error.what.startswith(reason)
    return found, len(spoiled)


def figures(quick: bool) -> list[Figure]:
    benches, repeats = (30, 2) if quick else (300, 20)
    right = {"gain": 0, "crosstalk": 0, "noise": 0}
    for seed in range(benches):
        rng = np.random.default_rng([1, seed])
        chosen = fitted(bench(rng), rng).structure
        for name, form in (("gain", "scalar"), ("crosstalk", "common"), ("noise", NOISE)):
            right[name] += chosen[name].chosen == form
    share = {name: 100 * count / benches for name, count in right.items()}
    found = [
        figure(f"scalar bench called scalar ({benches} benches)", share["gain"], "%", "≥ 99", share["gain"] >= 99),
        figure("its common crosstalk called common", share["crosstalk"], "%", "≥ 99", share["crosstalk"] >= 99),
        figure("all its noises found", share["noise"], "%"),
    ]
    hits: dict[str, list[bool]] = {}
    for seed in range(repeats):
        rng = np.random.default_rng([2, seed])
        for name, (part, form, truth) in deviations(rng).items():
            hits.setdefault(name, []).append(fitted(truth, rng).structure[part].chosen == form)
    found += [figure(f"found: {name}", 100 * float(np.mean(hit)), "%") for name, hit in hits.items()]
    counts = [refused(np.random.default_rng([3, seed])) for seed in range(repeats)]
    caught = 100 * sum(count for count, _ in counts) / sum(total for _, total in counts)
    found.append(figure("no light or shuffled frames refused, with the reason", caught, "%", "100", caught == 100))
    return found


def main() -> None:
    options = parser(__doc__).parse_args()
    show("channel_structure", lambda: figures(options.quick), options.json)


if __name__ == "__main__":
    main()

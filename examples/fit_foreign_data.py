"""Fit products that somebody else's bench measured, and predict its next session. About five seconds.

The bench is made up here: gains that differ from pair to pair, an offset, noise, and one stale row. All that the fit is
given is what such a lab would send: an npz file with inputs, weights and readings. On the command line the same is
`labctl import FILE`, `labctl fit` and `labctl predict CALIB FILE`, with a run, a gate and a page.
"""

import tempfile
from pathlib import Path

import numpy as np

import labctl

INPUTS, OUTPUTS, STALE = 6, 3, 57


def record(path: Path, rows: int, seed: int) -> None:
    """A session on the bench: always the same gains and weights, other inputs and noise."""
    bench, rng = np.random.default_rng(1), np.random.default_rng(seed)
    weights = bench.uniform(0.1, 1, (OUTPUTS, INPUTS))
    gain = 40 * bench.uniform(0.7, 1.3, (OUTPUTS, INPUTS))
    inputs = rng.uniform(0, 10, (rows, INPUTS))
    light = 500 + inputs @ (gain * weights).T
    light[STALE] = light[STALE - 1]
    np.savez(path, inputs=inputs, weights=weights, readings=light + rng.normal(0, 3, light.shape))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "monday.npz", Path(folder) / "tuesday.npz"
        record(first, 400, seed=2)
        record(second, 200, seed=3)

        with np.load(first) as file:
            found = labctl.fit(file["inputs"], file["weights"], file["readings"], unit="DN")
        for part, choice in found.structure.items():
            print(f"{part:10}  {choice.chosen}   (p = {choice.p_value:.1g}, against {choice.runner_up or 'nothing'})")
        print("bad rows:", [(row.index, row.reason) for row in found.bad_rows])

        with np.load(second) as file:
            said = labctl.predict(found.response, file["inputs"])
            inside = (said.low95 < file["readings"]) & (file["readings"] < said.high95)
        print(f"{inside.mean():.1%} of the next session's readings lie in their 95 % interval")


if __name__ == "__main__":
    main()

"""Is what is no measurement kept out of a fit, and is nothing else?

Recordings of a still bench in which something went wrong (`simulated/faulty_recordings.py`): a camera or lamp that
stops, clipping, frames that are delivered twice or lost, a start-up, heavy tails. Each is fitted; the calibration is
held against what a sound camera would have read, beside the error of the same bench without the fault.

    python benchmarks/foreign_rows.py [--json] [--quick]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from _common import Figure, figure, parser, show

sys.path.insert(0, str(Path(__file__).parent / "simulated"))

from faulty_recordings import FAULTS, OUTPUTS, Recording

from calibration.errors import CalibrationError
from calibration.response.fit import ResponseFit, fit_response
from calibration.response.observations import Observations
from calibration.response.slips import find_slips

WORSE = 1.5  # of the error without the fault
FALSE = 0.1  # % of the good rows
NOISY = ("Student t, 3 degrees", "speckle of 25 %")


def main() -> None:
    options = parser(__doc__).parse_args()
    show("foreign_rows", lambda: measured(1 if options.quick else 5), options.json)


def measured(seeds: int) -> list[Figure]:
    """Figures of every fault: error, rows that were missed, good rows that were accused."""
    sound = [error(fitted(FAULTS["sound"](seed)), FAULTS["sound"](seed)) for seed in range(seeds)]
    found: list[Figure] = []
    for name, make in FAULTS.items():
        ratio, missed, accused, good = [], 0, 0, 0
        for seed in range(seeds):
            recording = make(seed)
            fit = fitted(recording)
            if fit is None or not fit.gate.applied:
                ratio.append(np.inf)
                continue
            ratio.append(error(fit, recording) / sound[seed])
            bad = {b.index for b in fit.bad_rows}
            named = {b.index for b in fit.bad_rows if b.reason in left_out_by_design(name, recording)}
            missed += len(recording.bad - bad)
            accused += len(bad - recording.bad - named)
            good += len(recording.inputs) - len(recording.bad)
        worst = float(np.max(ratio))
        if name not in NOISY:  # their noise is another, and with it the error
            found.append(figure(f"{name}: error", worst, "× sound", f"≤ {WORSE}", worst <= WORSE))
        found.append(figure(f"{name}: missed", missed, "rows", "0", missed == 0))
        share = 100 * accused / max(good, 1)
        found.append(figure(f"{name}: accused", share, "%", f"≤ {FALSE}", share <= FALSE))
        if "frame twice" in name or "lost" in name:
            right = sum(slips_right(make(seed)) for seed in range(seeds))
            found.append(figure(f"{name}: row and lag", right, f"of {seeds}", str(seeds), right == seeds))
    return found


def left_out_by_design(name: str, recording: Recording) -> tuple[str, ...]:
    """Reasons for which rows of this recording are left out though nothing is wrong with their inputs."""
    if recording.clipped.any():
        return ("saturated",)
    if recording.lag.any():
        return ("lost", "duplicated")
    return ("transient",) if name == "start-up" else ()


def fitted(recording: Recording) -> ResponseFit | None:
    """The fit of a recording; None where it is refused."""
    try:
        return fit_response(Observations(recording.inputs, recording.weights, recording.readings))
    except CalibrationError:
        return None


def error(fit: ResponseFit | None, recording: Recording) -> float:
    """Rms of what the calibration expects against what a sound camera reads on average [unit]."""
    if fit is None:
        return float("inf")
    good = [row for row in range(len(recording.inputs)) if row not in recording.bad]
    expected, _ = fit.response.predict(recording.weights, recording.inputs[good])
    # where readings are cut off, so is what is expected of them
    inside = ~recording.clipped[good] if recording.clipped.size else np.ones((len(good), OUTPUTS), bool)
    return float(np.sqrt(np.mean((expected - recording.mean[good])[inside] ** 2)))


def slips_right(recording: Recording) -> bool:
    """Whether the one slip of a recording is found at its row, with its lag."""
    observations = Observations(recording.inputs, recording.weights, recording.readings)
    slips, _, _ = find_slips(observations, recording.readings, np.ones(len(recording.readings), bool))
    at = int(np.argmax(recording.lag != 0))
    return [(slip.row, slip.lag) for slip in slips] == [(at, int(recording.lag[-1]))]


if __name__ == "__main__":
    main()

"""Is what is no measurement kept out of a fit, and is nothing else?

Recordings of a still bench in which something went wrong (`simulated/faulty_recordings.py`): a camera or lamp that
stops, clipping, frames that are delivered twice or lost, a start-up, heavy tails. Each is fitted; the calibration is
held against what a sound camera would have read, beside the error of the same bench without the fault.

    python benchmarks/foreign_rows.py [--json] [--quick]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _common import Figure, figure, parser, show

sys.path.insert(0, str(Path(__file__).parent / "simulated"))

from faulty_recordings import FAULTS, OUTPUTS, Recording

from calibration.errors import CalibrationError
from calibration.response.fit import ResponseFit, fit_response
from calibration.response.observations import Observations
from calibration.response.slips import find_slips
from labctl.errors import CaptureValues
from labctl.foreign.files import Request, open_capture
from labctl.foreign.files.request import Elsewhere

WORSE = 1.5  # of the error without the fault
FALSE = 0.1  # % of the good rows
NOISY = ("Student t, 3 degrees", "speckle of 25 %")
"""Their noise is another than that of the sound bench, and with it the error."""


def main() -> None:
    options = parser(__doc__).parse_args()
    seeds = 1 if options.quick else 5
    show("foreign_rows", lambda: [*recordings(seeds), *files(seeds)], options.json)


def recordings(seeds: int) -> list[Figure]:
    """The error that each fault leaves; what was missed or accused with it is in its name."""
    sound = [error(fitted(FAULTS["sound"](seed)), FAULTS["sound"](seed)) for seed in range(seeds)]
    return [_figure(name, [make(seed) for seed in range(seeds)], sound) for name, make in FAULTS.items()]


def _figure(name: str, made: list[Recording], sound: list[float]) -> Figure:
    ratio, missed, accused, good, slips = [], 0, 0, 0, 0
    for recording, usual in zip(made, sound, strict=True):
        fit = fitted(recording)
        if fit is None or not fit.gate.applied:
            ratio.append(np.inf)
            continue
        ratio.append(error(fit, recording) / usual)
        bad = {b.index for b in fit.bad_rows}
        meant = {b.index for b in fit.bad_rows if b.reason in left_out_by_design(name, recording)}
        missed += len(recording.bad - bad)
        accused += len(bad - recording.bad - meant)
        good += len(recording.inputs) - len(recording.bad)
        slips += recording.lag.any() and not slip_found(recording)
    share = 100 * accused / max(good, 1)
    worst = float(np.max(ratio))
    wrong = {"rows missed": missed, "good rows accused": accused, "slips with another row or lag": slips}
    said = ", ".join(f"{count} {what}" for what, count in wrong.items() if count)
    told = missed == 0 and slips == 0 and share <= FALSE
    entry = f"{name} ({said})" if said else name
    if name in NOISY:
        return figure(f"{entry}: accused", share, "%", f"≤ {FALSE}", told and np.isfinite(worst))
    return figure(entry, worst, "× sound", f"≤ {WORSE}", told and worst <= WORSE)


def files(seeds: int) -> list[Figure]:
    """How often a file is read as it was meant, or refused where it cannot be."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, well in FILES.items():
            right = sum(well(Path(folder), FAULTS["sound"](seed), seed) for seed in range(seeds))
            found.append(figure(name, right, f"of {seeds}", str(seeds), right == seeds))
    return found


def _wrapped_time(folder: Path, recording: Recording, seed: int) -> bool:
    """A clock of 16 bits that goes round is refused, whatever differences of its own type say."""
    time = (60_000 + 10 * np.arange(len(recording.inputs)) + seed).astype(np.uint16)
    np.savez(folder / "time.npz", **_arrays(recording), time=time)
    try:
        with open_capture(folder / "time.npz") as capture:
            capture.check()
    except CaptureValues as error:
        return "np.unwrap" in error.hint
    return False


def _counting_header(folder: Path, recording: Recording, seed: int) -> bool:
    """Weights with ``0,1,2,…`` above them are those of the lines below."""
    lines = [",".join(map(str, range(recording.weights.shape[1]))), *(",".join(map(str, w)) for w in recording.weights)]
    (folder / "weights.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    np.savez(folder / "rows.npz", inputs=recording.inputs, readings=recording.readings)
    request = Request(files={"weights": Elsewhere(folder / "weights.csv")})
    with open_capture(folder / "rows.npz", request) as capture:
        return bool(np.array_equal(capture.weights, recording.weights))


def _outputs_from_1(folder: Path, recording: Recording, seed: int) -> bool:
    """Outputs counted from 1, of which the last is never read, are told by what the readings follow."""
    rng = np.random.default_rng([6, seed])
    output = rng.integers(0, OUTPUTS - 1, len(recording.inputs))
    arrays = _arrays(recording) | {"readings": recording.readings[np.arange(len(output)), output], "output": output + 1}
    np.savez(folder / "output.npz", **arrays)
    with open_capture(folder / "output.npz") as capture:
        return capture.output is not None and bool(np.array_equal(capture.output[:], output))


def _arrays(recording: Recording) -> dict[str, np.ndarray]:
    return {"inputs": recording.inputs, "weights": recording.weights, "readings": recording.readings}


FILES: dict[str, Callable[[Path, Recording, int], bool]] = {
    "a clock of 16 bits that goes round is refused": _wrapped_time,
    "a first line of weights that counts is a header": _counting_header,
    "outputs counted from 1 are counted from 0": _outputs_from_1,
}
"""Name → whether the file of a recording ends as it should."""


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


def slip_found(recording: Recording) -> bool:
    """Whether the one slip of a recording is found at its row, with its lag."""
    observations = Observations(recording.inputs, recording.weights, recording.readings)
    slips, _, _ = find_slips(observations, recording.readings, np.ones(len(recording.readings), bool))
    at = int(np.argmax(recording.lag != 0))
    return [(slip.row, slip.lag) for slip in slips] == [(at, int(recording.lag[-1]))]


if __name__ == "__main__":
    main()

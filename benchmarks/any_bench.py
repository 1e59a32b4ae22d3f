"""What does a bench that somebody else measured do to products, and to a whole Transformer?

Two benches: an LCD and a camera with 36 inputs and 4 outputs, whose recording is read where somebody has put it
(`--measured`), and a machine of 48 channels with neighbours' crosstalk, made here with numpy alone. Each is fitted on
the first four fifths of its recording as `labctl import` and `labctl fit` would; then

    predicted against measured: rms of the last fifth, over its range, the drift followed and not;
    signed products: their rms error over their spread, as the fitted bench is simulated, and, of the machine made
        here, as the machine itself gives them with the same tiles, its own gains and counts;
    perplexity of the shipped model, and of stories260K where it is (`--stories`): digital, on the bench as fitted, and
        on three benches that the fit could have come from.

    python benchmarks/any_bench.py [--json] [--quick] [--measured FILE.npz] [--stories FILE.bin] [--text FILE]

stories260K reads TinyStories (`--text`); the shipped model Python's own documentation, for which it was made.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _common import Figure, figure, parser, show
from numpy.typing import NDArray

from calibration.response.fit import fit_response
from calibration.response.model import Response
from calibration.response.observations import Observations
from calibration.response.predict import predict
from labctl.resources import shipped_model
from labctl.studies.simulate import evaluation_text
from simulation.benches.imported import Imported, ImportedBench
from simulation.benches.intensity import SIGN_SPLIT
from simulation.conversion.optical import opticalize
from simulation.evaluation.perplexity import perplexity
from simulation.light.accounting import Tally
from simulation.light.settings import Noise
from simulation.models.loading import load_language

DATA = Path(__file__).parents[2] / "shared" / "data"
MEASURED = DATA / "measured" / "lcd_camera_36x4_train.npz"
STORIES, TINY_STORIES = DATA / "models" / "stories260K.bin", DATA / "text" / "tinystories-niklas6.txt"
TOKENS, QUICK_TOKENS = 1000, 200
DEVICES = (1, 2, 3)
CHANNELS, ROWS = 48, 1500
ALL_CLIPPED_NOWHERE = (100.0, 100.0)

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Recording:
    """Products of one bench, in the order in which they were read; arrays (rows, N), (M, N), (rows, M)."""

    name: str
    inputs: Float
    weights: Float
    readings: Float
    machine: Machine | None = None

    def part(self, rows: slice) -> Observations:
        """Some of its rows."""
        return Observations(self.inputs[rows], self.weights, self.readings[rows])


class Machine:
    """48 channels: gains of 5 % rms by input and output, neighbours' crosstalk of 5.2 … 7.3 %, photons, read noise.

    The range of the crosstalk is that of the calibration that microsoft/aoc publishes for such a machine.
    """

    OFFSET, DN_PER_PHOTON, PHOTONS, READ_DN = 100.0, 0.25, 2e4, 3.0

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        gain = np.outer(rng.normal(1, 0.05, CHANNELS), rng.normal(1, 0.05, CHANNELS))
        share = np.diag(rng.uniform(0.052, 0.073, CHANNELS - 1), 1)
        share += np.diag(rng.uniform(0.052, 0.073, CHANNELS - 1), -1)
        self.gain, self.mix = self.PHOTONS * gain, np.eye(CHANNELS) + share

    def read(self, rng: np.random.Generator, inputs: Float, weights: Float) -> Float:
        """Readings (n, M) of inputs (n, N) 0 … 1 behind weights (M, N) 0 … 1."""
        counts = rng.poisson(inputs @ (self.mix @ (self.gain * weights)).T)
        return self.OFFSET + self.DN_PER_PHOTON * counts + rng.normal(0, self.READ_DN, counts.shape)

    def recording(self) -> Recording:
        """Products of random operands, dim ones too."""
        rng = np.random.default_rng(1)
        weights, inputs = rng.random((CHANNELS, CHANNELS)), rng.random((ROWS, CHANNELS)) * rng.random((ROWS, 1))
        return Recording("48 channels", inputs, weights, self.read(rng, inputs, weights), self)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--measured", type=Path, default=MEASURED, help="the recording of the LCD and camera")
    options.add_argument("--stories", type=Path, default=STORIES, help="stories260K in llama2.c's format")
    options.add_argument("--text", type=Path, default=TINY_STORIES, help="what stories260K reads")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    found = show(
        "any_bench",
        lambda: list(measure(arguments.measured, arguments.stories, arguments.text, arguments.quick)),
        arguments.json,
    )
    sys.exit(not found)


def measure(measured: Path, stories: Path, text: Path, quick: bool) -> Iterator[Figure]:
    """All figures of both benches."""
    recordings = [Machine().recording()]
    if measured.exists() and not quick:
        held = np.load(measured)
        recordings.append(Recording("LCD and camera, 36 × 4", held["inputs"], held["weights"], held["readings"]))
    models: list[tuple[Path, Path | None]] = [(shipped_model(), None)]
    models += [(stories, text)] if stories.exists() and text.exists() else []
    for recording in recordings:
        cut = len(recording.inputs) * 4 // 5
        response = fit_response(recording.part(slice(0, cut))).response
        yield from held_out(recording, response, cut)
        yield from products(recording, response)
        for model, read in models:
            yield from perplexities(recording.name, response, model, read, QUICK_TOKENS if quick else TOKENS)


def held_out(recording: Recording, response: Response, cut: int) -> Iterator[Figure]:
    """Predicted against measured on rows that no fit saw, with the weights of the recording."""
    found = predict(response, recording.part(slice(cut, None)))
    assert found.rms_percent_of_range is not None
    assert found.rms_percent_of_range_frozen is not None
    assert found.coverage95 is not None
    rms = float(found.rms_percent_of_range.max())
    yield figure(f"{recording.name}: rms of range, largest output", rms, "%", "≤ 1", rms <= 1)
    yield figure(f"{recording.name}: … without following drift", found.rms_percent_of_range_frozen.max(), "%")
    yield figure(f"{recording.name}: … inside 95 %", 100 * float(np.mean(found.coverage95)), "%")


def products(recording: Recording, response: Response) -> Iterator[Figure]:
    """Signed products of random operands: simulated, and of the machine itself where it is at hand."""
    rng = np.random.default_rng(3)
    outputs, inputs = 2 * response.n_outputs, 2 * response.weights.shape[1]
    weight = np.clip(rng.standard_normal((outputs, inputs)) / 3, -1, 1)
    vectors = np.clip(rng.standard_normal((400, inputs)) / 3, -1, 1)
    exact = vectors @ weight.T
    spread = 0.01 * float(exact.std())
    drawn = 0.0
    for name, device in (("as fitted", None), ("a drawn bench", 1)):
        bench = Imported(response, ALL_CLIPPED_NOWHERE, device).bench(SIGN_SPLIT, None)
        drawn = float((simulated(bench, weight, vectors) - exact).std()) / spread
        yield figure(f"{recording.name}: error of signed products over their spread, {name}", drawn, "%")
    if recording.machine is not None:
        bench = Imported(response, ALL_CLIPPED_NOWHERE).bench(SIGN_SPLIT, None)
        error = float((really(recording.machine, bench, weight, vectors) - exact).std()) / spread
        near = abs(error / drawn - 1) < 0.05
        yield figure(f"{recording.name}: … of the machine itself", error, "%", "a drawn bench's, ± 5 %", near)


def simulated(bench: ImportedBench, weight: Float, vectors: Float) -> Float:
    """One draw of (n, M) products."""
    shown = bench.show(torch.from_numpy(weight)[None], static=True)
    x = torch.from_numpy(vectors).float()[None]
    return bench.product(x, shown, Noise((1, 2)), Tally(), unit=torch.ones(1))[0].double().numpy()


def really(machine: Machine, bench: ImportedBench, weight: Float, vectors: Float) -> Float:
    """The same tiles on the machine itself, decoded by the numbers of the fit: all four passes of every tile."""
    rng, response, cells = np.random.default_rng(4), bench.response, bench.cells
    low, high = response.input_range
    least = cells.slope.min(1)
    unmixed = np.linalg.inv(cells.mix)
    scale = np.abs(vectors).max(1, keepdims=True)
    y = np.zeros((len(vectors), len(weight)))
    for r in range(0, len(weight), CHANNELS):
        for c in range(0, weight.shape[1], CHANNELS):
            tile, part = weight[r : r + CHANNELS, c : c + CHANNELS], vectors[:, c : c + CHANNELS] / scale
            for sign in (1, -1):
                operand = np.maximum(sign * tile, 0)
                weights = cells.low + (cells.high - cells.low) * operand * least[:, None] / cells.slope
                for side in (1, -1):
                    inputs = low + (high - low) * np.maximum(side * part, 0)
                    light = (machine.read(rng, inputs, weights) - response.offset) @ unmixed.T
                    y[:, r : r + CHANNELS] += sign * side * light / (least * (cells.high - cells.low) * (high - low))
    return y * scale


def perplexities(name: str, response: Response, model: Path, text: Path | None, tokens: int) -> Iterator[Figure]:
    """Of one model: digital, on the bench as fitted, and on benches that the fit could have come from."""
    language = load_language(model)
    ids = evaluation_text(language.encode, text, tokens).ids

    def score(device: int | None) -> float:
        light = opticalize(language.model, Imported(response, ALL_CLIPPED_NOWHERE, device))
        return perplexity(light, ids, context=language.context).ppl

    digital = perplexity(language.model, ids, context=language.context).ppl
    yield figure(f"{name}: {language.name}, digital", digital, "perplexity")
    yield figure(f"{name}: {language.name}, in light as fitted", score(None), "perplexity")
    drawn = [score(device) for device in DEVICES]
    yield figure(f"{name}: {language.name}, drawn benches, median", float(np.median(drawn)), "perplexity")


if __name__ == "__main__":
    main()

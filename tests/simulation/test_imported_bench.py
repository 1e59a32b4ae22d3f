"""Matrices on a bench that somebody else measured: against `predict`, and against the bench itself, frame by frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from calibration.errors import OutOfDomain
from calibration.response.fit import fit_response
from calibration.response.laws import DriftLaw
from calibration.response.model import Response
from calibration.response.observations import Observations
from calibration.response.other_weights import with_weights
from calibration.response.power_curve import PowerCurve
from simulation.benches.carried import Cells, certain
from simulation.benches.families import family as family_of
from simulation.benches.imported import Imported, ImportedBench
from simulation.benches.tables import Detectors
from simulation.conversion.optical import optical_report, opticalize, set_light
from simulation.light.accounting import Tally
from simulation.light.settings import Noise

Float = NDArray[np.float64]
OUTPUTS, INPUTS = 4, 12
OFFSET, DN_PER_PHOTON = 50.0, 0.5


class Truth:
    """A bench of photons: gains by output, by input and of each pair, crosstalk of neighbours. Shared with nothing."""

    def __init__(self, seed: int, *, neighbours: float = 0.0, single: float = 0.0, flicker: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        gain = np.outer(rng.uniform(0.8, 1.2, OUTPUTS), rng.uniform(0.8, 1.2, INPUTS))
        self.gain = 3e4 * gain * (1 + single * rng.standard_normal(gain.shape))
        self.mix = np.eye(OUTPUTS) + neighbours * (np.eye(OUTPUTS, k=1) + np.eye(OUTPUTS, k=-1))
        self.flicker = flicker

    def read(self, rng: np.random.Generator, inputs: Float, weights: Float, brightness: float = 1.0) -> Float:
        light = brightness * inputs @ (self.mix @ (self.gain * weights)).T
        light *= 1 + self.flicker * rng.standard_normal((len(inputs), 1))
        return OFFSET + DN_PER_PHOTON * rng.poisson(np.maximum(light, 0))

    def fitted(self, rows: int = 1200) -> Response:
        rng = np.random.default_rng(2)
        weights, inputs = rng.uniform(0, 1, (OUTPUTS, INPUTS)), rng.uniform(0, 1, (rows, INPUTS))
        inputs *= rng.uniform(0, 1, (rows, 1)) ** 2  # dark rows, too
        weights[0, 0] = 0.0
        return fit_response(Observations(inputs, weights, self.read(rng, inputs, weights))).response


@pytest.fixture(scope="module", params=[0.0, 0.06], ids=["without crosstalk", "with crosstalk"])
def known(request: pytest.FixtureRequest) -> tuple[Truth, Response]:
    truth = Truth(1, neighbours=request.param)
    return truth, truth.fitted()


@pytest.fixture(scope="module")
def unproportional() -> Response:
    return Truth(1, single=0.1).fitted()


def opened(
    response: Response, family: str = "sign-split", device: int | None = None, photons: float | None = None
) -> ImportedBench:
    return Imported(response, (100.0, 100.0), device).bench(family_of(family), photons)


def multiplied(bench: ImportedBench, weight: Float, vectors: Float) -> tuple[Float, Tally]:
    tally = Tally()
    shown = bench.show(torch.from_numpy(weight)[None], static=True)
    x = torch.from_numpy(vectors).float()[None]
    return bench.product(x, shown, Noise((1, 2)), tally, unit=torch.ones(1))[0].double().numpy(), tally


def operands(outputs: int, inputs: int, rows: int) -> tuple[Float, Float]:
    rng = np.random.default_rng(5)
    weight = np.clip(rng.standard_normal((outputs, inputs)) / 2.5, -1, 1)
    vectors = rng.uniform(-1, 1, (rows, inputs))
    vectors[:, 0] = 1.0
    return weight, vectors


def test_bench_of_one_input_gives_the_models_answer_in_the_mean() -> None:
    """Eight outputs whose gains differ, and which nothing tells from crosstalk: none is taken for it."""
    rng = np.random.default_rng(0)
    weights, inputs = rng.uniform(0.1, 1, (8, 1)), rng.uniform(0, 1, (600, 1))
    light = 3e4 * inputs @ (rng.uniform(0.7, 1.3, (8, 1)) * weights).T
    response = fit_response(Observations(inputs, weights, OFFSET + DN_PER_PHOTON * rng.poisson(light))).response
    weight, vectors = operands(12, 9, 1)
    y, _ = multiplied(opened(response), weight, vectors.repeat(400, axis=0))
    error = (y.mean(axis=0) - weight @ vectors[0]) / (y.std(axis=0) / np.sqrt(len(y)))
    assert np.abs(error).max() < 8  # the fit's own errors, of a few per mille, are about as large


def test_a_tile_reads_what_predict_says(known: tuple[Truth, Response]) -> None:
    _, response = known
    # jitter and drift that this bench does not have, for both paths
    noise = replace(response.noise, common_gain=3e-3, common_offset=20.0)
    level = np.array([[4e-6, 0.01], [0.01, 100.0]])
    drift = DriftLaw("walk", "rows", np.array([1e-4, 1.0]), level, response.drift.last_at)
    response = certain(replace(response, noise=noise, drift=drift, misfit=np.full(OUTPUTS, 30.0)))
    bench, rng = opened(response), np.random.default_rng(0)
    inputs = rng.uniform(0, 1, (50, INPUTS))
    others = rng.uniform(0, 1, (OUTPUTS, INPUTS))
    others[0, 0] = 0.0
    for weights in (response.weights, others):
        mean, sd = bench.moments(inputs, weights)
        expected, spread = with_weights(response, weights).predict(weights, inputs)
        np.testing.assert_allclose(mean, expected, rtol=1e-12)
        np.testing.assert_allclose(sd, spread, rtol=1e-12)


def test_readings_scatter_as_predict_says(known: tuple[Truth, Response]) -> None:
    _, response = known
    level = np.array([[4e-6, 0.0], [0.0, 100.0]])
    drift = replace(response.drift, level_covariance=level)
    response = certain(replace(response, noise=replace(response.noise, common_gain=3e-3), drift=drift))
    bench, draws = opened(response), 3000
    weight, vectors = operands(OUTPUTS, INPUTS, 1)
    shown = bench.show(torch.from_numpy(weight)[None], static=True)
    inputs = bench.shown(np.maximum(vectors, 0))
    light = bench._light(bench._behind(inputs), shown.gain[0, 0, 0], shown.bend[:, 0, 0, 0])
    many = np.repeat(light, draws, axis=0)
    keys = [(1, 2, i) for i in range(draws)]
    read = np.concatenate(
        [bench._read(many[:1], np.ones(1), bench._drift(key), (*key, 0), Tally())[0][:, 0] for key in keys]
    )
    weights = bench._weights(np.maximum(weight, 0.0))
    mean, sd = bench.moments(inputs, weights)
    np.testing.assert_allclose(read.mean(0) + response.offset, mean[0], atol=4.5 * sd.max() / np.sqrt(draws))
    np.testing.assert_allclose(read.std(0), sd[0], rtol=4.5 / np.sqrt(2 * draws))


@pytest.mark.parametrize(("family", "photons"), [("sign-split", None), ("offset", None), ("sign-split", 300.0)])
def test_products_scatter_as_those_of_the_bench_itself(
    known: tuple[Truth, Response], family: str, photons: float | None
) -> None:
    """The truth is shown the same tiles, frame by frame, perhaps dimmed; its counts are decoded as by the fit."""
    truth, response = known
    draws = 600
    weight, vectors = operands(7, 30, 1)  # two row tiles and three column tiles, both padded
    bench = opened(response, family, photons=photons)
    ours, tally = multiplied(bench, weight, np.repeat(vectors, draws, axis=0))
    rng, theirs = np.random.default_rng(9), np.zeros((draws, 8))
    padded, x = np.zeros((8, 36)), np.zeros(36)
    padded[:7, :30], x[:30] = weight, vectors[0]
    if family == "offset":
        terms = [(4.0, (padded + 1) / 2, (x + 1) / 2)]
        terms[0][1][7:], terms[0][1][:, 30:], terms[0][2][30:] = 0.0, 0.0, 0.0
        theirs -= x[:30].sum() + padded[:, :30].sum(1) + 30
    else:
        terms = [(s * t, np.maximum(s * padded, 0), np.maximum(t * x, 0)) for s in (1, -1) for t in (1, -1)]
    low, high = response.input_range
    unmixed = np.linalg.inv(np.eye(OUTPUTS) + response.crosstalk)
    least = response.output_gain * response.input_map.min()
    cells = bench.cells
    brightness = 1.0
    if photons is not None:
        assert tally.photons_per_mac == pytest.approx(photons)
        frames = [low + (high - low) * v[c : c + INPUTS] for _, _, v in terms for c in range(0, 36, INPUTS)]
        full = cells.high * np.outer(response.output_gain, response.input_map) / response.noise.shot
        brightness = photons / np.mean([(full @ frame).mean() / INPUTS for frame in frames])
        assert brightness < 0.1
    for sign, w, v in terms:
        for r in range(0, 8, OUTPUTS):
            for c in range(0, 36, INPUTS):
                operand = w[r : r + OUTPUTS, c : c + INPUTS]
                shown = cells.low + (cells.high - cells.low) * operand * response.input_map.min() / response.input_map
                inputs = np.tile(low + (high - low) * v[c : c + INPUTS], (draws, 1))
                read = (truth.read(rng, inputs, shown, brightness) - response.offset) / brightness
                light = read @ unmixed.T
                floor = cells.low * (response.output_gain[:, None] * response.input_map) @ inputs[0]
                decoded = (light - floor) / (least * (cells.high - cells.low)) - low * operand.sum(1)
                theirs[:, r : r + OUTPUTS] += sign * decoded / (high - low)
    theirs = theirs[:, :7]
    assert ours.var(0).mean() == pytest.approx(theirs.var(0).mean(), rel=0.1)  # 3.3 standard errors of seven outputs
    exact = (vectors @ weight.T)[0]
    error = theirs.std(0) / np.sqrt(draws)
    assert np.abs(ours.mean(0) - exact).max() < 4.5 * error.max()
    # the fit knows the truth's gains to a few parts in a thousand, of which an offset makes more
    assert np.abs(theirs.mean(0) - exact).max() < 0.04 * exact.std() + 4.5 * error.max()


def test_without_noise_every_tile_is_exact(known: tuple[Truth, Response], unproportional: Response) -> None:
    weight, vectors = operands(9, 31, 6)
    for response in (known[1], unproportional):
        noise = replace(response.noise, read=0.0, shot=0.0, intensity=0.0, common_gain=0.0, common_offset=0.0)
        drift = replace(response.drift, level_covariance=np.zeros((2, 2)))
        silent = replace(response, noise=noise, drift=drift, misfit=None)
        y, _ = multiplied(opened(silent), weight, vectors)
        np.testing.assert_allclose(y, vectors @ weight.T, atol=1e-5)


def test_curves_of_single_inputs_are_undone_on_the_bench_itself() -> None:
    """Each input brightens more than in proportion; the bench's own light is decoded, without any noise."""
    rng = np.random.default_rng(4)
    gain, curvature = np.outer(rng.uniform(0.9, 1.1, OUTPUTS), np.ones(INPUTS)), rng.uniform(0.05, 0.25, INPUTS)

    def light(inputs: Float, weights: Float) -> Float:
        return 3e4 * (inputs + curvature * inputs**2) @ (gain * weights).T

    weights, inputs = rng.uniform(0, 1, (OUTPUTS, INPUTS)), rng.uniform(0, 1, (2500, INPUTS))
    readings = OFFSET + light(inputs, weights) + rng.normal(0, 20, (2500, OUTPUTS))
    response = fit_response(Observations(inputs, weights, readings)).response
    assert response.bend.powers
    bench = opened(response)
    weight, vectors = operands(OUTPUTS, INPUTS, 200)
    y = np.zeros((200, OUTPUTS))
    for side, part in ((1, np.maximum(vectors, 0)), (-1, np.maximum(-vectors, 0))):
        shown = bench.shown(part)
        for sign in (1, -1):
            seen = OFFSET + light(shown, bench._weights(np.maximum(sign * weight, 0)))
            y += side * sign * bench._decode((seen - response.offset)[:, None])[:, 0] / bench._inputs.span
    exact = vectors @ weight.T
    assert (y - exact).std() < 0.02 * exact.std()


def test_tables_of_detectors_are_their_curves_and_turn_them_round() -> None:
    curved = PowerCurve((2.0, 3.0), np.array([[0.05, -0.02], [0.01, 0.03]]), 1000.0, 0.2, 1.0)
    squares = PowerCurve.square(np.array([-3e-4, 1e-4]), 1000.0)  # first schema; falls again at 1.7 × the fit
    light = np.random.default_rng(0).uniform(0, 1200, (500, 2))
    for curve in (curved, squares):
        found = Detectors.of(curve, 2)
        assert found.forth is not None
        assert found.back is not None
        np.testing.assert_allclose(found.forth(light), curve.value(light), atol=1e-3)
        np.testing.assert_allclose(found.back(curve.value(light)), light, atol=1e-3)
    assert not Detectors.of(PowerCurve.square(np.array([-6e-4]), 1000.0), 1).rises


def test_drawn_benches_differ_as_the_fit_is_uncertain(known: tuple[Truth, Response]) -> None:
    _, response = known
    rng = np.random.default_rng(0)
    inputs, weights = rng.uniform(0, 1, (1, INPUTS)), rng.uniform(0.1, 1, (OUTPUTS, INPUTS))
    weights[0, 0] = 0.0
    cells, found = Cells.of(response), []
    for seed in range(600):
        error, level = cells.error(cells.drawn(np.random.default_rng(seed)), weights)
        found.append((error @ inputs[0]) + level)
    carried = with_weights(response, weights)
    expected = carried.predict(weights, inputs)[1] ** 2 - certain(carried).predict(weights, inputs)[1] ** 2
    np.testing.assert_allclose(np.var(found, axis=0), expected[0], rtol=0.3)  # standard error 0.06
    a, b = (multiplied(opened(response, device=seed), *operands(4, 12, 5))[0] for seed in (1, 2))
    assert not np.array_equal(a, b)


def test_frames_photons_and_conversions_are_counted_one_by_one(known: tuple[Truth, Response]) -> None:
    _, response = known
    weight, vectors = operands(7, 30, 3)
    vectors[1] = np.abs(vectors[1])
    bench = opened(response)
    _, tally = multiplied(bench, weight, vectors)
    frames = conversions = 0
    photons = 0.0
    full = np.outer(response.output_gain, response.input_map) * bench.cells.high / response.noise.shot
    for x in vectors:
        for part in (np.maximum(x, 0), np.maximum(-x, 0)):
            for c in range(0, 30, INPUTS):
                operand = np.zeros(INPUTS)
                operand[: len(part[c : c + INPUTS])] = part[c : c + INPUTS]
                if operand.any():
                    frames += 2 * 2  # weight passes, row tiles
                    conversions += 2 * 2 * OUTPUTS
                    photons += 2 * 2 * float((full @ bench.shown(operand[None])[0]).sum())
    assert (tally.frames, tally.output_conversions, tally.input_conversions) == (frames, conversions, frames * INPUTS)
    assert tally.photons == pytest.approx(photons)
    assert 0 < tally.electrons < tally.photons


def test_a_row_does_not_depend_on_the_rest_of_its_batch(unproportional: Response) -> None:
    weight, vectors = operands(7, 30, 6)
    few, many = (multiplied(opened(unproportional), weight, rows)[0] for rows in (vectors[:2], vectors))
    np.testing.assert_allclose(many[:2], few, atol=1e-5)  # BLAS adds up in another order


def test_a_gain_of_each_pair_is_carried_and_said(unproportional: Response) -> None:
    assert unproportional.structure["gain"].chosen == "full"
    cells = Cells.of(unproportional)
    np.testing.assert_allclose(cells.gain(unproportional.weights), unproportional.gain)
    model = torch.nn.Sequential(torch.nn.Linear(20, 6))
    report = optical_report(opticalize(model, unproportional))
    assert any("one weight only" in words for words in report.not_measured)
    assert any("drift" in words for words in report.not_measured)
    proportional = optical_report(opticalize(model, Truth(1).fitted(400)))
    assert not any("one weight only" in words for words in proportional.not_measured)


def test_what_the_fit_does_not_know_of_a_cell_grows_with_the_distance_from_its_weight(unproportional: Response) -> None:
    cells = Cells.of(unproportional)
    old = unproportional.weights
    errors = np.zeros((300, 3))
    for seed in range(300):
        drawn = replace(cells.drawn(np.random.default_rng(seed)), gain=0.0, level=0.0, relative=np.zeros(OUTPUTS))
        errors[seed] = [cells.error(drawn, old + change)[0][1, 3] for change in (0.0, 0.25, 0.5)]
    full = cells.slope[1, 3]
    assert not errors[:, 0].any()
    np.testing.assert_allclose(errors.std(0)[1:], cells.scatter * full * np.array([0.25, 0.5]), rtol=0.15)


def test_readings_outside_the_fit_are_said(known: tuple[Truth, Response]) -> None:
    _, response = known
    narrow = replace(response, reading_range=(3e4, 4e4))
    bench = opened(narrow)
    _, tally = multiplied(bench, *operands(4, 12, 20))
    assert any("outside 30000 … 40000" in words for words in bench.not_measured(tally))


def test_what_a_response_cannot_carry_is_refused(known: tuple[Truth, Response], unproportional: Response) -> None:
    _, response = known
    alike = replace(unproportional, weights=np.full((OUTPUTS, INPUTS), 0.5))
    with pytest.raises(OutOfDomain, match="cannot be simulated so") as caught:
        opened(alike)
    assert "weights that differ" in caught.value.expected
    with pytest.raises(OutOfDomain, match="cannot be simulated so"):
        opened(replace(response, input_range=(-1.0, -0.1)))
    for family in ("coherent", "differential", "tiled-scales:8"):
        with pytest.raises(OutOfDomain, match="cannot be simulated so") as caught:
            opened(response, family)
        assert "leave out --encoding" in caught.value.hint
    with pytest.raises(OutOfDomain) as caught:
        opened(unproportional, "offset")
    assert "in proportion" in caught.value.expected
    with pytest.raises(OutOfDomain, match="cannot be brighter than it was measured") as caught:
        opticalize(torch.nn.Linear(3, 3), response, photons_per_mac=1e6)
    most = float(caught.value.expected.split()[2])
    opticalize(torch.nn.Linear(3, 3), response, photons_per_mac=most * (1 - 1e-3))
    silent = replace(response, noise=replace(response.noise, read=3.0, shot=0.0))
    with pytest.raises(OutOfDomain, match="no part that goes with the light"):
        opticalize(torch.nn.Linear(3, 3), silent, photons_per_mac=3.0)


def test_light_levels_of_an_import_are_set_and_said(known: tuple[Truth, Response]) -> None:
    _, response = known
    torch.manual_seed(0)
    model, x = torch.nn.Sequential(torch.nn.Linear(30, 7)), torch.randn(200, 30)
    optical, errors = opticalize(model, response), []
    for level in (None, 1000.0, 100.0):
        if level is not None:
            set_light(optical, level)
        with torch.no_grad():
            errors.append(float((optical(x) - model(x)).std()))
        report = optical_report(optical)
        assert any("other light than its own" in words for words in report.not_measured) == (level is not None)
        if level is not None:
            assert report.total.photons_per_mac == pytest.approx(level)
    assert 2.5 < errors[2] / errors[1] < 3.3  # √10, and what the fit does not know of the gains
    assert errors[1] > 2 * errors[0]
    with torch.no_grad():
        anew = opticalize(model, response, photons_per_mac=100.0)
        assert torch.equal(anew(x), _again(optical, x))


def test_own_light_of_an_import_is_a_point_of_the_curve_of_its_levels(known: tuple[Truth, Response]) -> None:
    _, response = known
    recorded_bright = replace(response, noise=replace(response.noise, least_light=0.5 * response.reading_range[1]))
    model, x = torch.nn.Sequential(torch.nn.Linear(INPUTS, OUTPUTS)), torch.rand(400, INPUTS)
    optical = opticalize(model, recorded_bright)
    errors = []
    with torch.no_grad():
        own = float((optical(x) - model(x)).std())
        photons = optical_report(optical).total.photons_per_mac
        for share in (0.7, 1.0, 1.4):
            set_light(optical, share * photons)
            errors.append(float((optical(x) - model(x)).std()))
    assert errors[0] > own > errors[2]
    assert own == pytest.approx(errors[1], rel=0.1)


def _again(optical: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """With the same noise."""
    set_light(optical, 100.0)
    found: torch.Tensor = optical(x)
    return found


def test_a_converter_of_few_bits_is_coarser(known: tuple[Truth, Response]) -> None:
    _, response = known
    weight, vectors = operands(4, 12, 400)
    fine, coarse = (
        (multiplied(opened(response, name), weight, vectors)[0] - vectors @ weight.T).var()
        for name in ("sign-split", "partial-sums:5")
    )
    step = (
        response.reading_range[1]
        / 31
        / np.mean(response.output_gain * response.input_map.min())
        / np.ptp(response.weights)
    )
    assert coarse - fine == pytest.approx(4 * step**2 / 12, rel=0.25)


def test_a_student_tail_is_drawn(known: tuple[Truth, Response]) -> None:
    _, response = known
    heavy = opened(replace(response, noise=replace(response.noise, tail=6.0)))
    z = heavy._deviates((40000, 1, OUTPUTS), (1, 2, 3, 4))
    normal = opened(response)._deviates((40000, 1, OUTPUTS), (1, 2, 3, 4))
    assert (np.abs(z) > 5).mean() > 20 * max((np.abs(normal) > 5).mean(), 1e-5)
    assert z.std() == pytest.approx(1.0, abs=0.1)


@pytest.mark.slow
def test_the_measured_bench_of_an_lcd_and_a_camera_multiplies_signed_numbers() -> None:
    """36 × 4 cells that somebody measured at one weight each; its recording is read where somebody has put it."""
    path = Path(__file__).parents[3] / "shared" / "data" / "measured" / "lcd_camera_36x4_train.npz"
    if not path.exists():
        pytest.skip("no lcd_camera_36x4_train.npz in ../shared/data/measured")
    held = np.load(path)
    inputs, weights, readings = (held[name] for name in ("inputs", "weights", "readings"))
    response = fit_response(Observations(inputs[:600], weights, readings[:600])).response
    bench = opened(response)
    assert (bench.outputs, bench.inputs) == (4, 36)
    mean, sd = bench.moments(inputs[:50], weights)
    expected, spread = certain(response).predict(weights, inputs[:50])
    np.testing.assert_allclose(mean, expected, rtol=1e-6)  # curves are looked up in tables
    np.testing.assert_allclose(sd, spread, rtol=1e-6)
    weight, vectors = operands(6, 50, 300)
    exact = vectors @ weight.T
    fitted, drawn = (
        (multiplied(opened(response, device=seed), weight, vectors)[0] - exact).std() for seed in (None, 1)
    )
    assert fitted < 0.1 * exact.std()
    assert fitted < drawn < 0.6 * exact.std()
    assert any("one weight only" in words for words in bench.not_measured(Tally()))

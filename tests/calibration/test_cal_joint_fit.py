"""The structured normal equations against dense matrices, and the forms of gain and crosstalk against theirs."""

from dataclasses import replace

import numpy as np
import pytest
from cal_bench import bench, common_crosstalk
from scipy.linalg import block_diag

from calibration.errors import FitError
from calibration.fit.averages import covariance_of_means, stack
from calibration.fit.crosstalk_forms import COMMON, NONE, PER_OUTPUT
from calibration.fit.full import full_fit
from calibration.fit.gain_forms import gain_forms
from calibration.fit.structured import Mean, backed_off, between, joint_fit, minimised, misfit
from calibration.frames.probes import ProbePlan, crosstalk_scan, gain_scan, noise_scan
from calibration.frames.scan import Readings, Scan

SHAPE = (6, 8)
PLAN = ProbePlan(offset_repeats=4, crosstalk_repeats=2, noise_repeats=3)
PARTS = "gain", "offset", "crosstalk", "bleed"
MIXINGS = {"none": NONE, "common": COMMON, "per output": PER_OUTPUT}
ROUGH = np.random.default_rng(1).uniform(0.0, 0.06, (6, 2))


def framed(truth, rng=None, plan=PLAN):
    shape = truth.shape
    scans = {"gain": gain_scan(shape, plan), "crosstalk": crosstalk_scan(shape, plan), "noise": noise_scan(shape, plan)}
    frames = stack({name: truth.read_scan(s, rng) for name, s in scans.items()}, *truth.luts)
    return frames, covariance_of_means(truth.noise, mean_of(truth).light(frames), truth.offset, frames.count)


def mean_of(truth):
    return Mean(truth.gain, truth.offset, truth.channel.crosstalk, np.array(truth.bleed))


def lit(truth, frames, mean):
    """(F, M) with dense matrices."""
    b = replace(truth, gain=mean.gain, offset=mean.offset, crosstalk=mean.crosstalk, bleed=tuple(mean.bleed))
    z = [(b.gain * frames.slm[s]) @ (b.blending @ d) for s, d in zip(frames.slm_index, frames.display, strict=True)]
    return np.array(z) @ b.mixing.T


def covariances(truth, frames):
    """(F, M, M) dense, of the frames' means."""
    s = lit(truth, frames, mean_of(truth))
    shared = truth.flicker**2 * np.einsum("fm,fn->fmn", s + truth.offset, s + truth.offset)
    own = (truth.read**2 + truth.shot * s)[:, :, None] * np.eye(s.shape[1])
    return (own + shared) / frames.count[:, None, None]


def test_covariance_of_means_is_that_of_dense_matrices():
    truth = bench(SHAPE, flicker=0.01)
    frames, scatter = framed(truth)
    residual = np.random.default_rng(2).standard_normal(frames.dn.shape)
    expected = np.stack([np.linalg.solve(c, r) for c, r in zip(covariances(truth, frames), residual, strict=True)])
    assert scatter.solve(residual) == pytest.approx(expected, rel=1e-9)
    assert scatter.quadratic(residual) == pytest.approx((expected * residual).sum(axis=1), rel=1e-9)


def test_frames_are_averaged_and_counted():
    truth = bench(SHAPE)
    frames, _ = framed(truth)
    # 8 + 8 Hadamard frames of which one is dark, with the 4 dark ones; 27 phases; 8 levels
    assert len(frames) == 16 + 27 + 8
    assert frames.count.sum() == 16 + 4 + 54 + 24
    assert frames.dn - truth.offset == pytest.approx(lit(truth, frames, mean_of(truth)), rel=1e-12)
    assert mean_of(truth).light(frames) == pytest.approx(frames.dn - truth.offset, rel=1e-12)


def dense_bound(truth, frames, form, crosstalk, moves=None):
    """Standard errors of every part from a numeric Jacobian of dense matrices: the generalised least-squares bound."""
    m, k = truth.shape
    theta = truth.gain.ravel() if form is None else form.start(truth.gain)
    inner = np.ones((m, 2), bool)
    inner[0, 0] = inner[-1, 1] = False
    pairs = {"none": np.zeros(0), "common": np.array([0.02, 0.03]), "per output": truth.channel.crosstalk[inner]}
    parts = [theta, truth.offset, pairs[crosstalk], np.array(truth.bleed)]
    ends = np.cumsum([len(p) for p in parts])[:-1]

    def mean(x):
        g, b, c, beta = np.split(x, ends)
        mixing = common_crosstalk(m, *c) if crosstalk == "common" else np.zeros((m, 2))
        if crosstalk == "per output":
            mixing[inner] = c
        mixing = mixing * inner
        return Mean(g.reshape(m, k) if form is None else form.gain(g), b, mixing, beta)

    x = np.concatenate(parts)
    step = 1e-5 * np.maximum(np.abs(x), 1e-2)

    def slope(function):
        return np.stack([(function(x + d) - function(x - d)) / (2 * d[i]) for i, d in enumerate(np.diag(step))])

    readings = slope(lambda x: mean(x).offset + lit(truth, frames, mean(x)))
    whole = block_diag(*covariances(truth, frames))
    if moves is not None:
        whole += moves.T @ moves
    readings = readings.reshape(len(x), -1)
    covariance = np.linalg.pinv(readings @ np.linalg.solve(whole, readings.T), hermitian=True, rcond=1e-13)
    errors = []
    for field in PARTS:
        by = slope(lambda x, name=field: getattr(mean(x), name))
        errors.append(np.sqrt(np.maximum(np.einsum("i...,ij,j...->...", by, covariance, by), 0)))
    return Mean(*errors)


@pytest.mark.parametrize("flicker", [0.0, 0.01])
@pytest.mark.parametrize("crosstalk", MIXINGS)
@pytest.mark.parametrize("structure", ["scalar", "per output", "separable", "smooth(2)", "smooth(4)", "full"])
def test_joint_errors_are_those_of_dense_matrices(structure, crosstalk, flicker):
    mixing = {"none": np.zeros((6, 2)), "common": common_crosstalk(6, 0.02, 0.03), "per output": ROUGH}[crosstalk]
    name = structure.partition("(")[0]
    truth = bench(SHAPE, name, crosstalk=mixing, flicker=flicker)
    form = next((f for f in gain_forms(SHAPE) if f.name == structure), None)
    if name == "smooth":
        truth = replace(truth, gain=form.gain(form.start(truth.gain)))
    frames, scatter = framed(truth)
    if form is None:
        fit = full_fit(frames, scatter, MIXINGS[crosstalk])
    else:
        fit = joint_fit(frames, scatter, form, MIXINGS[crosstalk], mean_of(truth))
    expected = dense_bound(truth, frames, form, crosstalk)
    # a row's gains and its neighbours' share a little of the error through the crosstalk, which the full fit leaves out
    tolerance = {"rel": 0.05} if form is None else {"rel": 1e-4}
    for field in PARTS:
        assert getattr(fit.stderr, field) == pytest.approx(getattr(expected, field), **tolerance, abs=1e-12)
        truly = getattr(mean_of(truth), field)
        assert getattr(fit.mean, field) == pytest.approx(truly, rel=1e-6, abs=1e-7), field


@pytest.mark.parametrize("structure", ["scalar", "smooth(2)", "full"])
def test_what_the_look_up_tables_leave_open_is_part_of_the_errors(structure):
    """Dense: every entry that is not exact adds the covariance s² (∂y/∂T)(∂y/∂T)ᵀ between all frames."""
    truth = bench(SHAPE, "scalar", crosstalk=common_crosstalk(6, 0.02, 0.03), flicker=0.005)
    form = next((f for f in gain_forms(SHAPE) if f.name == structure), None)
    loose = np.where(np.arange(256) < 255, 1e-3 * (1 + np.arange(256) / 64), 0.0)
    luts = [replace(lut, stderr=stderr) for lut, stderr in zip(truth.luts, (loose, loose / 2), strict=True)]
    scans = {"gain": gain_scan(SHAPE, PLAN), "crosstalk": crosstalk_scan(SHAPE, PLAN), "noise": noise_scan(SHAPE, PLAN)}
    frames = stack({name: truth.read_scan(s) for name, s in scans.items()}, *luts)
    assert len(frames.entries) == 7 + 1  # display 0 … 200 and SLM 0; 255 is exact
    scatter = covariance_of_means(truth.noise, mean_of(truth).light(frames), truth.offset, frames.count)
    start = mean_of(truth)
    fit = full_fit(frames, scatter, COMMON) if form is None else joint_fit(frames, scatter, form, COMMON, start)
    moves = []
    for j, stderr in enumerate(frames.entries.stderr):
        step = stderr * (np.arange(len(frames.entries)) == j)
        up, down = (replace(start, entries=sign * step) for sign in (1, -1))
        moves.append((up.light(frames) - down.light(frames)).ravel() / 2)
    assert np.abs(moves).max() > 1
    expected = dense_bound(truth, frames, form, "common", np.array(moves))
    free = dense_bound(truth, frames, form, "common")
    for field in ("gain", "offset", "crosstalk", "bleed"):
        tolerance = 0.05 if form is None else 1e-3
        assert getattr(fit.stderr, field) == pytest.approx(getattr(expected, field), rel=tolerance, abs=1e-12)
    assert (expected.bleed > 1.02 * free.bleed).all()  # little: the crosstalk frames know the entries rather well
    assert fit.stderr.entries.shape == (8,)
    assert (fit.stderr.entries < frames.entries.stderr * (1 + 1e-9)).all()


@pytest.mark.parametrize("structure", ["smooth", "full"])
def test_no_other_parameters_fit_better(structure):
    """χ² of noisy frames grows for a step of each kind to either side: the fit is at its minimum."""
    truth = bench(SHAPE, structure, crosstalk=ROUGH, flicker=0.005)
    frames, scatter = framed(truth, np.random.default_rng(3))
    form = gain_forms(SHAPE)[-1]
    full = structure == "full"
    fit = (
        full_fit(frames, scatter, PER_OUTPUT) if full else joint_fit(frames, scatter, form, PER_OUTPUT, mean_of(truth))
    )
    best = fit.chi2.sum()
    rng = np.random.default_rng(4)
    shapes = {name: getattr(fit.mean, name) for name in ("offset", "crosstalk", "bleed")}
    kinds = [{name: rng.standard_normal(v.shape) * getattr(fit.stderr, name)} for name, v in shapes.items()]
    own = fit.stderr.gain * rng.standard_normal(SHAPE) if full else form.gain(rng.standard_normal(form.shared))
    kinds.append({"gain": own / 10})
    for kind in kinds:
        rise = []
        for sign in (1, -1):
            moved = replace(fit.mean, **{n: getattr(fit.mean, n) + sign * d for n, d in kind.items()})
            rise.append(scatter.quadratic(frames.dn - moved.offset - lit(truth, frames, moved)).sum() - best)
        assert min(rise) > 0
        assert rise[0] == pytest.approx(rise[1], rel=0.05)  # no slope


def test_parameters_are_counted():
    counted = {form.name: form.parameters for form in gain_forms((24, 32))}
    assert counted == {
        "scalar": 1, "per output": 24, "separable": 55,
        "smooth(2)": 6, "smooth(4)": 15, "smooth(6)": 28, "smooth(8)": 45,
    }  # fmt: skip
    assert [x.parameters(24) for x in (NONE, COMMON, PER_OUTPUT)] == [0, 2, 46]
    truth = bench(SHAPE, "full")
    assert full_fit(*framed(truth), COMMON).parameters == 48 + 6 + 2 + 2


def test_leverage_adds_up_to_the_parameters():
    """Independent outputs, no flicker: the trace of the hat matrix is the number of parameters."""
    truth = bench(SHAPE, "full")
    frames, scatter = framed(truth)
    fit = full_fit(frames, scatter, NONE)
    assert fit.leverage.sum() * 6 == pytest.approx(6 * (8 + 1), rel=1e-3)  # bleed is shared: not in it
    fit = joint_fit(frames, scatter, gain_forms(SHAPE)[1], COMMON, fit.mean)
    assert fit.leverage.sum() * 6 == pytest.approx(6 + 6 + 4, rel=1e-6)


def test_multiplexing_beats_one_column_at_a_time():
    """N frames with half of the columns lit know a column as well as N/4 frames of it alone (Harwit & Sloane 1979)."""
    truth = bench((12, 32), "scalar", read=300.0, shot=0.01)
    readings = truth.read_scan(gain_scan((12, 32), PLAN))
    phases = truth.read_scan(crosstalk_scan((12, 32), ProbePlan(crosstalk_repeats=1)))
    frames = stack({"gain": readings, "crosstalk": phases}, *truth.luts)
    fit = full_fit(
        frames, covariance_of_means(truth.noise, mean_of(truth).light(frames), truth.offset, frames.count), NONE
    )
    assert fit.stderr.gain.mean() == pytest.approx(300 / np.sqrt(64 / 4), rel=0.05)


def test_patterns_that_miss_a_column_are_refused():
    truth = bench(SHAPE)
    scan = gain_scan(SHAPE, PLAN)
    display = scan.display.copy()
    display[:, 3] = display[:, 4]
    blind = truth.read_scan(Scan(scan.slm, scan.slm_index, display))
    frames = stack({"gain": blind}, *truth.luts)
    scatter = covariance_of_means(truth.noise, frames.dn, truth.offset, frames.count)
    with pytest.raises(FitError, match="every column"):
        full_fit(frames, scatter, NONE)


def test_equal_patterns_of_different_scans_are_one():
    truth = bench(SHAPE)
    frames, _ = framed(truth)
    assert len(frames.slm) == 1 + 9
    readings = truth.read_scan(noise_scan(SHAPE, PLAN))
    again = stack({"a": readings, "b": Readings(readings.scan, readings.dn + 1, readings.saturated)}, *truth.luts)
    assert len(again.slm) == 1
    assert len(again) == 16


def test_step_that_misfits_more_is_halved_until_it_does_not():
    """Whole steps of a misfit of 10 + x² that go twice too far would swing between 1 and −1 for ever."""

    def misfit(x):
        return 10.0 + x**2

    def halfway(one, other):
        return (one + other) / 2

    x, before, misfits = 1.0, 1.0, []
    for _ in range(12):
        x, found = backed_off(before, x, halfway, misfit, misfits)
        misfits.append(found)
        before, x = x, -1.05 * x
    assert misfits[-1] == pytest.approx(10.0, abs=2e-3)
    assert np.diff(misfits).max() < 1e-3 * 10.0
    assert backed_off(1.0, 0.2, halfway, misfit, [11.0]) == (0.2, misfit(0.2))


def test_halfway_between_two_means_is_so_in_every_part():
    truth = mean_of(bench(SHAPE))
    middle = between(truth, replace(truth, gain=3 * truth.gain, bleed=truth.bleed + 0.2))
    assert middle.gain == pytest.approx(2 * truth.gain)
    assert middle.bleed == pytest.approx(truth.bleed + 0.1)
    assert middle.offset == pytest.approx(truth.offset)


def test_what_steps_are_judged_by_is_least_where_the_fit_ends():
    """The tables' own knowledge of their entries counts: without it, other entries would seem better."""
    truth = bench(SHAPE, "full", crosstalk=common_crosstalk(6, 0.02, 0.03), flicker=0.002)
    loose = np.where(np.arange(256) < 255, 1e-3, 0.0)
    luts = [replace(lut, stderr=loose) for lut in truth.luts]
    scans = {"gain": gain_scan(SHAPE, PLAN), "crosstalk": crosstalk_scan(SHAPE, PLAN), "noise": noise_scan(SHAPE, PLAN)}
    frames = stack({name: truth.read_scan(s, np.random.default_rng(5)) for name, s in scans.items()}, *luts)
    scatter = covariance_of_means(truth.noise, mean_of(truth).light(frames), truth.offset, 9 * frames.count)
    found = full_fit(frames, scatter, COMMON).mean
    least, alone = minimised(scatter, frames, found), misfit_at(scatter, frames, found)
    assert least > 1.5
    downhill = -found.entries / np.linalg.norm(found.entries)
    up, down = (replace(found, entries=found.entries + way * 1e-5 * downhill) for way in (1, -1))
    assert min(minimised(scatter, frames, up), minimised(scatter, frames, down)) > least
    assert min(misfit_at(scatter, frames, up), misfit_at(scatter, frames, down)) < alone


def misfit_at(scatter, frames, mean):
    return misfit(scatter, frames.dn - mean.offset - mean.light(frames))


def test_a_start_far_away_ends_where_a_near_one_does():
    """The solver of a far start is no guide at the minimum: it is built anew as long as steps lead far."""
    rng = np.random.default_rng(0)
    mixing = np.random.default_rng(1).uniform(0.0, 0.12, (24, 2))
    truth = bench((24, 32), "full", crosstalk=mixing, flicker=0.002, read=0.3, shot=0.0005)
    frames, _ = framed(truth, rng)
    frames = replace(frames, count=frames.count / np.array([250.0, 3000.0, 20.0])[frames.scan])
    near = mean_of(truth)
    scatter = covariance_of_means(truth.noise, near.light(frames), truth.offset, frames.count)
    gain = near.gain * (1 + np.random.default_rng(3).standard_normal((24, 32)))
    far = Mean(gain, near.offset, np.zeros((24, 2)), np.zeros(2))
    found, expected = (full_fit(frames, scatter, PER_OUTPUT, start) for start in (far, near))
    for field in PARTS:
        apart = getattr(found.mean, field) - getattr(expected.mean, field)
        assert (np.abs(apart) <= 0.05 * getattr(expected.stderr, field) + 1e-12).all(), field

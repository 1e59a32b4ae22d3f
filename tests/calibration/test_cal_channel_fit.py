"""The whole channel fit: what is chosen, how right its errors are, and which scans it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from cal_bench import Bench, bench

from calibration.errors import BadScan
from calibration.fit.channel import fit_channel
from calibration.fit.noise import fit_noise
from calibration.frames.probes import ProbePlan, crosstalk_scan, gain_scan, holdout_scan, noise_scan
from calibration.frames.scan import Readings

SHAPE = (14, 20)
PLAN = ProbePlan()


def captured(truth, rng, plan=PLAN):
    shape = truth.shape
    scans = {"gain": gain_scan(shape, plan), "crosstalk": crosstalk_scan(shape, plan), "noise": noise_scan(shape, plan)}
    readings = {name: truth.read_scan(scan, rng) for name, scan in scans.items()}
    return readings, truth.read_scan(holdout_scan(shape, plan, np.random.default_rng(99)), rng)


def fit(truth, rng, **changes):
    readings, holdout = captured(truth, rng)
    noise = fit_noise(readings["noise"], truth.display[0]).noise if rng else truth.noise
    return fit_channel(*truth.luts, noise, readings, holdout, **changes)


@pytest.mark.parametrize("flicker", [0.0, 0.004])
@pytest.mark.parametrize("structure", ["scalar", "per output", "separable", "smooth", "full"])
def test_the_structure_of_the_bench_is_chosen(structure, flicker):
    truth = bench(SHAPE, structure, flicker=flicker)
    found = fit(truth, np.random.default_rng(10))
    gain, crosstalk, noise = (found.structure[name] for name in ("gain", "crosstalk", "noise"))
    assert gain.chosen == ("smooth(4)" if structure == "smooth" else structure)
    assert crosstalk.chosen == "common"
    assert noise.chosen == ("read + shot + intensity" if flicker else "read + shot")
    assert crosstalk.p_value > 1e-5
    assert crosstalk.runner_up == "per output"
    assert crosstalk.statistic == "χ²(24)"
    assert crosstalk.reason.startswith("evidence for crosstalk over none: χ²(2) = ")
    assert "; no evidence for per-output crosstalk: χ²(24) = " in crosstalk.reason
    best = next(c for c in found.candidates if c.structure == gain.chosen)
    assert [c.structure for c in found.candidates] == [
        "scalar", "per output", "separable", "smooth(2)", "smooth(4)", "smooth(6)", "smooth(8)", "full"
    ]  # fmt: skip
    # means of 64 Hadamard and dark, 27 phase and 8 uniform frames over 14 outputs; parameters leave half of the first
    for name, readings in (("gain", 450), ("crosstalk", 378), ("noise", 112)):
        assert found.chi2_per_dof[name] == pytest.approx(1, abs=4.5 * np.sqrt(2 / readings))
    # 64 × 14 held-out readings: χ²/dof is known to √(2/896) = 4.7 %; flicker and the full map's errors add to it
    assert 0.8 < best.heldout_chi2_per_dof < (1.7 if flicker or structure == "full" else 1.2)
    if structure != "full":
        assert best.p_value > 5e-5
        assert best.freedom == 280 - best.parameters


def test_no_evidence_is_said_in_words_and_numbers():
    choice = fit(bench(SHAPE, "scalar"), np.random.default_rng(11)).structure["gain"]
    assert choice.reason.startswith("no evidence for ")
    assert f"{choice.statistic} = {choice.value:.4g}, p = {choice.p_value:.2g}" in choice.reason


def test_crosstalk_of_each_output_and_none_are_recognised():
    rng = np.random.default_rng(1)
    rough = bench(SHAPE, crosstalk=rng.uniform(0.0, 0.05, (14, 2)))
    found = fit(rough, rng)
    assert found.structure["crosstalk"].chosen == "per output"
    inner = found.channel.crosstalk_stderr > 0
    assert inner.sum() == 26
    z = (found.channel.crosstalk - rough.crosstalk)[inner] / found.channel.crosstalk_stderr[inner]
    assert np.sqrt(np.mean(z**2)) == pytest.approx(1, abs=4.5 / np.sqrt(2 * 26))
    none = fit(bench(SHAPE, crosstalk=np.zeros((14, 2))), rng)
    assert none.structure["crosstalk"].chosen == "none"
    assert not none.channel.crosstalk.any()


def test_the_whole_channel_is_recovered_with_the_errors_stated():
    """10 benches captured and fitted. The gains of one capture share their errors through the smooth map."""
    truth = bench(SHAPE, "smooth", flicker=0.003)
    z = {name: [] for name in ("gain_dn", "offset_dn", "crosstalk", "bleed", "noise")}
    for seed in range(10):
        c = fit(truth, np.random.default_rng(50 + seed)).channel
        for name, truly in (("gain_dn", truth.gain), ("offset_dn", truth.offset), ("bleed", np.array(truth.bleed))):
            z[name].append(
                (getattr(c, name) - truly)
                / getattr(c, name.replace("_dn", "_stderr_dn") if "_dn" in name else "bleed_stderr")
            )
        z["crosstalk"].append((c.crosstalk - truth.crosstalk)[5] / c.crosstalk_stderr[5])
        noise = np.array([c.noise.read_dn, c.noise.shot_dn, c.noise.flicker])
        z["noise"].append((noise - [truth.read, truth.shot, truth.flicker]) / c.noise.stderr)
    rms = {name: np.sqrt(np.mean(np.square(values))) for name, values in z.items()}
    assert rms["gain_dn"] == pytest.approx(1, abs=0.3)  # 10 × about 10 independent numbers
    assert rms["offset_dn"] == pytest.approx(1, abs=4.5 / np.sqrt(2 * 10 * 14))
    for name, members in (("crosstalk", 2), ("bleed", 2), ("noise", 3)):
        assert rms[name] == pytest.approx(1, abs=4.5 / np.sqrt(2 * 10 * members)), name


def test_noise_of_all_scans_is_known_better_than_that_of_its_own():
    truth = bench(SHAPE, "smooth", flicker=0.003)
    readings, holdout = captured(truth, np.random.default_rng(3))
    own = fit_noise(readings["noise"], truth.display[0]).noise
    found = fit_channel(*truth.luts, own, readings, holdout).channel.noise
    # 128 of 346 frames, most of the others darker
    assert found.stderr[0] < 0.75 * own.stderr[0]
    assert found.stderr[1] < 0.9 * own.stderr[1]


def test_misfit_is_not_noise():
    """A scan that the model does not explain (0.5 % of light follows no pattern) leaves the noise to the repeats."""
    truth = bench(SHAPE, "smooth")
    readings, holdout = captured(truth, np.random.default_rng(4))
    phases = readings["crosstalk"]
    strange = 60 * np.random.default_rng(5).standard_normal((27, 14)).repeat(6, axis=0)
    readings["crosstalk"] = Readings(phases.scan, phases.dn + strange, phases.saturated)
    found = fit_channel(*truth.luts, truth.noise, readings, holdout)
    assert found.chi2_per_dof["crosstalk"] > 2
    noise = found.channel.noise
    assert abs(noise.read_dn - truth.read) < 4 * noise.stderr[0]
    assert abs(noise.shot_dn - truth.shot) < 4 * noise.stderr[1]


def test_a_scan_that_the_model_does_not_explain_makes_the_gains_no_less_certain():
    """Crosstalk differs from phase to phase, as on a bench with narrow guards; the gain scan is as good as ever."""
    truth = bench(SHAPE, "full")
    readings, holdout = captured(truth, np.random.default_rng(8))
    right = fit_channel(*truth.luts, truth.noise, readings, holdout).channel
    phases = readings["crosstalk"]
    strange = 60 * np.random.default_rng(5).standard_normal((27, 14)).repeat(6, axis=0)
    readings["crosstalk"] = Readings(phases.scan, phases.dn + strange, phases.saturated)
    found = fit_channel(*truth.luts, truth.noise, readings, holdout)
    assert found.chi2_per_dof["crosstalk"] > 20
    assert found.structure["gain"].chosen == "full"
    stated = found.channel.gain_stderr_dn
    assert stated.mean() < 1.5 * right.gain_stderr_dn.mean()
    assert np.sqrt(np.mean(((found.channel.gain_dn - truth.gain) / stated) ** 2)) == pytest.approx(1, abs=0.3)


def test_without_noise_the_whole_channel_is_exact():
    truth = bench(SHAPE, "smooth")
    readings, holdout = captured(truth, None)
    jitter = np.random.default_rng(6)  # repeats must differ for a noise to be fitted
    readings = {
        n: Readings(r.scan, r.dn + 1e-3 * jitter.standard_normal(r.dn.shape), r.saturated) for n, r in readings.items()
    }
    found = fit_channel(*truth.luts, truth.noise, readings, holdout).channel
    assert found.gain_dn == pytest.approx(truth.gain, rel=1e-5)
    assert found.crosstalk == pytest.approx(truth.channel.crosstalk, abs=1e-5)
    assert found.bleed == pytest.approx(np.array(truth.bleed), abs=1e-5)
    assert found.offset_dn == pytest.approx(truth.offset, abs=1e-2)


def test_the_error_of_the_dark_signal_is_part_of_the_offsets():
    truth = bench(SHAPE, "scalar")
    readings, holdout = captured(truth, np.random.default_rng(9))
    without = fit_channel(*truth.luts, truth.noise, readings, holdout).channel
    with_dark = fit_channel(*truth.luts, truth.noise, readings, holdout, dark_stderr_dn=np.full(14, 7.0)).channel
    assert with_dark.offset_stderr_dn == pytest.approx(np.hypot(without.offset_stderr_dn, 7.0))


def test_a_bench_without_light_is_a_bad_scan():
    truth = bench(SHAPE, "scalar")
    rng = np.random.default_rng(6)
    readings, holdout = captured(truth, None)
    dark = {n: Readings(r.scan, 12 * rng.standard_normal(r.dn.shape), r.saturated) for n, r in readings.items()}
    with pytest.raises(BadScan, match="no light"):
        fit_channel(*truth.luts, truth.noise, dark, holdout)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["gain", "crosstalk", "noise", "holdout"])
def test_frames_in_another_order_do_not_follow_their_patterns(name, seed):
    truth = bench(SHAPE, "smooth", flicker=0.004)
    rng = np.random.default_rng(seed)
    readings, holdout = captured(truth, rng)
    readings["holdout"] = holdout
    shuffled = readings[name]
    readings[name] = Readings(shuffled.scan, rng.permutation(shuffled.dn), shuffled.saturated)
    with pytest.raises(BadScan, match=f"the {name} scan do not follow the patterns") as caught:
        fit_channel(*truth.luts, truth.noise, readings, readings.pop("holdout"))
    assert caught.value.action == name
    assert caught.value.seen.endswith("%")
    assert "moved" in caught.value.hint  # a bench that was knocked looks the same


def test_a_bench_too_small_for_polynomials_is_still_fitted():
    truth = Bench(np.full((3, 4), 900.0), np.full(3, 50.0), np.zeros((3, 2)))
    found = fit(truth, np.random.default_rng(7))
    assert {c.structure for c in found.candidates} == {"scalar", "per output", "separable", "full"}
    assert found.structure["gain"].chosen == "scalar"
    assert found.structure["crosstalk"].chosen == "none"


def test_a_camera_with_nothing_but_shot_noise_is_fitted():
    truth = replace(bench(SHAPE, "scalar"), read=0.0, crosstalk=np.zeros((14, 2)))
    found = fit(truth, np.random.default_rng(8))
    assert found.structure["noise"].chosen == "shot"
    assert found.channel.noise.read_dn == found.channel.noise.flicker == 0
    assert found.channel.gain_dn == pytest.approx(truth.gain, rel=1e-3)

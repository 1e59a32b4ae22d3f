"""Both kinds of calibration are one `Calibration` to whoever opens, compares or asks them."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from cal_bench import bench

from calibration import Calibration, load_calibration
from calibration.errors import ArtefactError
from calibration.machine import artefact
from calibration.machine.findings import Findings
from calibration.response import Observations, Response, fit_response, save_response
from calibration.response.predict import predict

sys.path.append(str(Path(__file__).parent / "response"))
from somebodys_bench import bench as foreign_bench

RNG = np.random.default_rng(3)
OURS = bench((5, 6), "full", flicker=0.002)
THEIRS = foreign_bench(RNG, per_output=0.05)


def ours() -> artefact.Calibration:
    domain = artefact.Domain(0.004, 5, 6, 0.6, 532.0)
    return artefact.Calibration(OURS.machine(), domain, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", Findings(), {})


def theirs() -> Response:
    return fit_response(THEIRS.observe(np.random.default_rng(4), 200)).response


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> dict[str, tuple[Calibration, list[Path]]]:
    folder = tmp_path_factory.mktemp("calibrations")
    a, b = ours(), theirs()
    return {"ours": (a, list(artefact.save(a, folder))), "theirs": (b, list(save_response(b, folder)))}


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_both_kinds_are_calibrations_and_one_loader_opens_them(kinds, kind):
    saved, paths = kinds[kind]
    assert isinstance(saved, Calibration)
    for path in paths:
        found: Calibration = load_calibration(path)
        assert type(found) is type(saved)
        assert found.id == saved.id == found.header()["id"]
        assert {"schema", "acquired", "provenance", "parent"} <= found.header().keys()
        assert json.dumps(found.header(), sort_keys=True) == json.dumps(saved.header(), sort_keys=True)
        assert "gain" in [family.name for family in found.families()]
        assert isinstance(found.valid_until, str)
        assert load_calibration(str(path)).id == saved.id


def test_a_bench_calibration_predicts_the_readings_of_one_pass():
    weights, inputs = RNG.random((5, 6)), RNG.random((40, 6))
    mean, sd = ours().predict(weights, inputs)
    machine = OURS.machine()
    slm, display = machine.slm.encode(weights), machine.display.encode(inputs)
    truth = np.stack([OURS.offset + OURS.light(slm, levels) for levels in display])
    assert mean == pytest.approx(truth, rel=1e-9)
    light = truth - OURS.offset
    assert sd == pytest.approx(np.sqrt(OURS.read**2 + OURS.shot * light + (OURS.flicker * truth) ** 2), rel=1e-9)


@pytest.mark.parametrize("rows", [200, 6000], ids=["few", "plenty"])
def test_a_response_predicts_as_the_prediction_of_a_file_does(rows):
    fitted = fit_response(THEIRS.observe(np.random.default_rng(5), rows)).response
    inputs = RNG.random((40, 12))
    mean, sd = fitted.predict(THEIRS.weights, inputs)
    of_file = predict(fitted, Observations(inputs, THEIRS.weights))
    assert mean == pytest.approx(of_file.mean, rel=1e-12)
    assert (sd <= of_file.sd * (1 + 1e-12)).all()  # a file comes later, and the bench may have walked


def test_a_single_detector_predicts_all_outputs_at_once():
    b = foreign_bench(np.random.default_rng(6), per_output=0.05)
    all_outputs = b.observe(np.random.default_rng(7), 900)
    which = np.random.default_rng(8).integers(0, 4, 900)
    one = Observations(all_outputs.inputs, b.weights, all_outputs.readings[np.arange(900), which], which)
    fitted = fit_response(one).response
    inputs = RNG.random((20, 12))
    mean, sd = fitted.predict(b.weights, inputs)
    for m in range(4):
        alone = predict(fitted, Observations(inputs, b.weights, output=np.full(20, m)))
        assert mean[:, m] == pytest.approx(alone.mean.ravel(), rel=1e-12)
        assert (sd[:, m] <= alone.sd.ravel() * (1 + 1e-12)).all()


def test_a_schema_that_nobody_knows_is_refused_with_the_ones_that_are_known(tmp_path):
    path = tmp_path / "other.calib.h5"
    with h5py.File(path, "w") as file:
        file.attrs["header"] = np.bytes_(json.dumps({"schema": "labctl.calibration/9", "id": "cal-1"}).encode())
    with pytest.raises(ArtefactError) as caught:
        load_calibration(path)
    assert caught.value.expected == "labctl.calibration/1 or labctl.response/2 or labctl.response/1"
    assert caught.value.seen == "labctl.calibration/9"
    with pytest.raises(ArtefactError, match="does not exist"):
        load_calibration(tmp_path / "none.calib.h5")


def test_families_of_two_kinds_have_names_of_their_own_numbers(kinds):
    a = {family.name for family in kinds["ours"][0].families()}
    b = {family.name for family in replace(theirs(), parent=None).families()}
    assert {"gain", "offset"} <= a & b

import json

import h5py
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from somebodys_bench import bench

from calibration.errors import ArtefactError
from calibration.machine.artefact import load as load_machine
from calibration.response.artefact import load_response, save_response
from calibration.response.fit import fit_response
from calibration.response.observations import Observations
from calibration.response.predict import predict


@pytest.fixture(scope="module")
def fit():
    rng = np.random.default_rng(0)
    return fit_response(bench(rng, per_output=0.05).observe(rng, 300, flicker=0.01))


@pytest.mark.parametrize("form", [0, 1])
def test_a_response_survives_the_disk_bit_for_bit(fit, tmp_path, form):
    path = save_response(fit.response, tmp_path)[form]
    back = load_response(path)
    assert back.id == fit.response.id
    assert path.name.startswith(back.id)
    rng = np.random.default_rng(1)
    fresh = Observations(rng.random((5, 12)), fit.response.weights)
    for name in ("mean", "sd", "low95"):
        assert np.array_equal(getattr(predict(back, fresh), name), getattr(predict(fit.response, fresh), name))
    assert back.structure["gain"] == fit.structure["gain"]
    assert back.noise.formula == fit.noise.formula


def test_a_fit_names_its_parent(fit):
    rng = np.random.default_rng(2)
    again = fit_response(bench(rng).observe(rng, 200), previous=None)
    assert again.response.parent is None


def test_an_altered_array_is_refused(fit, tmp_path):
    full, twin = save_response(fit.response, tmp_path)
    with h5py.File(full, "r+") as file:
        file["gain"][0, 0] *= 1.01
    tensors = load_file(twin)
    with safe_open(twin, "numpy") as file:
        header = file.metadata()
    tensors["offset"] = tensors["offset"] + 1
    save_file(tensors, twin, header)
    for path in (full, twin):
        with pytest.raises(ArtefactError, match="altered"):
            load_response(path)


@pytest.mark.parametrize("damage", ["schema", "missing", "nan", "shape", "truncated"])
def test_a_damaged_file_is_refused(fit, tmp_path, damage):
    _, twin = save_response(fit.response, tmp_path)
    tensors = load_file(twin)
    with safe_open(twin, "numpy") as file:
        header = json.loads(file.metadata()["calibration"])
    if damage == "schema":
        header["schema"] = "labctl.response/9"
    elif damage == "missing":
        del tensors["factor"]
    elif damage == "nan":
        tensors["gain"][0, 0] = np.nan
    elif damage == "shape":
        tensors["gain"] = tensors["gain"][:, :-1].copy()
    save_file(tensors, twin, {"calibration": json.dumps(header)})
    if damage == "truncated":
        twin.write_bytes(twin.read_bytes()[:-50])
    with pytest.raises(ArtefactError):
        load_response(twin)


def test_what_was_fitted_to_imported_readings_is_no_machine_and_the_hint_says_what_to_do(fit, tmp_path):
    path, _ = save_response(fit.response, tmp_path)
    with pytest.raises(ArtefactError, match="imported readings") as caught:
        load_machine(path)
    assert f"labctl predict {path} FILE" in caught.value.hint
    assert "labctl.predict(labctl.load_calibration(" in caught.value.hint
    assert "export" not in caught.value.hint

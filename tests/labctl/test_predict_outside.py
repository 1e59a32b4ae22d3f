"""`labctl predict` names rows that the fit does not determine: as text, as JSON, and in the file that it writes."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from calibration.errors import ArtefactError
from calibration.response.artefact import load_response, save_response
from calibration.response.fit import fit_response
from calibration.response.observations import Observations
from labctl.__main__ import main


def run(*argv: str | Path) -> tuple[int, str, str]:
    """A command in this process: exit code, stdout, stderr."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main([str(a) for a in argv])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A calibration of a bench whose inputs 0 and 1 were always alike, and the folder with rows where they are not."""
    folder = tmp_path_factory.mktemp("alike")
    rng = np.random.default_rng(12)
    weights, inputs = rng.random((2, 4)), rng.random((60, 4))
    inputs[:, 1] = inputs[:, 0]
    readings = 50 + 500 * inputs @ weights.T + rng.normal(0, 2, (60, 2))
    calibration, _ = save_response(fit_response(Observations(inputs, weights, readings)).response, folder)
    inputs[20:40, 1] = 1 - inputs[20:40, 0]
    np.savez(folder / "apart.npz", inputs=inputs, weights=weights)
    return folder, calibration


@pytest.mark.parametrize("ending", ["npz", "csv", "h5"])
def test_rows_that_the_fit_does_not_determine_are_named_and_kept(
    alike: tuple[Path, Path], tmp_path: Path, ending: str
) -> None:
    folder, calibration = alike
    target = tmp_path / f"p.{ending}"
    code, out, err = run("predict", calibration, folder / "apart.npz", "--rows", "10:", "-o", target, "--json")
    assert code == 0, err
    outside = json.loads(out)["outside"]
    (group,) = outside["reasons"]
    assert (group["reason"], set(group["inputs"])) == ("combination", {0, 1})
    assert 20 <= group["first"] < 23  # by chance they may be nearly alike
    assert outside["rows"] == group["rows"] > 15
    if ending == "npz":
        codes = np.load(target)["outside"]
    elif ending == "h5":
        with h5py.File(target) as file:
            codes = file["outside"][()]
            assert "4 combination" in file.attrs["outside_reasons"]
    else:
        codes = np.genfromtxt(target, delimiter=",", names=True, skip_header=6)["outside"]
    assert set(np.unique(codes)) == {0, 4}
    assert (codes == 4).sum() == outside["rows"]
    assert not codes[:10].any()


def test_calibration_from_before_says_that_it_cannot_tell(alike: tuple[Path, Path], tmp_path: Path) -> None:
    folder, calibration = alike
    old, _ = save_response(replace(load_response(calibration), shown=None), tmp_path)
    code, out, err = run("predict", old, folder / "apart.npz", "--json")
    assert code == 0, err
    assert json.loads(out)["outside"]["rows"] is None
    code, out, err = run("predict", old, folder / "apart.npz")
    assert "does not say which rows the fit determines" in err
    assert "labctl fit RUN" in err


def test_person_reads_which_inputs_the_fit_could_not_tell_apart(alike: tuple[Path, Path]) -> None:
    folder, calibration = alike
    code, _, err = run("predict", calibration, folder / "apart.npz")
    assert code == 0
    assert "of 60 rows lie beyond what the fit was shown" in err
    assert "with inputs in a combination that no row of the fit showed (inputs 0, 1 above all)" in err.replace(
        "inputs 1, 0", "inputs 0, 1"
    )
    np.savez(folder / "inside.npz", inputs=np.full((5, 4), 0.5))
    assert "warning" not in run("predict", calibration, folder / "inside.npz")[2]


@pytest.mark.parametrize("damage", ["turned", "short", "negative", "no sizes", "order"])
def test_damaged_directions_are_refused(alike: tuple[Path, Path], tmp_path: Path, damage: str) -> None:
    response = load_response(alike[1])
    lever = response.shown.leverage
    changed = {
        "turned": replace(lever, basis=lever.basis * 1.1),
        "short": replace(lever, known=lever.known[:-1]),
        "negative": replace(lever, noise=-lever.noise),
        "no sizes": replace(lever, width=0.0),
        "order": lever,
    }[damage]
    shown = replace(response.shown, leverage=changed)
    if damage == "order":
        shown = replace(shown, inputs=shown.inputs[::-1])
    # the id is that of the content: only what it says makes no sense
    path, twin = save_response(replace(response, shown=shown), tmp_path)
    for damaged in (path, twin):
        with pytest.raises(ArtefactError):
            load_response(damaged)


def test_a_file_whose_directions_were_taken_out_is_refused(alike: tuple[Path, Path], tmp_path: Path) -> None:
    path = shutil.copy(alike[1], tmp_path / "less.calib.h5")
    with h5py.File(path, "r+") as file:
        del file["leverage_basis"]
    with pytest.raises(ArtefactError):
        load_response(path)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, np.ndarray]]:
    """A calibration, a folder, and rows that it predicts to within the noise."""
    folder = tmp_path_factory.mktemp("bench")
    rng = np.random.default_rng(3)
    weights, inputs = rng.random((3, 5)), rng.random((160, 5))
    readings = 50 + 300 * inputs @ weights.T + rng.normal(0, 2, (160, 3))
    fit = fit_response(Observations(inputs[:100], weights, readings[:100]))
    calibration, _ = save_response(fit.response, folder)
    return folder, calibration, {"inputs": inputs[100:], "weights": weights, "readings": readings[100:]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"inputs": lambda x: 255 * x}, "% off the calibration: inputs, weights or readings in another unit?"),
        ({"readings": lambda y: y / 1000}, "% off the calibration: inputs, weights or readings in another unit?"),
        ({"inputs": lambda x: x[:, ::-1]}, "inputs, outputs or weights in another order?"),
        ({"readings": lambda y: y[:, [1, 0, 2]]}, "inputs, outputs or weights in another order?"),
    ],
    ids=["as it was", "inputs of a byte", "another unit", "inputs turned", "outputs exchanged"],
)
def test_readings_that_are_not_those_of_the_calibration_are_told(bench, tmp_path, change, words) -> None:
    _, calibration, arrays = bench
    np.savez(tmp_path / "b.npz", **{name: change.get(name, lambda a: a)(a) for name, a in arrays.items()})
    code, out, err = run("predict", calibration, tmp_path / "b.npz", "--json")
    assert code == 0, err
    notes = json.loads(out)["notes"]
    assert any(words in note for note in notes) if words else not notes


def test_predictions_are_never_written_over_what_they_are_made_from(bench, tmp_path) -> None:
    _, calibration, arrays = bench
    file, own = tmp_path / "b.npz", tmp_path / "w.csv"
    np.savez(file, **arrays)
    np.savetxt(own, arrays["weights"], delimiter=",")
    shutil.copy(calibration, tmp_path / "c.calib.h5")
    (tmp_path / "link.npz").symlink_to(file)
    before = {path: path.read_bytes() for path in (file, own, tmp_path / "c.calib.h5")}
    for target in (file, own, tmp_path / "c.calib.h5", tmp_path / "link.npz", tmp_path / "no" / ".." / "b.npz"):
        code, _, err = run("predict", tmp_path / "c.calib.h5", file, "--weights", own, "-o", target)
        assert (code, "written over what it is made from" in err) == (2, True)
    assert before == {path: path.read_bytes() for path in before}


def test_an_error_is_no_share_of_a_range_that_one_row_does_not_have(bench, tmp_path) -> None:
    _, calibration, arrays = bench
    np.savez(tmp_path / "b.npz", **arrays)
    code, out, err = run("predict", calibration, tmp_path / "b.npz", "--rows", "0:1", "--json")
    assert code == 0, err
    assert [o["rms_percent_of_range"] for o in json.loads(out)["outputs"]] == [None] * 3
    code, out, err = run("predict", calibration, tmp_path / "b.npz", "--rows", "0:1")
    assert (code, "nan" in out) == (0, False), err

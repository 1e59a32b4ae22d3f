"""import → fit → predict on a bench that is not ours: made here, so that the truth is known."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import jsonschema
import numpy as np
import pytest
from cal_bench import bench
from numpy.typing import NDArray
from pages import without_figures

from calibration.machine import Calibration, Domain, Findings, save
from labctl.__main__ import main
from labctl.engine.calibrations import difference, open_calibration
from labctl.errors import UsageError

pytestmark = pytest.mark.figures

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "data" / "schemas"
MEASURED = ROOT.parent / "shared" / "data" / "measured" / "lcd_camera_36x4_train.npz"
INPUTS, OUTPUTS, STALE = 6, 3, 57
Invoke = Callable[..., tuple[int, str, str]]


def session(path: Path, seed: int, rows: int, stale: int | None = None, noise: float = 3.0) -> Path:
    """Another recording of one bench: gain differs by input and output, offset 500, one row may be stale."""
    bench, rng = np.random.default_rng(1), np.random.default_rng(seed)
    weights: NDArray[np.float64] = bench.uniform(0.1, 1, (OUTPUTS, INPUTS))
    gain = 40 * bench.uniform(0.7, 1.3, (OUTPUTS, INPUTS))
    inputs = rng.uniform(0, 10, (rows, INPUTS))
    light = 500 + inputs @ (gain * weights).T
    if stale is not None:
        light[stale] = light[stale - 1]
    np.savez(path, inputs=inputs, weights=weights, readings=light + rng.normal(0, noise, light.shape))
    return path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A folder with an archive in which one session was imported and fitted, and the document of the fit."""
    folder = tmp_path_factory.mktemp("elsewhere")
    assert run("import", session(folder / "one.npz", 2, 400, STALE), "--name", "b", "--runs", folder / "runs")[0] == 0
    code, out, err = run("fit", "--runs", folder / "runs", "--json")
    assert code == 0, err
    return folder, json.loads(out)


def run(*argv: str | Path) -> tuple[int, str, str]:
    """A command in this process: exit code, stdout, stderr."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main([str(a) for a in argv])
    return code, out.getvalue(), err.getvalue()


def predicted(lab: tuple[Path, dict], file: Path, *more: str | Path) -> dict:
    folder, fitted = lab
    code, out, err = run("predict", fitted["calibration"]["id"], file, "--runs", folder / "runs", "--json", *more)
    assert code == 0, err
    document = json.loads(out)
    jsonschema.validate(document, json.loads((SCHEMAS / "predict-1.schema.json").read_text()))
    return document


def test_fit_finds_what_the_bench_is(lab) -> None:
    folder, fitted = lab
    jsonschema.validate(fitted, json.loads((SCHEMAS / "fit-1.schema.json").read_text()))
    assert fitted["gate"]["applied"]
    assert fitted["structure"]["crosstalk"]["chosen"] in ("none", "in the full gain")
    ours, line = (np.array(fitted["heldout"][f"{name}rms_percent_of_range"]) for name in ("", "line_"))
    assert (ours < line / 5).all()
    assert [row["index"] for row in fitted["bad_rows"]] == [STALE]
    assert "stale" in fitted["bad_rows"][0]["reason"]
    path = Path(fitted["calibration"]["path"])
    assert path.parent == folder / "runs" / "calibrations"
    assert path.with_name(path.name.replace(".h5", ".safetensors")).exists()


def test_report_holds_its_figures_and_leaves_the_run_intact(lab) -> None:
    folder, fitted = lab
    page = Path(fitted["report"]).read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in without_figures(page).replace("http-equiv", "")
    assert run("run", "verify", "latest", "--runs", folder / "runs")[0] == 0


def test_same_run_gives_the_same_calibration_anywhere(lab, tmp_path: Path) -> None:
    folder, fitted = lab
    shutil.copytree(folder / "runs", tmp_path / "runs")
    code, out, _ = run("fit", "latest", "--runs", tmp_path / "runs", "-o", tmp_path / "elsewhere", "--json")
    again = json.loads(out)["calibration"]
    assert (code, again["id"]) == (0, fitted["calibration"]["id"])
    assert Path(again["path"]).parent == tmp_path / "elsewhere"
    assert Path(again["path"]).read_bytes() == Path(fitted["calibration"]["path"]).read_bytes()


def test_next_session_is_predicted_within_its_noise(lab, tmp_path: Path) -> None:
    document = predicted(lab, session(tmp_path / "two.npz", 3, 300, stale=211))
    assert len(document["outputs"]) == OUTPUTS
    for output in document["outputs"]:
        assert output["rms_percent_of_range"] < 1.3 * 100 * 3.0 / output["range"]
        assert output["coverage95"] > 0.9
    assert document["rms_percent_of_range"] == [o["rms_percent_of_range"] for o in document["outputs"]]
    assert [row["index"] for row in document["bad_rows"]] == [211]
    assert document["drift"]["words"]


def test_rows_are_counted_in_the_file_when_a_part_is_predicted(lab, tmp_path: Path) -> None:
    document = predicted(lab, session(tmp_path / "two.npz", 3, 300, stale=211), "--rows", "100:")
    assert document["rows"] == {"start": 100, "stop": 300, "in_file": 300}
    assert [row["index"] for row in document["bad_rows"]] == [211]
    assert "row 210" in document["bad_rows"][0]["reason"]


def test_rows_that_lack_something_are_bad_rows_of_the_fit_and_of_the_prediction(lab, tmp_path: Path) -> None:
    whole = dict(np.load(session(tmp_path / "two.npz", 3, 300, stale=211)))
    whole["inputs"][40, 0], whole["readings"][203, 1], whole["readings"][220] = np.nan, np.inf, np.nan
    whole["readings"][100:110, 1] = np.nan
    np.savez(tmp_path / "holes.npz", **whole)
    wanted = {40: "missing input", 203: "not finite", 211: "stale", 220: "missing"}
    document = predicted(lab, tmp_path / "holes.npz", "--rows", "30:", "-o", tmp_path / "p.npz")
    assert {row["index"]: row["reason"].partition(":")[0] for row in document["bad_rows"]} == wanted
    assert len(document["rms_percent_of_range"]) == OUTPUTS
    assert max(document["rms_percent_of_range"]) < 1.5
    assert np.load(tmp_path / "p.npz")["row"].tolist() == [i for i in range(30, 300) if i not in (40, 203)]
    assert np.isfinite(np.load(tmp_path / "p.npz")["mean"]).all()  # what is missing is predicted
    assert any("readings are missing" in note and "first in row 100" in note for note in document["notes"])
    assert run("import", tmp_path / "holes.npz", "--rows", "30:", "--runs", tmp_path / "runs")[0] == 0
    code, out, err = run("fit", "--runs", tmp_path / "runs", "--json")
    assert code == 0, err
    fitted = json.loads(out)
    assert {row["index"]: row["reason"].partition(":")[0] for row in fitted["bad_rows"]} == wanted
    assert fitted["heldout"]["rows"] == 266


@pytest.mark.parametrize("ending", ["npz", "csv", "h5"])
def test_file_without_readings_and_weights_is_predicted_and_written(lab, tmp_path: Path, ending: str) -> None:
    whole = np.load(session(tmp_path / "two.npz", 3, 50))
    np.savez(tmp_path / "inputs.npz", inputs=whole["inputs"])
    target = tmp_path / f"p.{ending}"
    document = predicted(lab, tmp_path / "inputs.npz", "--rows", "5:", "-o", target)
    assert (document["readings"], document["outputs"], document["predictions"]) == (False, [], str(target))
    if ending == "npz":
        mean, row = np.load(target)["mean"], np.load(target)["row"]
    elif ending == "h5":
        with h5py.File(target) as file:
            mean, row = file["mean"][()], file["row"][()]
    else:
        table = np.genfromtxt(target, delimiter=",", names=True, comments="#", skip_header=6)
        mean, row = np.stack([table[f"mean_{m}"] for m in range(OUTPUTS)], axis=1), table["row"]
    np.testing.assert_array_equal(row, np.arange(5, 50))
    np.testing.assert_allclose(mean, whole["readings"][5:], atol=6 * 3.0)


def test_inputs_beyond_those_of_the_fit_are_said(lab, tmp_path: Path) -> None:
    whole = dict(np.load(session(tmp_path / "two.npz", 3, 60)))
    whole["inputs"][7] *= 3
    np.savez(tmp_path / "far.npz", **{name: whole[name] for name in ("inputs", "weights")})
    assert predicted(lab, tmp_path / "far.npz")["outside"]["rows"] == 1
    folder, fitted = lab
    code, out, err = run("predict", fitted["calibration"]["id"], tmp_path / "far.npz", "--runs", folder / "runs")
    assert code == 0
    assert "warning: 1 of 60 rows lies beyond what the fit was shown\n  1 row with inputs outside" in err
    assert "first row 7" in err
    assert "no readings" in out


def test_worse_calibration_is_not_applied(lab, tmp_path: Path) -> None:
    folder, fitted = lab
    shutil.copytree(folder / "runs", runs := tmp_path / "runs")
    file = session(tmp_path / "short.npz", 5, 24)
    assert run("import", file, "--name", "b", "--runs", runs)[0] == 0
    code, out, _ = run("fit", "--runs", runs, "--json")
    document = json.loads(out)
    assert code == 10
    assert not document["gate"]["applied"]
    assert document["calibration"]["parent"] == fitted["calibration"]["id"]
    applied = json.loads((runs / "calibrations" / "applied" / "b.json").read_text())
    assert applied["id"] == fitted["calibration"]["id"]


def test_calibrations_of_two_sessions_are_compared_and_those_of_two_kinds_refused(lab, tmp_path: Path) -> None:
    folder, fitted = lab
    shutil.copytree(folder / "runs", runs := tmp_path / "runs")
    assert run("import", session(tmp_path / "two.npz", 6, 400), "--name", "b", "--runs", runs)[0] == 0
    second = json.loads(run("fit", "--runs", runs, "--json")[1])["calibration"]["id"]
    twin = runs / "calibrations" / f"{second}.calib.safetensors"
    code, out, err = run("calib", "diff", fitted["calibration"]["id"], twin, "--runs", runs, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert (document["a"], document["b"]) == (fitted["calibration"]["id"], second)
    assert {"gain", "offset"} <= {family["name"] for family in document["families"]}
    assert document["changed"] == []
    with pytest.raises(UsageError, match="two kinds"):
        difference(open_calibration(runs, second), ours())


def ours() -> Calibration:
    """A calibration of a bench that labctl drives."""
    domain = Domain(0.004, 5, 6, 0.6, 532.0)
    return Calibration(bench((5, 6)).machine(), domain, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", Findings(), {})


def test_what_predict_refuses(lab, tmp_path: Path) -> None:
    folder, fitted = lab
    runs, identity = folder / "runs", fitted["calibration"]["id"]

    def refusal(*argv: str | Path) -> str:
        code, _, err = run("predict", *argv, "--runs", runs)
        assert code == 2
        assert "Traceback" not in err
        return err

    file = session(tmp_path / "two.npz", 3, 60)
    whole = dict(np.load(file))
    np.savez(tmp_path / "wide.npz", inputs=np.ones((60, 7)), weights=np.ones((3, 7)))
    assert "another bench" in refusal(identity, tmp_path / "wide.npz")
    np.savez(tmp_path / "other.npz", **{**whole, "weights": whole["weights"][:, ::-1]})
    said = refusal(identity, tmp_path / "other.npz")
    assert "other weights" in said
    typed = re.search(r"labctl (import .*?), then labctl fit", said)
    assert typed is not None
    code, out, err = run(*shlex.split(typed[1]), "--runs", tmp_path / "apart")
    assert code == 0, err
    assert "bench other" in out
    for path in save(ours(), tmp_path):
        assert "a bench that labctl drives" in refusal(path, file)
    (tmp_path / "cut.calib.h5").write_bytes(Path(fitted["calibration"]["path"]).read_bytes()[:-100])
    assert "E-CAL-006" in refusal(tmp_path / "cut.calib.h5", file)
    assert "calibrations go by" in refusal("nothing", file)
    assert "-o p.npz" in refusal(identity, file, "-o", tmp_path / "p.txt")


def test_readings_that_do_not_follow_the_inputs_are_not_fitted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for weights in (rng.random((2, 4)), np.zeros((2, 4))):
        np.savez(tmp_path / "x.npz", inputs=rng.random((80, 4)), weights=weights, readings=rng.random((80, 2)))
        assert run("import", tmp_path / "x.npz", "--runs", tmp_path / "runs")[0] == 0
        code, _, err = run("fit", "--runs", tmp_path / "runs")
        assert code == 20
        assert err.startswith("E-CAL-")


def test_commands_that_need_frames_say_so(lab) -> None:
    folder, _ = lab
    for command in ("validate", "export", "report"):
        code, _, err = run(command, "latest", "--runs", folder / "runs")
        assert code == 2
        assert "labctl fit" in err


def test_fit_without_any_import_says_what_to_type(tmp_path: Path) -> None:
    code, _, err = run("fit", "--runs", tmp_path / "runs")
    assert code == 2
    assert "labctl import FILE" in err


@pytest.mark.slow
@pytest.mark.skipif(not MEASURED.exists(), reason=f"no measured data at {MEASURED}")
def test_measured_bench_is_predicted_better_than_by_lines(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert run("import", MEASURED, "--rows", "0:2000", "--unit", "DN", "--runs", runs)[0] == 0
    code, out, err = run("fit", "--runs", runs, "--json")
    assert code == 0, err
    document = predicted((tmp_path, json.loads(out)), MEASURED, "--rows", "2000:3000")
    # a line per output, with its offset fitted, leaves 0.81 / 1.18 / 0.74 / 1.40 % of range on this file
    assert (np.array(document["rms_percent_of_range"]) < 0.45).all()

"""One name means one thing to every command and to Python: the end of an id, a bench, ``latest``, a preset."""

import numpy as np
import pytest
import typer
from torch import nn

import labctl as lab_front
from calibration.errors import ArtefactError
from labctl.__main__ import main
from labctl.archive import find_run
from labctl.archive.calibrations import CalibrationStore
from labctl.cli import app
from labctl.errors import RunNotFound, UsageError
from labctl.studies.simulate import any_machine_of

OUTPUTS, INPUTS, ROWS = 2, 3, 90


@pytest.fixture(scope="module")
def lab_b(tmp_path_factory):
    """An archive with one import of the bench ``lab-b``, which is fitted."""
    folder = tmp_path_factory.mktemp("names")
    rng, runs = np.random.default_rng(1), folder / "runs"
    inputs, weights = rng.random((ROWS, INPUTS)), rng.random((OUTPUTS, INPUTS))
    readings = 50 + 400 * inputs @ weights.T + rng.normal(0, 2, (ROWS, OUTPUTS))
    np.savez(folder / "c.npz", inputs=inputs, weights=weights, readings=readings)
    assert main(["import", str(folder / "c.npz"), "--name", "lab-b", "--runs", str(runs), "-q"]) == 0
    assert main(["fit", "--runs", str(runs), "-q"]) == 0
    return runs


@pytest.fixture
def calibration(lab_b):
    (row,) = CalibrationStore(lab_b).rows()
    return row


def test_a_calibration_goes_by_its_id_its_bench_its_run_and_latest(lab_b, calibration):
    for name in (calibration.id[:9], "lab-b", "latest", calibration.run_id[-4:], str(calibration.path)):
        assert any_machine_of(name, lab_b).id == calibration.id


def test_python_takes_the_names_that_the_commands_take(lab_b, calibration, monkeypatch):
    monkeypatch.setenv("LABCTL_RUNS", str(lab_b))
    model = nn.Linear(INPUTS, OUTPUTS)
    for name in ("lab-b", "latest", calibration.id[:8]):
        assert lab_front.optical_report(lab_front.opticalize(model, name)) is not None
        assert lab_front.load_calibration(name).id == calibration.id
    with pytest.raises(ArtefactError, match="no calibrations go by this name"):
        lab_front.load_calibration("lab-c")
    with pytest.raises(ArtefactError, match="go by this name") as refused:
        lab_front.opticalize(model, "lab-c")
    assert "a bench's name" in refused.value.expected


def test_a_name_that_means_nothing_is_answered_with_what_names_are_taken(lab_b):
    with pytest.raises(UsageError) as refused:
        any_machine_of("papper", lab_b)
    assert "a bench's name" in refused.value.expected
    assert "did you mean paper?" in refused.value.hint


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "", "../../x"])
def test_a_name_that_no_file_can_have_is_refused_as_any_other(lab_b, name, monkeypatch):
    monkeypatch.setenv("LABCTL_RUNS", str(lab_b))
    with pytest.raises(UsageError):
        any_machine_of(name, lab_b)
    with pytest.raises(RunNotFound):
        find_run(lab_b, name)
    with pytest.raises(ArtefactError, match="go by this name"):
        lab_front.opticalize(nn.Linear(INPUTS, OUTPUTS), name)


def test_a_run_goes_by_the_beginning_of_its_id_and_by_its_bench(lab_b):
    newest = find_run(lab_b, "latest")
    assert find_run(lab_b, "lab-b") == find_run(lab_b, newest.name[:-1]) == newest
    with pytest.raises(RunNotFound, match="goes by the name"):
        find_run(lab_b, "lab-c")


@pytest.mark.parametrize("words", [["run", "show"], ["run", "verify"], ["run", "tail"]])
def test_without_a_name_the_newest_run_is_meant(lab_b, words, capsys):
    assert main([*words, "--runs", str(lab_b)]) == 0
    assert find_run(lab_b, "latest").name in capsys.readouterr().out


def test_light_is_asked_for_by_one_name_and_the_old_one_is_refused_with_it(capsys):
    assert main(["adapt", "MODEL", "--calibration", "paper", "--photons", "3", "-o", "x"]) == 2
    said = capsys.readouterr().err
    assert "No such option: --photons" in said
    assert "--photons-per-mac" in said


def test_an_option_has_one_long_name():
    def options(command, path=()):
        for name, each in getattr(command, "commands", {}).items():
            yield from options(each, (*path, name))
        for parameter in command.params:
            yield path, [option for option in parameter.opts if option.startswith("--")]

    twins = [(path, names) for path, names in options(typer.main.get_command(app)) if len(names) > 1]
    assert twins == []

"""What somebody types who wants to know: the version, help, what a code means, whether a stop can go on."""

from pathlib import Path

import pytest

from labctl.__main__ import main
from labctl.cli.handler import _with_way_on
from labctl.console import Console
from labctl.lab import Lab


def said(capsys, *words):
    return main(list(words)), capsys.readouterr()


def test_the_version_is_that_of_the_installed_package(capsys):
    from importlib.metadata import version

    code, streams = said(capsys, "--version")
    assert (code, streams.out.strip()) == (0, f"labctl {version('labctl')}")


def test_help_of_a_command_is_what_its_own_option_prints(capsys):
    _, own = said(capsys, "run", "show", "--help")
    code, asked = said(capsys, "help", "run", "show")
    assert (code, asked.out) == (0, own.out)
    assert "labctl demo" in said(capsys, "help")[1].out


def test_help_of_no_command_is_a_wrong_word(capsys):
    assert said(capsys, "help", "nonsuch")[0] == 2


@pytest.mark.parametrize("words", [("errors", "E-CAL-002"), ("errors", "e-cal-002"), ("explain-exit", "E-CAL-002")])
def test_an_error_code_is_explained_with_the_exit_code_it_comes_with(words, capsys):
    code, streams = said(capsys, *words)
    assert code == 0
    assert streams.out.startswith("E-CAL-002  The scan itself makes no sense")
    assert "exit code 20, fault" in streams.out


def test_the_beginning_of_a_code_lists_its_family(capsys):
    lines = said(capsys, "errors", "E-RUN")[1].out.splitlines()
    assert [line.partition(" ")[0] for line in lines if line[0] == "E"] == [f"E-RUN-00{n}" for n in range(1, 6)]


@pytest.mark.parametrize("words", [("errors", "E-XYZ"), ("explain-exit", "E-XYZ"), ("explain-exit", "9" * 5000)])
def test_a_code_that_is_none_is_refused_with_the_list(words, capsys):
    code, streams = said(capsys, *words)
    assert code == 2
    assert "try:  labctl e" in streams.err


@pytest.mark.parametrize(
    ("name", "arguments", "way_on"),
    [
        ("train", {}, "goes on from there"),
        ("optical_transformers", {}, "goes on from there"),
        ("simulate", {"points": None}, "begins anew"),
        ("simulate", {"points": Path("parts")}, "goes on from there"),
    ],
)
def test_a_stop_outside_a_run_says_whether_the_command_goes_on(name, arguments, way_on):
    stopped = _with_way_on(KeyboardInterrupt(), Lab(Console()), name, arguments)
    assert way_on in stopped.hint


def test_a_family_has_its_own_widths(capsys, tmp_path):
    code, streams = said(capsys, "train", str(tmp_path), "--family", "--width", "16")
    assert code == 2
    assert "--family or --width" in streams.err


def test_an_option_that_must_be_given_is_called_required(capsys):
    out = said(capsys, "adapt", "--help")[1].out
    assert "MISSING" not in out
    assert "[required]" in " ".join(out.split()).partition("--photons")[0]


def test_a_text_that_is_not_there_is_answered_with_what_to_do(capsys):
    code, streams = said(capsys, "simulate", "ideal", "--text", "no-such-text.txt")
    assert code == 2
    assert "no file of this name" in streams.err
    assert "leave out --text" in streams.err


@pytest.mark.parametrize("words", [("report",), ("validate", "latest"), ("fit", "latest")])
def test_a_run_that_is_still_measured_is_not_said_to_have_stopped(words, new_run, runs, labctl):
    run = new_run()
    code, _, err = labctl(*words, "--runs", runs)
    assert code == 75
    assert "still being measured" in err
    assert f"labctl run tail {run.run_id.rpartition('-')[2]}" in err

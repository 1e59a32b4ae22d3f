"""Thousands as spreadsheets of all countries set them apart: read where it is certain, never a factor of 1000."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labctl.errors import CaptureValues
from labctl.foreign.files.decimals import STYLES
from labctl.foreign.files.delimited import open_contents, open_matrix

READINGS = [1234.5, 987.25, 12345.0, 1234567.0, 0.5, -2345.125]


def written(value: float, group: str, mark: str) -> str:
    """As a spreadsheet writes it: three digits at a time, decimals only where there are any."""
    return f"{value:,.6f}".rstrip("0").rstrip(".").replace(",", "g").replace(".", mark).replace("g", group)


def table(path: Path, cells: list[str], separator: str, quoted: bool = False) -> Path:
    cells = [f'"{cell}"' for cell in cells] if quoted else cells
    lines = [separator.join(("input_0", "reading_0")), *(separator.join(("7", cell)) for cell in cells)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def readings_of(path: Path, decimal: str | None = None) -> tuple[np.ndarray, str]:
    with open_contents(path, decimal) as contents:
        return np.asarray(contents.arrays["reading"][:]).ravel(), " ".join(contents.notes)


@pytest.mark.parametrize(
    ("group", "mark", "separator"),
    [
        (group, mark, separator)
        for group, mark in (",.", ".,", " ,", " .", "'.", "’.", "\u202f,", "\u00a0.", ("", ","))
        for separator in (";", "\t", ",", "  ")
        if (group, separator) != (" ", "  ")
    ],
)
def test_thousands_are_read_as_they_are_meant(group: str, mark: str, separator: str, tmp_path: Path) -> None:
    cells = [written(value, group, mark) for value in READINGS]
    found, notes = readings_of(table(tmp_path / "a.csv", cells, separator, quoted=separator == ","))
    np.testing.assert_array_equal(found, READINGS)
    assert ("left out: " in notes) == bool(group)


@pytest.mark.parametrize(
    ("cells", "separator", "quoted"),
    [
        (["1,234", "2,345"], ";", False),
        (["1,234", "999"], ",", True),
        (["1,234", "-2,345"], "\t", False),
        (["1,234", "2,345"], " ", False),
        (["1.234", "2.345"], ";", False),
        (["1.234", "999"], "\t", False),
        (["1.234", "1,234"], ";", False),
    ],
)
def test_numbers_that_may_be_a_thousand_times_as_large_are_refused_until_it_is_said(
    cells: list[str], separator: str, quoted: bool, tmp_path: Path
) -> None:
    path = table(tmp_path / "a.csv", cells, separator, quoted)
    with pytest.raises(CaptureValues, match="a thousand times as large") as caught:
        readings_of(path)
    assert all(f"--decimal {name}" in caught.value.hint for name in ("point", "comma"))
    mark = "," if "," in cells[0] else "."
    for name, factor in (("point", 1.0 if mark == "." else 1e3), ("comma", 1.0 if mark == "," else 1e3)):
        if len({"," in cell for cell in cells if len(cell) > 3}) == 1:
            assert readings_of(path, name)[0][0] == pytest.approx(1.234 * factor)
            assert f"--decimal {name} if it is {1234 if factor > 1 else 1.234}" in caught.value.hint


@pytest.mark.parametrize(
    ("cells", "separator", "expected"),
    [
        (["1,234", "0,5"], ";", [1.234, 0.5]),
        (["0,123", "1,234"], "\t", [0.123, 1.234]),
        (["1,234", "1234,567"], ";", [1.234, 1234.567]),
        (["1,234", "1.234,5"], ";", [1.234, 1234.5]),
        (["1.234", "1.234,5"], ";", [1234, 1234.5]),
        (["1.234", "1.234.567"], ";", [1234, 1234567]),
        (["1,234", "12.5"], ";", [1234, 12.5]),
        (["1.234", "0.5"], ";", [1.234, 0.5]),
        (["1.234", "2.345"], "\t", [1.234, 2.345]),  # every number has its three decimals, as a program writes them
        (["1.234", "2.345"], ",", [1.234, 2.345]),
        (["1,234e3", "1,5"], ";", [1234, 1.5]),
    ],
)
def test_one_certain_number_tells_it_for_the_whole_file(
    cells: list[str], separator: str, expected: list[float], tmp_path: Path
) -> None:
    np.testing.assert_allclose(readings_of(table(tmp_path / "a.csv", cells, separator))[0], expected, rtol=1e-15)


def test_a_certain_number_far_down_counts_as_well(tmp_path: Path) -> None:
    cells = ["1.234"] * 500 + ["0,5"]
    np.testing.assert_array_equal(readings_of(table(tmp_path / "a.csv", cells, ";"))[0], [1234.0] * 500 + [0.5])


@pytest.mark.parametrize(
    "cells",
    [["0,5", "0.5"], ["0.5", "1,23"], ["0,5", "12,34,567"], ["0.5", "1234,567"], ["1 23", "0.5"], ["0,5", "1.5"]],
)
def test_a_number_that_does_not_go_with_the_others_is_named(cells: list[str], tmp_path: Path) -> None:
    with pytest.raises(CaptureValues, match="is not a number"):
        readings_of(table(tmp_path / "a.csv", cells, ";"))


def test_weights_in_a_file_of_their_own_are_read_so_too(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("1.234,5;0,25\n2.000,0;3\n")
    with open_matrix(tmp_path / "w.csv", "weights") as contents:
        np.testing.assert_array_equal(contents.arrays["weights"], [[1234.5, 0.25], [2000, 3]])
    (tmp_path / "w.csv").write_text("1,234;2,345\n3,456;4,567\n")
    with pytest.raises(CaptureValues, match="a thousand times"), open_matrix(tmp_path / "w.csv", "weights"):
        pass


def test_what_is_to_be_typed_can_be_typed(labctl: Callable[..., tuple[int, str, str]], here: Path) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.uniform(1, 9, (60, 2)).round(3), np.array([[1.5, 2.125]])
    lines = ["input_0;input_1;reading_0"] + [
        f"{a:.3f};{b:.3f};{c:.0f}" for (a, b), c in zip(x, 100 * x @ w[0], strict=True)
    ]
    (here / "a.csv").write_text("\n".join(lines))
    np.savetxt(here / "w.csv", w, delimiter=",")
    command = ("import", "a.csv", "--weights", "w.csv")
    code, _, err = labctl(*command)
    assert (code, "a thousand times as large" in err, "--decimal point if it is" in " ".join(err.split())) == (
        2,
        True,
        True,
    )
    assert labctl(*command, "--decimal", "point")[0] == 0
    code, _, err = labctl(*command, "--decimal", ".")
    assert (code, "--decimal point or comma" in err) == (2, True)


@pytest.mark.parametrize("word", ["NA", "", "x", "1e5", "-3", "1_0", ".", ",", "1e-3"])
def test_words_without_marks_stay_what_they_are(word: str) -> None:
    assert STYLES["."].plain(word) == word
    assert STYLES[","].plain(word.translate(str.maketrans(".,", ",."))) == word

"""Each example runs as a stranger would run it: in a process and a folder of its own, without arguments."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from processes import LIMIT_S

FOLDER = Path(__file__).parents[2] / "examples"
LAST_LINE = {
    "adapt_to_a_bench": r"digital, after +perplexity +\d+\.\d ± \d+\.\d, 1\.\d\d × digital",
    "drive_the_bench": r"frames \d+ … \d+: light on camera columns 1[67]\d … 2[01]\d",
    "fit_foreign_data": r"9[3-7]\.\d% of the next session's readings lie in their 95 % interval",
    "load_and_score": r"1000 photons per MAC: perplexity \d\.\d\d on 452 tokens",
    "measure_and_simulate": r" *10000 photons/MAC +\d\d\.\d+",
    "read_a_run": r"128 readings of 32 outputs: /.*run\.png",
    "report_a_model": r"98\.08 % of 1\.07e\+06 multiply–accumulates in light, \S+ photons; and (?:\S+\s){5}digital",
    "simulate_a_preset": r"the last line took \S+ photons for \S+ multiply–accumulates",
    "write_a_driver": r"Thermometer on COM3: 21\.4 degC",
}
"""What each script says last, on a line or two."""
LONG = {
    "adapt_to_a_bench",
    "load_and_score",
    "measure_and_simulate",
    "read_a_run",
    "report_a_model",
    "simulate_a_preset",
}
"""They measure, train or load a model; what they show has tests of its own."""


def test_every_script_is_listed_and_tried() -> None:
    scripts = {path.stem for path in FOLDER.glob("*.py")}
    listed = re.findall(r"\((\w+)\.py\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert scripts == set(LAST_LINE) == set(listed)


@pytest.mark.parametrize("name", LAST_LINE)
def test_script_is_short_and_says_what_it_shows_and_how_long_it_takes(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    said = ast.get_docstring(ast.parse(text)) or ""
    assert re.search(r"second|minute", said)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in LAST_LINE])
def test_example_runs(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(FOLDER / f"{name}.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(rf"(?m:^){LAST_LINE[name]}\Z", done.stdout.rstrip("\n")), done.stdout

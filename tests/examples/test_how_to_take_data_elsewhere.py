"""The page on other systems: its lines work when they are typed, and its scripts as they stand.

Those that need packages of others are in tests/endpoints/test_pages_of_doors.py.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from kept import unpacked

import labctl
from labctl.__main__ import main

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "take-data-elsewhere.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an archive of one run, and its calibration."""
    unpacked(tmp_path)
    (calibration,) = (tmp_path / "runs" / "calibrations").glob("*.calib.h5")
    shutil.copy(calibration, tmp_path / "bench.calib.h5")
    monkeypatch.delenv("LABCTL_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(name: str) -> str:
    code = re.search(rf"^```python\n# {name}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert code is not None
    return code[1]


def test_lines_of_the_page_work_when_they_are_typed_and_its_script_draws(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fences = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    (block,) = [block for language, block in fences if not language]
    lines = [line for line in block.splitlines() if "--to xarray" not in line]
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line.replace("CALIB", "bench.calib.h5"))
        assert words[0] == "labctl"
        assert main(words[1:]) == 0, capsys.readouterr().err
    exec(compile(script("draw.py"), "draw.py", "exec"), {"__name__": "page"})
    assert len(list((here / "elsewhere").glob("*.png"))) == 2


def test_ten_lines_without_our_packages_predict_what_we_predict(here: Path) -> None:
    code = script("ten_lines.py")
    names: dict[str, np.ndarray] = {}
    exec(compile(code, "ten_lines.py", "exec"), names)
    assert set(re.findall(r"^import (\w+)", code, re.MULTILINE)) == {"h5py", "numpy"}
    lines = [line for line in code.splitlines() if line and not line.startswith("import")]
    assert len(lines) == 10
    mean, _ = labctl.load_calibration("bench.calib.h5").predict(names["weights"], names["inputs"][None])
    np.testing.assert_allclose(names["readings_dn"], mean[0], rtol=1e-12)


def test_every_stream_of_the_page_is_one_of_a_run(here: Path) -> None:
    from labctl.doors.naming import record_of

    table = TEXT.partition("| stream | a row is |")[2].partition("\n\n")[0]
    told = re.findall(r"^\| (.+?) \|", table, re.MULTILINE)[1:]
    names = [name for row in told for name in re.findall(r"`([^`]+)`", row)]
    streams = {stream.name for stream in record_of("latest", here / "runs").streams}
    beginnings = [name.replace("NAME", "").replace("NODE", "") for name in names if name[0] != "…"]
    absent = {"monitor_", "calibration", "changes"}  # of other benches, of calibrations, and not in so old a run
    assert {b for b in beginnings if not any(stream.startswith(b) for stream in streams)} <= absent

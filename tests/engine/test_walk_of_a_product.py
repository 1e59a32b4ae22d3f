"""The way of one product as CONTRIBUTING tells it is the way that a run takes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from calibration.frames.products import ProductGroup
from labctl.__main__ import main
from labctl.workload import write_workload

ROOT = Path(__file__).parents[2]
PROTOCOL = "drivers/protocols.py"
MOCK = {"Modulator.show": ("mock_hardware/devices.py", "MockModulator.show")}
"""What of the mock bench stands for a stop at a protocol."""


def stops() -> list[tuple[str, str]]:
    """File and qualified name of each stop; of a protocol, those of the mock bench."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    between = text.partition("<!-- walk: begin -->")[2].partition("<!-- walk: end -->")[0]
    listed = re.findall(r"^\d+\. `([\w/]+\.py):([\w.]+)`", between, re.MULTILINE)
    return [MOCK[name] if file == PROTOCOL else (file, name) for file, name in listed]


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Three products that fill one tile."""
    rng = np.random.default_rng(3)
    weight, inputs = rng.standard_normal((8, 8)).astype(np.float32), rng.standard_normal((3, 8)).astype(np.float32)
    positions = np.stack([np.zeros(3, np.int64), np.arange(3)], axis=1)
    write_workload(
        tmp_path / "few.h5",
        [ProductGroup("few", "linear", 0, weight, inputs, inputs @ weight.T, positions, float(np.abs(weight).max()))],
        {"model": "random", "text": "none", "seed": 3},
    )
    return tmp_path / "few.h5"


def test_run_comes_to_every_stop_in_this_order(few: Path, small_file: Path, tmp_path: Path) -> None:
    wanted = stops()
    files = {str(ROOT / file): file for file, _ in wanted}
    passed: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename in files:
            at = files[frame.f_code.co_filename], frame.f_code.co_qualname
            if at in wanted and passed[-1:] != [at]:
                passed.append(at)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        small = ("--set", "layout.rows=8", "--set", "layout.columns=8")
        main(["measure", str(few), "--bench", str(small_file), "--runs", str(tmp_path / "runs"), "--quiet", *small])
    finally:
        sys.setprofile(before)
    cut = wanted.index(("calibration/machine/layout.py", "Layout.tiles"))
    began = passed.index(("labctl/engine/walk.py", "Walk.read"))  # before that, the plan counts what will be shown
    shown = passed.index(wanted[cut], began)  # and before that, the same stops are passed for the calibration
    on_the_way = iter(passed[:shown])
    assert [stop for stop in wanted[:cut] if stop not in on_the_way] == []
    on_the_way = iter(passed[shown:])
    assert [stop for stop in wanted[cut:] if stop not in on_the_way] == []

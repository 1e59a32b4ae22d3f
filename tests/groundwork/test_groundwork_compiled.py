"""Compiled loops are kept on disk, also those that call functions of another file, until any of these changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from everyday import everyday
from processes import LIMIT_S

PROGRAM = """
import numpy as np
from groundwork.compiled import kernel
from groundwork.random_numbers import threefry


@kernel
def words(out):
    for i in range(len(out)):
        out[i], _ = threefry(np.uint32(1), np.uint32(2), np.uint32(i), np.uint32(0))


words(np.empty(4, np.uint32))
print(sum(words.stats.cache_hits.values()), sum(words.stats.cache_misses.values()))
"""


def test_a_second_process_finds_the_kernel_of_the_first(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    said = [
        subprocess.run(
            [sys.executable, program], capture_output=True, text=True, check=True, timeout=LIMIT_S
        ).stdout.split()
        for _ in range(2)
    ]
    assert said == [["0", "1"], ["1", "0"]]


LOOPS = """
import numpy as np
from groundwork.compiled import kernel
{imported}


@kernel
def total(numbers):
    found = 0.0
    for i in range(len(numbers)):
        found += {called}(numbers[i])
    return found
"""
SCALARS = """
from groundwork.compiled import inline
from {package} import constants

SIZE = constants.SIZE


@inline
def scaled(number):
    return SIZE * number
"""


@pytest.mark.parametrize(
    ("imported", "called"),
    everyday(
        [
            ("from parts.scalars import scaled", "scaled"),
            ("from parts.deep import (  # what it takes\n    scalars,\n)", "scalars.scaled"),
            ("from .scalars import scaled", "scaled"),
        ],
        1,
    ),
)
def test_a_kernel_is_compiled_anew_when_what_it_calls_has_changed(tmp_path: Path, imported: str, called: str) -> None:
    deep = "deep" in imported
    parts = tmp_path / "parts"
    (parts / "deep").mkdir(parents=True)
    for folder in (parts, parts / "deep"):
        (folder / "__init__.py").write_text("", encoding="utf-8")
    inner, package = (parts / "deep", "parts.deep") if deep else (parts, "parts")
    (parts / "loops.py").write_text(LOOPS.format(imported=imported, called=called), encoding="utf-8")
    (inner / "scalars.py").write_text(SCALARS.format(package=package), encoding="utf-8")
    program = "import numpy as np; from parts.loops import total; print(total(np.ones(4)), len(total.stats.cache_hits))"
    told = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept"), "PYTHONPATH": str(tmp_path)}

    def run(size: str) -> list[str]:
        (inner / "constants.py").write_text(f"SIZE = {size}\n", encoding="utf-8")
        command = [sys.executable, "-B", "-c", program]
        done = subprocess.run(command, env=told, capture_output=True, text=True, check=True, timeout=LIMIT_S)
        return done.stdout.split()

    assert [run("2.0"), run("2.0"), run("3.0")] == [["8.0", "0"], ["8.0", "1"], ["12.0", "0"]]

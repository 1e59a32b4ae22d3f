"""Compiled loops are kept on disk, also those that call functions of another file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
            [sys.executable, program], capture_output=True, text=True, check=True, timeout=100
        ).stdout.split()
        for _ in range(2)
    ]
    assert said == [["0", "1"], ["1", "0"]]

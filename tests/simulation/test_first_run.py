"""What a fresh machine computes, whose loops are compiled meanwhile, is what it computes ever after."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import LIMIT_S

PROGRAM = """
import hashlib
import torch
import labctl
from sim_bench import Noise, calibrated
import numpy as np
torch.set_num_threads(1)
bench = calibrated(Noise(800.0, 4.0, 0.003, np.zeros(3)))  # its source flickers
g = torch.Generator().manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32))
for parameter in model.parameters():
    parameter.data = torch.randn(parameter.shape, generator=g)
for rows in (1, 40):
    x = torch.randn(rows, 64, generator=g)
    for light, photons in (("paper", 3.0), ("paper", 300.0), (bench, None), (bench, 30.0)):
        with torch.no_grad():
            found = labctl.opticalize(model, light, seed=1, photons_per_mac=photons)(x)
        print(hashlib.sha256(found.numpy().tobytes()).hexdigest())
"""


@pytest.mark.slow  # it compiles all that two benches need
def test_a_run_that_compiles_its_loops_gives_the_numbers_of_later_ones(tmp_path: Path) -> None:
    told = {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)}

    def run() -> list[str]:
        command, heard = [sys.executable, "-c", PROGRAM], {"capture_output": True, "text": True}
        return subprocess.run(command, env={**os.environ, **told}, timeout=LIMIT_S, check=True, **heard).stdout.split()

    first, later = run(), run()
    assert len(set(first)) == 8
    assert first == later

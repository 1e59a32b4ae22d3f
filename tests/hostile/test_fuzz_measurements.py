"""Whatever happens to a file ends as a coded error or a valid reading: measurements."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_run import DAMAGES, FEW, bad, outcomes, side_by_side
from fuzz_samples import MEASUREMENTS, required

SEALED = {name: form.sealed for name, form in MEASUREMENTS.items()}


def test_damaged_measurements_are_refused_or_read_alike(tmp_path: Path) -> None:
    required(MEASUREMENTS)
    found = outcomes([(name, 0, FEW) for name in MEASUREMENTS], tmp_path)
    assert len(found) == FEW * len(MEASUREMENTS)
    assert {one.kind for one in found} >= {"refused", "same"}
    assert not bad(found, SEALED)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_many_damages_of_each_of_the_measurements(tmp_path: Path, name: str) -> None:
    required(MEASUREMENTS)
    found = side_by_side(name, DAMAGES, tmp_path)
    assert len(found) == DAMAGES
    assert not bad(found, SEALED)

"""Whatever happens to a file ends as a coded error or a valid reading: calibrations."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_run import DAMAGES, FEW, bad, outcomes, side_by_side
from fuzz_samples import CALIBRATIONS, required

SEALED = {name: form.sealed for name, form in CALIBRATIONS.items()}


def test_damaged_calibrations_are_refused_or_read_alike(tmp_path: Path) -> None:
    required(CALIBRATIONS)
    found = outcomes([(name, 0, FEW) for name in CALIBRATIONS], tmp_path)
    assert len(found) == FEW * len(CALIBRATIONS)
    assert {one.kind for one in found} >= {"refused", "same"}
    assert not bad(found, SEALED)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CALIBRATIONS)
def test_many_damages_of_each_of_the_calibrations(tmp_path: Path, name: str) -> None:
    required(CALIBRATIONS)
    found = side_by_side(name, DAMAGES, tmp_path)
    assert len(found) == DAMAGES
    assert not bad(found, SEALED)

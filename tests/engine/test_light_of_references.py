"""Whether the light went out is told by reference frames, over matrices of any size and darkness."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from calibration.errors import BadScan
from calibration.frames.scan import Readings, Scan
from labctl.nodes.saturation import require_light_to_the_end

M, DARK_DN = 16, 50.0


def reference(at_s: float, columns: int, gray: int, power: float = 1.0) -> Readings:
    """One frame with the whole display at full, over a matrix of one gray."""
    slm = np.full((1, M, columns), gray, np.uint8)
    scan = Scan(slm, np.zeros(1, np.int64), np.full((1, columns), 255, np.uint8))
    dn = np.full((1, M), DARK_DN + power * columns * gray)
    return Readings(scan, dn, np.zeros(1), at_s=np.array([at_s]))


def judged(*references: Readings) -> None:
    evidence: Any = SimpleNamespace(references={"products": list(references)}, scans={})
    require_light_to_the_end(evidence, "products", np.full(M, DARK_DN))


def test_small_and_dim_matrices_are_no_sign_that_the_light_is_out() -> None:
    """A matrix of a quarter of the columns, at a sixth of full transmission, gives 4 % of the light of the largest."""
    dim, bright = (32, 42), (128, 255)
    judged(*(reference(t, *size) for t, size in enumerate([dim, dim, bright, dim, dim, bright, dim])))


def test_matrix_that_lets_nothing_pass_tells_nothing() -> None:
    judged(*(reference(t, 128, gray) for t, gray in enumerate([255, 0, 0, 255, 1, 0])))


@pytest.mark.parametrize(("end", "back"), [(1.0, "came back later"), (0.0, "did not come back")])
def test_light_that_is_out_over_matrices_of_any_size_is_named(end, back) -> None:
    with pytest.raises(BadScan, match=back) as caught:
        judged(
            reference(0.0, 128, 255), reference(1.0, 32, 42), reference(2.0, 32, 42, 0.0),
            reference(3.0, 128, 255, 0.0), reference(4.0, 128, 255, end),
        )  # fmt: skip
    assert "light until 1.0 s of device time" in caught.value.seen

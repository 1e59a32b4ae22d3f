import h5py
import numpy as np
import pytest

from calibration.errors import BadObservations
from calibration.response.observations import Observations

X, W, Y = np.ones((20, 3)), np.ones((2, 3)), np.ones((20, 2))


def wrong(array, where, value):
    array = array.copy()
    array[where] = value
    return array


@pytest.mark.parametrize(
    ("arrays", "what", "seen"),
    [
        ({"inputs": X[:, :2]}, "numbers of columns", "(20, 2)"),
        ({"readings": Y[:19]}, "numbers of rows", "19"),
        ({"readings": Y[:, :1]}, "one column of readings", "(20, 1)"),
        ({"readings": Y[:, 0]}, "which weights", "alone"),
        ({"readings": Y[:, 0], "output": np.full(20, 2)}, "out of range", "2 in row 0 (20 such rows)"),
        ({"readings": Y[:, 0], "output": np.full(20, 0.5)}, "out of range", "0.5 in row 0"),
        ({"at_s": wrong(np.arange(20.0), 7, 3.0)}, "backwards", "3.0 s in row 7"),
        ({"group": np.zeros(3)}, "one value per row", "(3,)"),
        ({"inputs": wrong(X, (4, 2), np.nan)}, "inputs holds numbers that are not finite", "first at [4, 2]"),
        ({"readings": wrong(Y, (5, 1), np.inf)}, "readings holds numbers that are not finite", "1 infinite"),
        ({"readings": np.full((20, 2), "a")}, "no real numbers", "dtype"),
    ],
)
def test_what_does_not_belong_together_is_refused_with_the_place(arrays, what, seen):
    with pytest.raises(BadObservations) as caught:
        Observations(**({"inputs": X, "weights": W, "readings": Y} | arrays))
    assert what in caught.value.what
    assert seen in caught.value.seen


def test_a_file_on_disk_is_read_by_chunks(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.random((1000, 3)).astype(np.float32), rng.integers(0, 4096, (1000, 2), dtype=np.uint16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["y"] = x, y
    with h5py.File(tmp_path / "a.h5") as file:
        observations = Observations(file["x"], W, file["y"])
        parts = list(observations.chunks(300))
        assert [len(p) for p in parts] == [300, 300, 300, 100]
        assert np.array_equal(np.concatenate([p.readings for p in parts]), y)
        assert np.array_equal(observations.between(10, 20).inputs, x[10:20])


def test_the_row_index_is_the_clock_where_there_is_none():
    assert Observations(X, W, Y).rows(5, 8).at_s.tolist() == [5, 6, 7]
    assert Observations(X, W, Y, at_s=np.arange(20) * 2.0).rows(5, 8).at_s.tolist() == [10, 12, 14]

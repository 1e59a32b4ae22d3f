"""Workload files: equal in, equal out; anything else is refused by name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from calibration.errors import ArtefactError, BadOperands
from calibration.frames.products import ProductGroup
from labctl.errors import UsageError
from labctl.workload import read_workload, write_workload

ATTRS = {"model": "stories260K", "text": "tinystories", "seed": 7, "layers": [0, 3]}


def group(name: str = "blocks.0.ffn.down", n: int = 5, rows: int = 3, columns: int = 4) -> ProductGroup:
    rng = np.random.default_rng(n)
    weight = rng.normal(size=(rows, columns)).astype(np.float32)
    inputs = rng.normal(size=(n, columns)).astype(np.float32)
    positions = np.stack([np.zeros(n, np.int64), np.arange(n)], axis=1)
    return ProductGroup(name, "linear", 0, weight, inputs, inputs @ weight.T, positions, 1.5)


def test_workload_comes_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "products.h5"
    groups = [group(), group("blocks.1.attention.qk/head2/seq5", n=12)]
    sha256 = write_workload(path, groups, ATTRS)
    workload = read_workload(path)
    assert (workload.model, workload.text, workload.seed) == ("stories260K", "tinystories", 7)
    assert workload.attrs == {"layers": [0, 3]}
    assert workload.products == 17
    assert workload.sha256 == sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for before, after in zip(groups, workload.groups, strict=True):
        assert (before.name, before.operation, before.block) == (after.name, after.operation, after.block)
        for array in ("weight", "inputs", "outputs", "positions"):
            np.testing.assert_array_equal(getattr(before, array), getattr(after, array))
            assert getattr(before, array).dtype == getattr(after, array).dtype


def test_order_of_more_than_ten_groups_is_kept(tmp_path: Path) -> None:
    names = [f"group {index}" for index in range(12)]
    write_workload(tmp_path / "w.h5", [group(name) for name in names], ATTRS)
    assert [g.name for g in read_workload(tmp_path / "w.h5").groups] == names


def test_equal_workloads_are_equal_files(tmp_path: Path) -> None:
    reordered = dict(reversed(ATTRS.items()))
    assert write_workload(tmp_path / "a.h5", [group()], ATTRS) == write_workload(
        tmp_path / "b.h5", [group()], reordered
    )


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.9])
def test_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "products.h5"
    write_workload(path, [group(n=200)], ATTRS)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    with pytest.raises(ArtefactError) as caught:
        read_workload(path)
    assert "labctl sample" in caught.value.hint


def test_other_schema_and_other_formats_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file.attrs["schema"] = "labctl.workload/2"
    (tmp_path / "text.h5").write_text("not HDF5")
    for path in (other, tmp_path / "text.h5"):
        with pytest.raises(ArtefactError, match="not a workload file"):
            read_workload(path)


def test_missing_dataset_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "products.h5"
    write_workload(path, [group()], ATTRS)
    with h5py.File(path, "r+") as file:
        del file["groups/000000/outputs"]
    with pytest.raises(ArtefactError):
        read_workload(path)


def test_values_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "products.h5"
    write_workload(path, [group()], ATTRS)
    with h5py.File(path, "r+") as file:
        file["groups/000000/inputs"][0, 0] = np.nan
    with pytest.raises(BadOperands):
        read_workload(path)


def test_absent_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such workload"):
        read_workload(tmp_path / "absent.h5")

"""Workload files: equal in, equal out; anything else is refused by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
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


def strange_dataset(file: h5py.File) -> None:
    file["groups/000000/more"] = np.zeros(3)


def strange_group(file: h5py.File) -> None:
    file.create_group("more")


def complex_weight(file: h5py.File) -> None:
    weight = file["groups/000000/weight"][()].astype(np.complex64)
    del file["groups/000000/weight"]
    file["groups/000000/weight"] = weight


def positions_that_are_no_numbers(file: h5py.File) -> None:
    del file["groups/000000/positions"]
    file["groups/000000/positions"] = np.full((5, 2), np.nan)


def negative_block(file: h5py.File) -> None:
    file["groups/000000"].attrs["block"] = -1e30


def weight_in_another_file(file: h5py.File) -> None:
    del file["groups/000000/weight"]
    file.create_dataset("groups/000000/weight", (3, 4), "f4", external=[("other.raw", 0, 48)])


def weight_behind_a_link(file: h5py.File) -> None:
    del file["groups/000000/weight"]
    file["groups/000000/weight"] = h5py.ExternalLink("other.h5", "/weight")


def gigabytes_of_nothing(file: h5py.File) -> None:
    del file["groups/000000/inputs"]
    file.create_dataset("groups/000000/inputs", (2**32, 4), "f4", chunks=(1024, 4), compression="gzip")


def attribute_of_another_type(file: h5py.File) -> None:
    file["groups/000000"].attrs["name"] = 7


def unit_of_a_dataset(file: h5py.File) -> None:
    file["groups/000000/weight"].attrs["unit"] = "V"


SPOILT = [unit_of_a_dataset, strange_dataset, strange_group, complex_weight, positions_that_are_no_numbers,
          negative_block, weight_in_another_file, weight_behind_a_link, gigabytes_of_nothing,
          attribute_of_another_type]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILT)
def test_workload_with_what_does_not_belong_there_is_refused(
    tmp_path: Path, spoil: Callable[[h5py.File], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.raw").write_bytes(bytes(48))
    write_workload(tmp_path / "w.h5", [group()], ATTRS)
    with h5py.File(tmp_path / "w.h5", "r+") as file:
        for name in ("content_digest", "digest_algorithm"):
            del file.attrs[name]  # as the version before wrote it: nothing else vouches for it
        spoil(file)
    with pytest.raises(ArtefactError, match="not a workload file"):
        read_workload(tmp_path / "w.h5")


def test_pipe_is_no_workload(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.h5")
    with pytest.raises(ArtefactError, match="not a workload file") as caught:
        read_workload(tmp_path / "w.h5")
    assert "pipe" in caught.value.seen


def test_no_flipped_bit_goes_unseen(tmp_path: Path) -> None:
    """Where a bit counts for nothing (gaps of the file) the content is the same."""
    path, rng, refused = tmp_path / "w.h5", np.random.default_rng(14), 0
    write_workload(path, [group()], ATTRS)
    raw, whole = path.read_bytes(), read_workload(path)
    for place in rng.integers(0, len(raw) * 8, 300):
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        try:
            found = read_workload(path)
        except (ArtefactError, BadOperands):
            refused += 1
            continue
        assert (found.model, found.text, found.seed, found.attrs) == (whole.model, whole.text, whole.seed, whole.attrs)
        for ours, theirs in zip(found.groups, whole.groups, strict=True):
            assert all(np.array_equal(value, vars(theirs)[name]) for name, value in vars(ours).items())
    assert refused > 50


def test_altered_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    write_workload(path, [group()], ATTRS)
    with h5py.File(path, "r+") as file:
        file["groups/000000/weight"][0, 0] += 0.001
    with pytest.raises(ArtefactError) as caught:
        read_workload(path)
    assert "digest" in caught.value.seen


def test_workload_of_the_version_before_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    write_workload(path, [group()], ATTRS)
    with h5py.File(path, "r+") as file:
        for name in ("content_digest", "digest_algorithm"):
            del file.attrs[name]
    assert read_workload(path).attrs == {"layers": [0, 3]}


@pytest.mark.parametrize("name", ["content_digest", "digest_algorithm"])
def test_digest_without_its_algorithm_or_the_reverse_is_refused(tmp_path: Path, name: str) -> None:
    write_workload(tmp_path / "w.h5", [group()], ATTRS)
    with h5py.File(tmp_path / "w.h5", "r+") as file:
        del file.attrs[name]
    with pytest.raises(ArtefactError):
        read_workload(tmp_path / "w.h5")

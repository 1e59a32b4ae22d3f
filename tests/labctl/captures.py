"""A small measurement that is not ours, and ways to write it to files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.float64]]


def measurement(rows: int = 60, inputs: int = 5, outputs: int = 3, seed: int = 0) -> Arrays:
    """Inputs, weights and readings [counts] of a bench with a gain of 40, an offset of 100 and noise of 1."""
    rng = np.random.default_rng(seed)
    x, w = rng.uniform(0, 10, (rows, inputs)), rng.uniform(0, 1, (outputs, inputs))
    return {"inputs": x, "weights": w, "readings": 100 + 40 * x @ w.T + rng.normal(0, 1, (rows, outputs))}


def one_reading_per_row(arrays: Mapping[str, NDArray[np.float64]]) -> Arrays:
    """The same bench read one output at a time, with the time of each reading."""
    rows, outputs = arrays["readings"].shape
    output = np.arange(rows) % outputs
    readings = arrays["readings"][np.arange(rows), output]
    return {**arrays, "readings": readings, "output": output.astype(float), "time": np.arange(rows) * 0.5}


def write_npz(path: Path, arrays: Mapping[str, NDArray[np.float64]]) -> Path:
    np.savez(path, **arrays)
    return path


def write_h5(path: Path, arrays: Mapping[str, NDArray[np.float64]], unit: str | None = None) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, chunks=True)
        if unit:
            file["readings"].attrs["units"] = unit
    return path


def write_table(path: Path, arrays: Mapping[str, NDArray[np.float64]], separator: str = ",") -> Path:
    """The rows as a table, and the weights beside it as ``<name>-weights``."""
    columns: dict[str, NDArray[np.float64]] = {}
    for name, values in arrays.items():
        singular = {"inputs": "input", "readings": "reading"}.get(name, name)
        if name == "weights":
            lines = [separator.join(map(repr, map(float, row))) for row in values]
            path.with_stem(f"{path.stem}-weights").write_text("\n".join(lines) + "\n")
        elif values.ndim == 2:
            columns |= {f"{singular}_{k}": values[:, k] for k in range(values.shape[1])}
        else:
            columns[singular] = values
    lines = [separator.join(columns)]
    lines += [separator.join(repr(float(v)) for v in row) for row in zip(*columns.values(), strict=True)]
    path.write_text("# made by a test\n" + "\n".join(lines) + "\n")
    return path


def weights_beside(path: Path) -> Path:
    return path.with_stem(f"{path.stem}-weights")

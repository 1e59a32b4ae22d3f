"""Predicted readings as a file: ``*.npz``, ``*.h5`` or ``*.csv``, with the row in the file they were predicted for."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.archive import atomic_write_bytes
from labctl.archive.images import file_image, write_arrays
from labctl.archive.outputs import PREDICTIONS_SCHEMA
from labctl.errors import UsageError

ENDINGS = (".npz", ".h5", ".hdf5", ".csv")


def check_ending(path: Path) -> None:
    """Refuse a name that no writer knows, before anything is computed.

    Raises
    ------
    UsageError
        With the names that are known.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(
            "predictions cannot be written as this",
            expected=f"a name that ends in {', '.join(ENDINGS)}",
            seen=str(path),
            hint=f"-o {path.stem or 'predictions'}.npz",
        )


def write_predictions(path: Path, arrays: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any]) -> None:
    """Write the arrays, whole or not at all.

    Parameters
    ----------
    arrays
        ``row`` and ``outside`` (rows,), and ``mean``, ``sd``, ``low95``, ``high95`` (rows, outputs) or (rows,).
    attrs
        ``unit``, ``calibration`` and the like; the csv file has them as remarks above its header.
    """
    ending = path.suffix.lower()
    marked = {"schema": PREDICTIONS_SCHEMA, **attrs}
    if ending == ".npz":
        buffer = io.BytesIO()
        members: dict[str, Any] = {**arrays, **{name: np.array(str(value)) for name, value in marked.items()}}
        np.savez(buffer, **members)
        atomic_write_bytes(path, buffer.getvalue())
    elif ending == ".csv":
        atomic_write_bytes(path, _table(arrays, attrs).encode())
    else:
        atomic_write_bytes(path, file_image(lambda file: write_arrays(file, arrays, marked)))


def _table(arrays: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any]) -> str:
    columns: dict[str, NDArray[Any]] = {}
    for name, values in arrays.items():
        if values.ndim == 2:
            columns |= {f"{name}_{m}": values[:, m] for m in range(values.shape[1])}
        else:
            columns[name] = values
    stream = io.StringIO()
    stream.writelines(f"# {name}: {value}\n" for name, value in attrs.items())
    stream.write(",".join(columns) + "\n")
    formats = ["%d" if values.dtype.kind in "iu" else "%.10g" for values in columns.values()]
    np.savetxt(stream, np.column_stack(list(columns.values())), fmt=formats, delimiter=",")
    return stream.getvalue()

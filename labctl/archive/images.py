"""HDF5 files as bytes in memory: the same content gives the same bytes, and only our own code touches the disk.

HDF5 reports a full disk late and without an errno; a file built in memory is written by `atomic_write_bytes`, which
reports it at once.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import h5py


def file_image(fill: Callable[[h5py.File], None]) -> bytes:
    """The bytes of an HDF5 file that ``fill`` wrote into: no times, datasets in the order written."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("earliest", "v110")) as file:
        fill(file)
    return buffer.getvalue()


def write_arrays(group: h5py.Group, arrays: Mapping[str, Any], attrs: Mapping[str, Any]) -> None:
    """Write arrays as datasets (contiguous, no times) and ``attrs`` as attributes, sorted by name.

    Numbers, strings and lists of them are native attributes; a mapping is stored as its JSON text.
    """
    import numpy as np

    for name, array in arrays.items():
        values = np.asarray(array)
        if values.dtype.kind not in "biufcS":
            raise TypeError(f"array {name} has type {values.dtype}; segments hold numbers and fixed-length bytes")
        group.create_dataset(name, data=values, track_times=False)
    for name in sorted(attrs):
        value = attrs[name]
        group.attrs[name] = json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value

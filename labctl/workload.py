"""Workload files: Transformer products to be shown on a bench; HDF5, schema ``labctl.workload/1``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.errors import ArtefactError
from calibration.frames.products import ProductGroup
from labctl.archive.atomic import atomic_write_bytes, storage
from labctl.archive.images import file_image, open_image, read_attrs, write_arrays
from labctl.errors import UsageError

if TYPE_CHECKING:
    import h5py

SCHEMA = "labctl.workload/1"
WORKLOAD = "workload.h5"
"""Its name in a run folder."""
_ARRAYS = {"weight": "float32", "inputs": "float32", "outputs": "float32", "positions": "int64"}
_OWN = ("schema", "model", "text", "seed")


@dataclass(frozen=True)
class Workload:
    """Transformer products to be shown on a bench, and where they come from.

    Attributes
    ----------
    groups
        In the order they are shown.
    model, text, seed
        The model, the text it read, and the seed of the sample.
    attrs
        Whatever else was written with them.
    sha256
        Of the file.

    Examples
    --------
    >>> import labctl
    >>> workload = labctl.read_workload("products.h5")
    >>> [(group.name, group.weight.shape, len(group.inputs)) for group in workload.groups]
    [('ffn', (24, 20), 6)]
    >>> workload.products
    6
    """

    groups: tuple[ProductGroup, ...]
    model: str
    text: str
    seed: int
    sha256: str
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def products(self) -> int:
        """Number of matrix–vector products."""
        return sum(len(group.inputs) for group in self.groups)


def write_workload(path: Path, groups: Sequence[ProductGroup], attrs: Mapping[str, Any]) -> str:
    """Write a workload file whole or not at all; equal arguments give equal bytes.

    Parameters
    ----------
    path
        Usually ``products.h5``.
    groups
        What is to be shown.
    attrs
        ``model`` and ``text`` (strings), ``seed`` (int), and anything else that JSON or HDF5 attributes can hold.

    Returns
    -------
    The file's SHA-256.
    """

    def fill(file: h5py.File) -> None:
        write_arrays(file, {}, {"model": "", "text": "", "seed": 0, **attrs, "schema": SCHEMA})
        for index, group in enumerate(groups):
            arrays = {name: getattr(group, name).astype(dtype, copy=False) for name, dtype in _ARRAYS.items()}
            about = {name: getattr(group, name) for name in ("name", "operation", "block", "weight_scale")}
            write_arrays(file.create_group(f"groups/{index:06d}"), arrays, about)

    data = file_image(fill)
    atomic_write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def read_workload(path: str | Path) -> Workload:
    """Read a workload file, as `labctl sample` writes it.

    Raises
    ------
    UsageError
        No such file.
    ArtefactError
        Truncated, altered in its structure, or of another schema.
    BadOperands
        Shapes that do not fit together, NaN or infinite values.

    Examples
    --------
    >>> import labctl
    >>> labctl.read_workload("products.h5").model
    'my-model'
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError("no such workload file", device=str(path), hint="make one: labctl sample MODEL -o products.h5")
    with storage(path, "reading the workload"):
        data = path.read_bytes()
    try:
        with open_image(data) as file:
            attrs = read_attrs(file)
            if attrs.get("schema") != SCHEMA:
                raise _not_a_workload(path, f"schema {attrs.get('schema')!r}")
            groups = tuple(_read_group(file["groups"][name]) for name in file.get("groups", ()))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise _not_a_workload(path, str(error)) from error
    model, text, seed = (attrs.get(name, "") for name in ("model", "text", "seed"))
    extra = {name: value for name, value in attrs.items() if name not in _OWN}
    return Workload(groups, str(model), str(text), int(seed or 0), hashlib.sha256(data).hexdigest(), extra)


def _read_group(group: h5py.Group) -> ProductGroup:
    arrays = {name: group[name][()].astype(dtype, copy=False) for name, dtype in _ARRAYS.items()}
    about = read_attrs(group)
    return ProductGroup(
        name=str(about["name"]),
        operation=str(about["operation"]),
        block=int(about["block"]),
        weight_scale=float(about["weight_scale"]),
        **arrays,
    )


def _not_a_workload(path: Path, seen: str) -> ArtefactError:
    return ArtefactError(
        "not a workload file, or only part of one",
        device=str(path),
        action="reading the workload",
        expected=f"HDF5, schema {SCHEMA}",
        seen=seen,
        hint="make it again: labctl sample MODEL -o products.h5",
    )

"""Workload files: Transformer products to be shown on a bench; HDF5, schema ``labctl.workload/1``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.errors import ArtefactError
from calibration.frames.products import ProductGroup
from groundwork.notebook import Card, Carded
from groundwork.opening.hdf5 import Hdf5, parse_hdf5
from groundwork.opening.regular import read_regular
from labctl.archive.atomic import atomic_write_bytes, storage
from labctl.archive.images import file_image, write_arrays
from labctl.errors import UsageError

if TYPE_CHECKING:
    import h5py

SCHEMA = "labctl.workload/1"
WORKLOAD = "workload.h5"
"""Its name in a run folder."""
SHOWN = 20
"""Groups that a notebook shows."""
_ARRAYS = {"weight": "float32", "inputs": "float32", "outputs": "float32", "positions": "int64"}
_ABOUT = {"name": str, "operation": str, "block": int, "weight_scale": float}
_DIGEST, _ALGORITHM = "content_digest", "digest_algorithm"
_OWN = ("schema", "model", "text", "seed", _DIGEST, _ALGORITHM)


@dataclass(frozen=True, repr=False)
class Workload(Carded):
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

    def card(self) -> Card:
        """What a notebook shows of it."""
        each = {
            group.name: f"{' × '.join(map(str, group.weight.shape))}, {len(group.inputs)} inputs"
            for group in self.groups[:SHOWN]
        }
        more = len(self.groups) - SHOWN
        return Card(
            "workload",
            f"{self.products} products of {self.model or 'a model without a name'}",
            {"text": self.text, **each, **({"…": f"and {more} more: .groups has all"} if more > 0 else {})},
        )


def write_workload(path: str | Path, groups: Sequence[ProductGroup], attrs: Mapping[str, Any]) -> str:
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

    path = Path(path)

    def fill(stated: Mapping[str, str], file: h5py.File) -> None:
        write_arrays(file, {}, {"model": "", "text": "", "seed": 0, **attrs, "schema": SCHEMA, **stated})
        for index, group in enumerate(groups):
            arrays = {name: getattr(group, name).astype(dtype, copy=False) for name, dtype in _ARRAYS.items()}
            about = {name: getattr(group, name) for name in ("name", "operation", "block", "weight_scale")}
            write_arrays(file.create_group(f"groups/{index:06d}"), arrays, about)

    content = _content_sha256(parse_hdf5(file_image(partial(fill, {})), path))
    data = file_image(partial(fill, {_DIGEST: content, _ALGORITHM: "sha256"}))
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
    if not path.exists():
        raise UsageError("no such workload file", device=str(path), hint="make one: labctl sample MODEL -o products.h5")
    try:
        with storage(path, "reading the workload"):
            data = read_regular(path)
        file = parse_hdf5(data, path)
        attrs = file.attrs
        if attrs.get("schema") != SCHEMA:
            raise _not_a_workload(path, f"schema {attrs.get('schema')!r}")
        groups = _groups(file)
        # the files of version 0.2.0 and before have neither
        found = _content_sha256(file)
        if (attrs.get(_DIGEST, found), attrs.get(_ALGORITHM)) != (found, "sha256" if _DIGEST in attrs else None):
            raise _not_a_workload(path, "content that does not have its digest: the file was altered")
    except (OSError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _not_a_workload(path, str(error)) from error
    model, text, seed = (attrs.get(name, "") for name in ("model", "text", "seed"))
    extra = {name: value for name, value in attrs.items() if name not in _OWN}
    return Workload(groups, str(model), str(text), int(seed or 0), hashlib.sha256(data).hexdigest(), extra)


def _groups(file: Hdf5) -> tuple[ProductGroup, ...]:
    """In their order; whatever else the file holds is refused."""
    names = sorted(name for name in file.groups if name.startswith("groups/"))
    belongs = {f"{name}/{array}" for name in names for array in _ARRAYS}
    noted = [name for name, data in file.datasets.items() if data.attrs] + ["groups"] * bool(file.groups.get("groups"))
    strange = noted + sorted((file.datasets.keys() ^ belongs) | (file.groups.keys() - {"", "groups", *names}))
    if strange:
        raise ValueError(f"{', '.join(strange[:5])}: missing, or does not belong there")
    return tuple(_read_group(name, file) for name in names)


def _content_sha256(file: Hdf5) -> str:
    """SHA-256 of every array and attribute but itself."""
    about = {name: sorted(attrs.items()) for name, attrs in file.groups.items()}
    about[""] = [(key, value) for key, value in about[""] if key not in (_DIGEST, _ALGORITHM)]
    sha256 = hashlib.sha256(repr(sorted(about.items())).encode())
    for name, data in sorted(file.datasets.items()):
        sha256.update(f"{name}{data.values.dtype.str}{data.values.shape}".encode() + data.values.tobytes())
    return sha256.hexdigest()


def _read_group(name: str, file: Hdf5) -> ProductGroup:
    arrays = {array: file.datasets[f"{name}/{array}"].values for array in _ARRAYS}
    for array, dtype in _ARRAYS.items():
        if arrays[array].dtype != dtype:
            raise ValueError(f"{name}/{array} is {arrays[array].dtype}, not {dtype}")
    about = file.groups[name]
    if about.keys() != _ABOUT.keys() or any(type(about[key]) is not kind for key, kind in _ABOUT.items()):
        raise ValueError(f"{name} says {dict(about)!r:.200}, not its name, operation, block and weight_scale")
    if about["block"] < 0 or (arrays["positions"] < 0).any():
        raise ValueError(f"{name} is from block {about['block']}, or from positions below 0")
    return ProductGroup(
        name=about["name"],
        operation=about["operation"],
        block=about["block"],
        weight_scale=about["weight_scale"],
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

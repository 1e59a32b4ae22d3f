"""Read HDF5 files of numbers: plain values come out, and no link, virtual dataset or external storage is followed."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundwork.errors import FileRefused
from groundwork.opening.hdf5_texts import Texts, require_texts, require_whole_heaps
from groundwork.opening.regular import MOST_BYTES, open_regular, read_regular

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError, OverflowError, AttributeError,
          NotImplementedError, IndexError)  # fmt: skip
"""What h5py raises at a damaged file."""
MOST_OBJECTS = 10_000
MOST_GROUPS_DEEP = 16
MOST_ATTRIBUTES = 1000
MOST_ATTRIBUTE_BYTES = 2**24
MOST_EXPANSION = 1100
"""How many times its stored bytes a compressed dataset may unfold to: a little more than deflate can."""
MOST_AXES = 16
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_FILTERS = {1, 2, 3, 32000}
"""deflate, shuffle, fletcher32, lzf: what is there wherever h5py is."""


@dataclass(frozen=True)
class Dataset:
    """One dataset, read: its values and its attributes."""

    values: NDArray[Any]
    attrs: Mapping[str, Any]


@dataclass(frozen=True)
class Hdf5:
    """A whole file.

    Attributes
    ----------
    groups
        Attributes of each group, by its path; of the file itself under ``""``. Arrays are lists.
    datasets
        By path: ``"groups/000000/weight"``.
    """

    groups: Mapping[str, Mapping[str, Any]]
    datasets: Mapping[str, Dataset]

    @property
    def attrs(self) -> Mapping[str, Any]:
        """Attributes of the file itself."""
        return self.groups[""]


def read_hdf5(path: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> Hdf5:
    """Everything in a file.

    Raises
    ------
    FileRefused
        No regular file, too large, or not as `parse_hdf5` wants it.
    OSError
        There is nothing, or it may not be read.
    """
    return parse_hdf5(read_regular(path, most_bytes), path, most_bytes)


def parse_hdf5(raw: bytes, path: str | os.PathLike[str] = "", most_bytes: int = MOST_BYTES) -> Hdf5:
    """Everything in the bytes of a file; ``path`` is where they come from.

    Raises
    ------
    FileRefused
        Damaged, larger than ``most_bytes`` when unfolded, or with anything but groups, numbers and texts of its own.
    """
    texts = _texts(raw, path)
    with _image(raw, path) as file:
        found = list(walk(file, path))
        require_texts(raw, [_address(file), *(_address(thing) for _, thing in found)], texts, path)
        _require_bounded([data for _, data in found if not _is_group(data)], path, len(raw), most_bytes)
        groups = {name: _attributes(thing, path) for name, thing in found if _is_group(thing)}
        datasets = {
            name: Dataset(_values(thing, name, path), _attributes(thing, path))
            for name, thing in found
            if not _is_group(thing)
        }
        return Hdf5({"": _attributes(file, path), **groups}, datasets)


def root_attributes(path: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """The attributes of the file itself; no dataset is opened.

    Raises
    ------
    FileRefused
        No regular file, too large, or damaged.
    OSError
        There is nothing, or it may not be read.
    """
    raw = read_regular(path, most_bytes)
    texts = _texts(raw, path)
    with _image(raw, path) as file:
        require_texts(raw, [_address(file)], texts, path)
        return _attributes(file, path)


@contextmanager
def open_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """A file whose datasets are sliced while the block lasts, however large it is; go through it with `walk`.

    Raises
    ------
    FileRefused
        No regular file, or not a whole HDF5 file.
    OSError
        There is nothing, or it may not be read.
    """
    import h5py

    with open_regular(path) as stream:
        try:
            file = h5py.File(stream, "r")
        except BROKEN as error:
            raise _damaged(path, error) from error
        with file:
            yield file


def walk(file: h5py.File, path: str | os.PathLike[str]) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Groups and datasets by their path, each once, in the order of their names; nothing that lies elsewhere.

    Raises
    ------
    FileRefused
        A link that is not a hard one, a virtual dataset or one that is stored in other files, a ring of groups, or more
        objects than anybody needs.
    """
    import h5py

    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    seen = {_address(file)}
    while waiting:
        prefix, group = waiting.pop()
        for name in _names(group, path):
            full = prefix + name
            if len(seen) > MOST_OBJECTS:
                raise _refused(path, "too many objects", f"at most {MOST_OBJECTS}", "more")
            try:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise _refused(path, f"{full} is a link", "data of its own", "a link to somewhere else")
                thing = group[name]
                address = _address(thing)
                if isinstance(thing, h5py.Dataset) and (where := elsewhere(thing)):
                    raise _refused(path, f"{full} lies in another file", "numbers in the file itself", where)
            except BROKEN as error:
                raise _as_refused(path, error) from error
            if address in seen:
                raise _refused(path, f"{full} is there under two names", "each object once", "a second link")
            seen.add(address)
            if isinstance(thing, h5py.Group):
                if full.count("/") >= MOST_GROUPS_DEEP:
                    raise _refused(path, "groups lie too deep", f"at most {MOST_GROUPS_DEEP} levels", full[:100])
                waiting.append((f"{full}/", thing))
            elif not isinstance(thing, h5py.Dataset):
                raise _refused(path, f"{full} is no numbers", "groups and datasets", type(thing).__name__)
            yield full, thing


def find_dataset(file: h5py.File, name: str, path: str | os.PathLike[str]) -> h5py.Dataset:
    """The dataset of a name, whose numbers are in the file; what else is there does not matter.

    Raises
    ------
    FileRefused
        When there is none, the way to it or its numbers lie in another file, or it declares more than the file holds.
    """
    import h5py

    try:
        found = within(file, name)
        if not isinstance(found, h5py.Dataset):
            raise _refused(path, f"there is no dataset {name} in the file", name, ", ".join(list(file)[:20]))
        if where := elsewhere(found):
            raise _refused(path, f"{name} lies in another file", "numbers in the file itself", where)
    except BROKEN as error:
        raise _as_refused(path, error) from error
    declared_bytes(found, path, Path(path).stat().st_size)
    return found


def within(group: h5py.Group, name: str, links: int = MOST_GROUPS_DEEP) -> h5py.Group | h5py.Dataset | None:
    """What lies at a path in a group; None where nothing does, or the way there leads through another file."""
    import h5py

    found: Any = group.file if name.startswith("/") else group
    for part in filter(None, name.split("/")):
        if not isinstance(found, h5py.Group) or part not in found:
            return None
        link = found.get(part, getlink=True)
        if isinstance(link, h5py.HardLink):
            found = found[part]
        elif isinstance(link, h5py.SoftLink) and links:
            found = within(found, link.path, links - 1)
        else:
            return None
    return found if isinstance(found, h5py.Group | h5py.Dataset) else None


def elsewhere(data: h5py.Dataset) -> str:
    """Where the numbers of a dataset lie if not in its file; asking for its shape would open what lies there."""
    import h5py

    plan = data.id.get_create_plist()
    if plan.get_layout() == h5py.h5d.VIRTUAL:
        return "parts of other datasets"
    return plan.get_external(0)[0].decode(errors="replace") if plan.get_external_count() > 0 else ""


def declared_bytes(data: h5py.Dataset, path: str | os.PathLike[str], holds: int) -> int:
    """What a dataset unfolds to, which the stored bytes must be able to give.

    Parameters
    ----------
    holds
        Length of the file [B].

    Raises
    ------
    FileRefused
        When it declares more than the file can hold: a fill value, a gap, or compressed beyond what compression does.
    """
    import h5py

    name = data.name
    try:
        plan, shape = data.id.get_create_plist(), data.id.shape
        size, stored = data.id.get_type().get_size(), data.id.get_storage_size()
        nbytes = math.prod(int(n) for n in shape) * size
        filters = [int(plan.get_filter(i)[0]) for i in range(plan.get_nfilters())]
        chunk = math.prod(plan.get_chunk()) * size if plan.get_layout() == h5py.h5d.CHUNKED else 0
    except BROKEN as error:
        raise _as_refused(path, error) from error
    if len(shape) > MOST_AXES:
        raise _refused(path, f"{name} has too many axes", f"at most {MOST_AXES}", f"{len(shape)}")
    most = min(stored, holds) * (MOST_EXPANSION if filters else 1)
    if not filters and chunk:
        most += chunk * (1 + 2 ** len(shape))  # those at the edges are stored whole
    if nbytes > most or chunk > max(64 * nbytes, 2**20):
        raise _refused(
            path, f"{name} declares more numbers than the file holds", f"at most {most} bytes", f"{nbytes} bytes"
        )
    return int(nbytes)


def _require_bounded(data: list[h5py.Dataset], path: str | os.PathLike[str], holds: int, most_bytes: int) -> None:
    for one in data:
        plan = one.id.get_create_plist()
        filters = {int(plan.get_filter(i)[0]) for i in range(plan.get_nfilters())}
        if filters - _FILTERS:
            seen = f"filters {sorted(filters)}"
            raise _refused(path, f"{one.name} is stored in a way that is not read", "plain, gzip or lzf", seen)
    total = sum(declared_bytes(one, path, holds) for one in data)
    if total > most_bytes:
        raise _refused(path, "the file unfolds to too much", f"at most {most_bytes} bytes", f"{total} bytes")


@contextmanager
def _image(raw: bytes, path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    import h5py

    try:
        file = h5py.File(io.BytesIO(raw), "r")
    except BROKEN as error:
        raise _damaged(path, error) from error
    try:
        yield file
    except FileRefused:
        raise
    except BROKEN as error:
        raise _damaged(path, error) from error
    finally:
        file.close()


def _texts(raw: bytes, path: str | os.PathLike[str]) -> Texts:
    _require_plain_start(raw, path)
    return require_whole_heaps(raw, path)


def _require_plain_start(raw: bytes, path: str | os.PathLike[str]) -> None:
    """The superblock stands first, and counts in eight bytes: the one kind in which `hdf5_texts` can look."""
    sizes = raw[13:15] if raw[8:9] in (b"\0", b"\1") else raw[9:11]
    if raw[:8] != _SIGNATURE or sizes != b"\x08\x08":
        raise _refused(path, "not an HDF5 file, or only part of one", "the start of an HDF5 file", repr(raw[:16]))


def _names(group: h5py.Group, path: str | os.PathLike[str]) -> list[str]:
    try:
        names = []
        for name in group:
            names.append(name)
            if len(names) > MOST_OBJECTS:
                raise _refused(path, "too many objects", f"at most {MOST_OBJECTS}", "more")
        return sorted(names)
    except BROKEN as error:
        raise _as_refused(path, error) from error


def _address(thing: h5py.Group | h5py.Dataset) -> int:
    import h5py

    return int(h5py.h5o.get_info(thing.id).addr)


def _is_group(thing: h5py.Group | h5py.Dataset) -> bool:
    return not hasattr(thing, "shape")


def _values(data: h5py.Dataset, name: str, path: str | os.PathLike[str]) -> NDArray[Any]:
    import h5py
    import numpy as np

    kind = data.id.get_type()
    if kind.get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM) and not (
        kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str()
    ):
        raise _refused(path, f"{name} holds no numbers", "integers or floats", str(data.dtype))
    return np.asarray(data[()])


def _attributes(thing: Any, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Attributes as Python values, arrays as lists."""
    import h5py
    import numpy as np

    names = list(thing.attrs)
    if len(names) > MOST_ATTRIBUTES:
        raise _refused(path, "too many attributes", f"at most {MOST_ATTRIBUTES}", str(len(names)))
    found = {}
    for name in names:
        attribute = h5py.h5a.open(thing.id, name.encode("utf-8", "surrogateescape"))
        kind = attribute.get_type()
        if kind.get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM, h5py.h5t.STRING):
            raise _refused(path, f"attribute {name!r} is no number and no text", "a number or a text", "another type")
        if attribute.get_space().get_simple_extent_npoints() * kind.get_size() > MOST_ATTRIBUTE_BYTES:
            raise _refused(path, f"attribute {name!r} is too large", f"at most {MOST_ATTRIBUTE_BYTES} bytes", "more")
        value = thing.attrs[name]
        found[name] = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return found


def _as_refused(path: str | os.PathLike[str], error: BaseException) -> FileRefused:
    return error if isinstance(error, FileRefused) else _damaged(path, error)


def _damaged(path: str | os.PathLike[str], error: BaseException) -> FileRefused:
    said = " ".join(str(error).split())[:300] or type(error).__name__
    return _refused(path, "not an HDF5 file, or only part of one", "a whole HDF5 file", said)


def _refused(path: str | os.PathLike[str], what: str, expected: str, seen: str) -> FileRefused:
    return FileRefused(what, device=str(path), expected=expected, seen=seen)

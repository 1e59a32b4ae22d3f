"""Where each array of a measurement lies: in the file of all, under what name, or in a file of its own."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.errors import CaptureIncomplete
from labctl.foreign.files.columns import without_unit
from labctl.foreign.files.contents import Array, Contents, Reading
from labctl.foreign.files.formats import format_of
from labctl.foreign.files.request import ARRAYS, Elsewhere, Request

_LETTERS = {"inputs": "x", "weights": "w", "readings": "y"}
"""What people call them in formulas."""
_TRIED_MAX = 12
"""Arrays of which it is tried what they may be by their shapes."""
_WITH_UNIT = ("readings", "time")
_COLUMNS = {"inputs": "input", "weights": "weight", "readings": "reading"}


@dataclass(frozen=True)
class Source:
    """One array, not read yet.

    Attributes
    ----------
    path
        Its file; None of weights that are in none.
    called
        Its name there, with the file where that is not the one of all.
    ways
        How it can be read; mostly one.
    unit
        What the file says.
    """

    path: Path | None
    called: str
    ways: tuple[Reading, ...]
    unit: str | None = None

    @property
    def array(self) -> Array:
        """As it is most likely read."""
        return self.ways[0].array


def sources(
    stack: ExitStack, path: Path, request: Request, default_weights: NDArray[np.float64] | None
) -> tuple[dict[str, Source], tuple[str, ...]]:
    """Every array that there is, by name, and notes; files stay open as long as ``stack``.

    Raises
    ------
    LabError
        A file that cannot be read, a name that is not in it.
    """
    found: dict[str, Source] = {}
    notes: list[str] = []
    if set(request.files) < set(ARRAYS) and not _all_apart(path, request):
        contents = stack.enter_context(format_of(path, request.decimal).open(path))
        found, notes = _of_all(path, contents, request)
    opened: dict[tuple[Path, str], Contents] = {}
    for name, place in request.files.items():
        source, more = _apart(stack, opened, name, place, request.decimal)
        found[name] = source
        notes += [note for note in more if note not in notes]
    if "weights" not in found and default_weights is not None:
        found["weights"] = Source(None, "weights", (Reading(default_weights),))
        notes.append("weights: none in the file, those of the calibration are taken")
    return found, tuple(notes)


def _all_apart(path: Path, request: Request) -> bool:
    """Whether the file of all is but one of the files of single arrays."""
    return path in {place.path for place in request.files.values()} and not request.names


def _of_all(path: Path, contents: Contents, request: Request) -> tuple[dict[str, Source], list[str]]:
    found: dict[str, Source] = {}
    for name in ARRAYS:
        if name in request.files:
            continue
        there = request.name_of(name) or (_COLUMNS.get(name, name) if contents.table else name)
        key = _key(contents, there)
        if key is not None:
            found[name] = Source(path, key, contents.ways(key), contents.unit_of(key) if name in _WITH_UNIT else None)
        elif name in request.names:
            raise _no_such(path, name, there, contents, request)
    read = [contents.arrays.get(source.called) for source in found.values()]
    ignored = sorted(name for name, array in contents.arrays.items() if not any(array is other for other in read))
    notes = list(contents.notes)
    if ignored:
        notes.append(f"not read: {', '.join(ignored[:8])}{' …' if len(ignored) > 8 else ''}")
    return found, notes


def _apart(
    stack: ExitStack, opened: dict[tuple[Path, str], Contents], name: str, place: Elsewhere, decimal: str | None
) -> tuple[Source, tuple[str, ...]]:
    form = format_of(place.path, decimal)
    there = place.there.removesuffix(".T") if place.there else None
    matrix = form.has_matrices and not there
    key = (place.path, "matrix" if matrix else "")
    if key not in opened:
        opened[key] = stack.enter_context(form.open_matrix(place.path, name) if matrix else form.open(place.path))
    contents = opened[key]
    wanted = [there] if there else [name, _COLUMNS.get(name, name)]
    if not there and len(contents.arrays) == 1:
        wanted += list(contents.arrays)
    if matrix:
        wanted = list(contents.arrays)
    found = next((k for k in (_key(contents, one) for one in wanted if one) if k is not None), None)
    if found is None:
        raise CaptureIncomplete(
            f"the file has no {there or name}", device=str(place.path), expected=f"--{name} FILE:NAME",
            seen=_shapes(contents), hint=f"--{name} {place.path}:{_nearest(contents, name, ())}",
        )  # fmt: skip
    unit = contents.unit_of(found) if name == "readings" else None
    called = place.path.name if matrix else f"{place.path.name}:{found}"
    return Source(place.path, called, contents.ways(found), unit), contents.notes


def _key(contents: Contents, there: str) -> str | None:
    """The name of an array as the file has it: leading slashes and units in brackets do not count."""
    for candidate in (there, there.strip("/"), without_unit(there)):
        if candidate in contents.arrays:
            return candidate
    return None


def missing(path: Path, name: str, found: Mapping[str, Source], decimal: str | None) -> CaptureIncomplete:
    """The error for a measurement that lacks an array, with what to type."""
    with format_of(path, decimal).open(path) as contents:
        if contents.table and name == "weights":
            return CaptureIncomplete(
                "a table of rows has no weights", device=str(path), expected="a second file: one line per output",
                hint="--weights WEIGHTS.csv",
            )  # fmt: skip
        taken = {source.called for source in found.values() if source.path == path}
        columns = contents.table and name in _COLUMNS
        lacking = [one for one in _COLUMNS if one not in found]
        meant = {one: near for one in lacking if (near := _nearest(contents, one, taken))}
        if by_shape := _by_shape(contents, found, taken):
            meant = by_shape
        pairs = ",".join(f"{one}={near}" for one, near in meant.items())
        clear = name in meant and len(set(meant.values())) == len(meant)
        pairs = pairs if clear else f"{name}={meant.get(name, '')}"
        ways = [pairs] if name in meant else [f"{name}={key}" for key in _free(contents, name, taken)[:4]]
        hint = f"if it has another name: {' or '.join(f'--map {_quoted(way)}' for way in ways)}   ·   " if ways else ""
        return CaptureIncomplete(
            f"the file has no {name}", device=str(path),
            expected=f"columns {_COLUMNS[name]}_0, {_COLUMNS[name]}_1, …" if columns else name,
            seen=_shapes(contents), hint=f"{hint}in a file of its own: --{name} FILE:NAME",
        )  # fmt: skip


def _no_such(path: Path, name: str, there: str, contents: Contents, request: Request) -> CaptureIncomplete:
    taken = {request.name_of(other) or other for other in ARRAYS if other != name}
    near = _nearest(contents, there, taken) or _nearest(contents, name, taken)
    return CaptureIncomplete(
        f"the file has no {there}", device=str(path), expected=f"the name of its {name}", seen=_shapes(contents),
        hint=f"--map {_quoted(f'{name}={near}')}" if near else f"in a file of its own: --{name} FILE:NAME",
    )  # fmt: skip


def _nearest(contents: Contents, name: str, taken: Any) -> str:
    """An array that may be meant, none of those that are something else already; empty if there is none."""
    free = _free(contents, name, taken)
    lower = {key.lower().rpartition("/")[2]: key for key in free}
    close = difflib.get_close_matches(name, free, n=1, cutoff=0.5)
    usual = lower.get(_LETTERS.get(name, ""))
    return lower.get(name.lower()) or usual or next(iter(close), "") or (free[0] if len(free) == 1 else "")


def _free(contents: Contents, name: str, taken: Any) -> list[str]:
    """The arrays that may be meant by a name, because they are nothing else."""
    others = set(ARRAYS) | set(_COLUMNS.values())
    return [key for key in sorted(contents.arrays) if key not in taken and (key == name or key not in others)]


def _by_shape(contents: Contents, found: Mapping[str, Source], taken: Any) -> dict[str, str]:
    """Which arrays those are that lack a name, where only one way round has shapes that fit; empty otherwise."""
    shapes = {key: tuple(contents.arrays[key].shape) for key in _free(contents, "", taken)}
    free = [key for key, shape in shapes.items() if len(shape) == 2][:_TRIED_MAX]
    known = {name: tuple(found[name].array.shape) for name in _COLUMNS if name in found}
    lacking = [name for name in _COLUMNS if name not in known]
    fits = []
    for keys in itertools.permutations(free, len(lacking)):
        at = known | {name: shapes[key] for name, key in zip(lacking, keys, strict=True)}
        x, w, y = (at[name] for name in ("inputs", "weights", "readings"))
        if len(x) == len(y) == 2 and x[0] == y[0] and w == (y[1], x[1]):
            fits.append(dict(zip(lacking, keys, strict=True)))
    return fits[0] if len(fits) == 1 else {}


def _quoted(pair: str) -> str:
    return f'"{pair}"' if any(sign in pair for sign in " ()[]&;*?") else pair


def _shapes(contents: Contents) -> str:
    there = sorted(contents.arrays)
    return ", ".join(f"{key} {tuple(contents.arrays[key].shape)}" for key in there[:12]) or "no array at all"

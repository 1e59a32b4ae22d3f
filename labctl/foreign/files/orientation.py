"""Which way round the arrays lie: rows × inputs as documented, or transposed where the shapes leave no doubt."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from labctl.errors import CaptureMismatch

Shape = tuple[int, ...]
_TURNABLE = ("inputs", "weights", "readings")
_PER_ROW = ("output", "time", "group")


@dataclass(frozen=True)
class Orientation:
    """How the arrays are read.

    Attributes
    ----------
    rows, inputs, outputs
        Lengths that all arrays agree on.
    transposed
        Arrays that lie the other way round in the file.
    notes
        What a person should know, in words.
    """

    rows: int
    inputs: int
    outputs: int
    transposed: frozenset[str]
    notes: tuple[str, ...]


def orient(path: Path, shapes: Mapping[str, Shape], turned: Collection[str], as_typed: Collection[str]) -> Orientation:
    """Find the one reading of the shapes that fits.

    Parameters
    ----------
    path
        Of the file, for messages.
    shapes
        Of ``inputs`` and ``weights``, and of ``readings``, ``output``, ``time``, ``group`` where the file has them.
    turned
        Arrays that the operator said are transposed (``--map weights=W.T``).
    as_typed
        Arrays that the operator named without ``.T``: as they are, if that decides between several ways.

    Raises
    ------
    CaptureMismatch
        When no way fits, or more than one and none of them is the documented one.
    """
    _check_dimensions(path, shapes)
    flat = {name: _flattened(name, shape) for name, shape in shapes.items()}
    fits = [way for way in _ways(flat, turned) if _fits(flat, way)]
    documented = frozenset(turned)
    if documented in fits:
        return _as_read(flat, shapes, documented)
    if len(fits) > 1:
        fits = [way for way in fits if not way & set(as_typed)] or fits
    if not fits:
        raise _misfit(path, flat, documented)
    if len(fits) > 1:
        raise _ambiguous(path, shapes, fits)
    return _as_read(flat, shapes, fits[0])


def _check_dimensions(path: Path, shapes: Mapping[str, Shape]) -> None:
    allowed = {"inputs": (2,), "weights": (1, 2), "readings": (1, 2)}
    for name, shape in shapes.items():
        wanted = allowed.get(name, (1, 2))
        one_per_row = name in _PER_ROW and len(shape) == 2 and 1 not in shape
        if len(shape) not in wanted or one_per_row:
            expected = "one value per row" if name in _PER_ROW else " or ".join(f"{n} dimensions" for n in wanted)
            raise CaptureMismatch(
                f"{name} has the wrong shape", device=str(path), expected=expected, seen=f"shape {shape}"
            )
        if 0 in shape:
            raise CaptureMismatch(f"{name} is empty", device=str(path), seen=f"shape {shape}")


def _flattened(name: str, shape: Shape) -> Shape:
    """One value per row may lie as a column or a row; one output's weights as a vector."""
    if name in _PER_ROW:
        return (max(shape),)
    if name == "weights" and len(shape) == 1:
        return (1, *shape)
    return shape


def _ways(shapes: Mapping[str, Shape], turned: Collection[str]) -> Iterator[frozenset[str]]:
    free = [name for name in _TURNABLE if len(shapes.get(name, ())) == 2 and name not in turned]
    for choice in product((False, True), repeat=len(free)):
        yield frozenset(turned) | {name for name, turn in zip(free, choice, strict=True) if turn}


def _turned(shapes: Mapping[str, Shape], way: Collection[str]) -> dict[str, Shape]:
    return {name: shape[::-1] if name in way else shape for name, shape in shapes.items()}


def _fits(shapes: Mapping[str, Shape], way: Collection[str]) -> bool:
    return not _problem(_turned(shapes, way))


def _problem(shapes: Mapping[str, Shape]) -> tuple[str, str, str] | None:
    """(what, expected, seen) of the first thing that does not fit, None when all does."""
    rows, inputs = shapes["inputs"]
    outputs, columns = shapes["weights"]
    if columns != inputs:
        return (
            "inputs and weights have different numbers of inputs",
            f"weights of {outputs} outputs × {inputs} inputs" if outputs != inputs else f"{inputs} inputs in both",
            f"inputs {shapes['inputs']}, weights {shapes['weights']}",
        )
    if "readings" in shapes:
        readings = shapes["readings"]
        if readings[0] != rows:
            return "inputs and readings have different numbers of rows", f"{rows} rows", f"readings {readings}"
        one = len(readings) == 1 or readings[1] == 1
        if one and outputs > 1 and "output" not in shapes:
            return (
                f"one reading per row, and {outputs} outputs: which output was read?",
                f"readings ({rows}, {outputs}), or one `output` (0 … {outputs - 1}) per row",
                f"readings {readings}, weights {shapes['weights']}",
            )
        if not one and "output" in shapes:
            return (
                "`output` says which one output each row read, but every row has several readings",
                f"readings ({rows},)",
                f"readings {readings}",
            )
        if not one and readings[1] != outputs:
            return (
                f"weights for {outputs} outputs, readings of {readings[1]}",
                f"readings ({rows}, {outputs})",
                f"readings {readings}",
            )
    for name in _PER_ROW:
        if name in shapes and shapes[name] != (rows,):
            return f"{name} has another number of rows than inputs", f"{rows} values", f"{shapes[name][0]}"
    return None


def _as_read(flat: Mapping[str, Shape], shapes: Mapping[str, Shape], way: frozenset[str]) -> Orientation:
    read = _turned(flat, way)
    (rows, inputs), outputs = read["inputs"], read["weights"][0]
    words = {
        "inputs": f"{rows} rows of {inputs}",
        "weights": f"{outputs} outputs of {inputs} inputs",
        "readings": f"{rows} rows of {read.get('readings', (0, 1))[-1]}",
    }
    notes = [f"{name} were {shapes[name]}: read as {words[name]}" for name in _TURNABLE if name in way]
    if len(shapes["weights"]) == 1:
        notes.append(f"weights were {shapes['weights']}: read as those of one output")
    return Orientation(rows, inputs, outputs, way, tuple(notes))


def _misfit(path: Path, shapes: Mapping[str, Shape], way: frozenset[str]) -> CaptureMismatch:
    """Explained for the way that comes closest: the documented one, or another in which more fits."""
    order = sorted(_ways(shapes, way), key=lambda candidate: (-_agreement(_turned(shapes, candidate)), len(candidate)))
    what, expected, seen = _problem(_turned(shapes, order[0])) or ("", "", "")
    return CaptureMismatch(
        what,
        device=str(path),
        expected=expected,
        seen=seen,
        hint="inputs (rows, N), weights (M, N), readings (rows, M); transposed: --map weights=weights.T",
    )


def _agreement(shapes: Mapping[str, Shape]) -> int:
    rows, inputs = shapes["inputs"]
    readings = shapes.get("readings", ())
    return sum(
        (
            shapes["weights"][1] == inputs,
            readings[:1] == (rows,),
            readings[1:] == shapes["weights"][:1],
            *(shapes[name] == (rows,) for name in _PER_ROW if name in shapes),
        )
    )


def _ambiguous(path: Path, shapes: Mapping[str, Shape], fits: list[frozenset[str]]) -> CaptureMismatch:
    open_ones = sorted(frozenset.union(*fits) - frozenset.intersection(*fits))
    name = open_ones[0]
    return CaptureMismatch(
        f"the shapes fit in {len(fits)} ways",
        device=str(path),
        expected="inputs (rows, N), weights (M, N), readings (rows, M)",
        seen=", ".join(f"{key} {shape}" for key, shape in shapes.items()),
        hint=f"say which: --map {name}={name} (as it is) or --map {name}={name}.T (transposed)",
    )

"""Which way round the arrays lie: rows × inputs as documented, or transposed where the shapes leave no doubt."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from labctl.errors import CaptureMismatch

Shape = tuple[int, ...]
_TURNABLE = ("inputs", "weights", "readings")
_PER_ROW = ("output", "time", "group")
_MOST_AXES = 4


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


def ways_that_fit(path: Path, flat: Mapping[str, Shape], turned: Collection[str]) -> list[frozenset[str]]:
    """Every way round in which the shapes fit together; the documented one first, if it is among them.

    Parameters
    ----------
    path
        Of the file, for messages.
    flat
        Shapes as `flattened` gives them.
    turned
        Arrays that the operator said are transposed (``--map weights=W.T``).

    Raises
    ------
    CaptureMismatch
        When no way fits.
    """
    fits = [way for way in _ways(flat, turned) if _fits(flat, way)]
    if not fits:
        raise _misfit(path, flat, frozenset(turned))
    return fits


def flattened(path: Path, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shapes of rows and columns: images as rows of their pixels, one value per row as a plain list of them.

    Raises
    ------
    CaptureMismatch
        When an array has a shape that is none of these.
    """
    images = shapes["inputs"][1:]
    if "weights" in shapes and len(shapes["weights"]) > 2 and shapes["weights"][1:] != images:
        raise _other_weights(path, shapes)
    for name, shape in shapes.items():
        one_per_row = name in _PER_ROW and len(shape) == 2 and 1 not in shape
        fewest = 2 if name == "inputs" else 1
        if len(shape) < fewest or len(shape) > _MOST_AXES or one_per_row or (name in _PER_ROW and len(shape) > 2):
            expected = "one value per row" if name in _PER_ROW else f"{fewest} to {_MOST_AXES} dimensions"
            raise CaptureMismatch(
                f"{name} has the wrong shape", device=str(path), expected=expected, seen=f"shape {shape}",
                hint="inputs (rows, N) or images (rows, height, width), weights (M, N), readings (rows, M)",
            )  # fmt: skip
        if 0 in shape:
            raise CaptureMismatch(f"{name} is empty", device=str(path), seen=f"shape {shape}", hint="look at the file")
    return {name: _flat(name, shape) for name, shape in shapes.items()}


def _other_weights(path: Path, shapes: Mapping[str, Shape]) -> CaptureMismatch:
    """Weights of more dimensions than two that are no images as the inputs are: mostly weights for each row."""
    rows, weights = shapes["inputs"][0], shapes["weights"]
    of_rows = weights[0] == rows and weights[2:] == shapes["inputs"][1:]
    opened = (
        f"d = np.load({str(path)!r})" if path.suffix == ".npz" else "d = {'inputs': …, 'weights': …, 'readings': …}"
    )
    one_line = (
        "x = d['inputs'].reshape(rows, 1, -1) * d['weights'].reshape(rows, M, -1); np.savez('one.npz', "
        "inputs=x.reshape(rows * M, -1), weights=np.ones((M, x.shape[2])), readings=d['readings'].ravel(), "
        "output=np.tile(np.arange(M), rows))"
    )
    return CaptureMismatch(
        "weights that differ from row to row" if of_rows else "weights has the wrong shape",
        device=str(path),
        expected="weights (M, N) that stand for all rows, or images (M, height, width) like the inputs",
        seen=f"weights {weights}, inputs {shapes['inputs']}",
        hint=f"bring every row and output as a row of its own: import numpy as np; {opened}; rows, M = "
        f"d['weights'].shape[:2]; {one_line}"
        if of_rows
        else "inputs (rows, N), weights (M, N), readings (rows, M)",
    )


def _flat(name: str, shape: Shape) -> Shape:
    if name in _PER_ROW:
        return (max(shape),)
    if name == "weights" and len(shape) == 1:
        return (1, *shape)
    return shape if len(shape) <= 2 else (shape[0], math.prod(shape[1:]))


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


def as_read(flat: Mapping[str, Shape], shapes: Mapping[str, Shape], way: frozenset[str]) -> Orientation:
    """The arrays as they are read one way round, in words where that is not the documented one."""
    read = _turned(flat, way)
    (rows, inputs), outputs = read["inputs"], read["weights"][0]
    words = {
        "inputs": f"{rows} rows of {inputs}",
        "weights": f"{outputs} outputs of {inputs} inputs",
        "readings": f"{rows} rows of {read.get('readings', (0, 1))[-1]}",
    }
    notes = [f"{name} were {shapes[name]}: read as {words[name]}" for name in _TURNABLE if name in way]
    notes += [f"{name} were {shape}: read as {words[name]}" for name, shape in shapes.items() if len(shape) > 2]
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


def ambiguous(path: Path, shapes: Mapping[str, Shape], fits: list[frozenset[str]]) -> CaptureMismatch:
    """The error for shapes that fit in several ways, with what to type."""
    open_ones = sorted(frozenset.union(*fits) - frozenset.intersection(*fits))
    name = open_ones[0]
    return CaptureMismatch(
        f"the shapes fit in {len(fits)} ways",
        device=str(path),
        expected="inputs (rows, N), weights (M, N), readings (rows, M)",
        seen=", ".join(f"{key} {shape}" for key, shape in shapes.items()),
        hint=f"say which: --map {name}={name} (as it is) or --map {name}={name}.T (transposed)",
    )

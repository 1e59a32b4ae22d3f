"""Settle how the arrays of a measurement are read: of the ways that their shapes allow, the one the readings follow."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labctl.errors import CaptureMismatch
from labctl.foreign.files.contents import Array
from labctl.foreign.files.orientation import Orientation, Shape, ambiguous, as_read, flattened, ways_that_fit
from labctl.foreign.files.request import Request
from labctl.foreign.files.sources import Source

_SAMPLE = 2000  # rows that decide
_FEWEST = 12
_MOST_WAYS = 32
_CERTAIN = 20.0  # log-likelihood by which one way must be better than another
_CLEARLY = 0.8  # of what another way leaves unexplained


def settle(
    path: Path, found: Mapping[str, Source], request: Request
) -> tuple[dict[str, Array], Orientation, tuple[str, ...]]:
    """The arrays as they are read, which way round they lie, and what a person should know.

    Raises
    ------
    CaptureMismatch
        When no way fits, or several do and neither the documentation nor the readings decide.
    """
    refused: CaptureMismatch | None = None
    tried: list[str] = []
    for ways in islice(product(*(source.ways for source in found.values())), _MOST_WAYS):
        arrays = {name: way.array for name, way in zip(found, ways, strict=True)}
        words = tuple(way.words for way in ways if way.words)
        shapes = {name: tuple(int(n) for n in array.shape) for name, array in arrays.items()}
        try:
            way, more = _oriented(path, arrays, shapes, request)
        except CaptureMismatch as error:
            refused = refused or error
            tried += [word for word in words if word not in tried]
            continue
        return arrays, way, (*words, *way.notes, *more)
    assert refused is not None
    if tried:
        refused.seen = f"{refused.seen}; tried: {'; '.join(tried)}"
    raise refused


def _oriented(
    path: Path, arrays: Mapping[str, Array], shapes: Mapping[str, Shape], request: Request
) -> tuple[Orientation, tuple[str, ...]]:
    flat = flattened(path, shapes)
    stacks = {name for name, shape in shapes.items() if len(shape) > 2}
    fits = [way for way in ways_that_fit(path, flat, request.turned) if not way & stacks]
    fits = [way for way in fits if not way & request.pinned] or fits
    if len(fits) == 1:
        return as_read(flat, shapes, fits[0]), ()
    left = {way: _unexplained(arrays, flat, way) for way in fits}
    known = {way: share for way, share in left.items() if share is not None}
    best = min(known, key=lambda way: known[way][0]) if len(known) == len(fits) else None
    if best is not None and all(_better(known[best], known[way]) for way in fits if way != best):
        second = min((way for way in fits if way != best), key=lambda way: known[way][0])
        return as_read(flat, shapes, best), (
            f"{', '.join(sorted(best ^ second))} would fit the other way round, too; read so that the readings follow "
            f"(unexplained {known[best][0]:.1%}, the other way {known[second][0]:.1%})",
        )
    fits = [way for way in fits if not way & request.as_typed] or fits
    documented = frozenset(request.turned)
    if documented not in fits and len(fits) > 1:
        raise ambiguous(path, shapes, fits)
    chosen = documented if documented in fits else fits[0]
    doubt = ", ".join(sorted(frozenset.union(*known or fits) - chosen))
    words = f"{doubt} would fit the other way round, too, and the readings do not tell: read as documented"
    return as_read(flat, shapes, chosen), (words,) if doubt and "readings" in arrays else ()


def _better(one: tuple[float, int], other: tuple[float, int]) -> bool:
    share, values = one
    gained = 0.5 * values * float(np.log(max(other[0], 1e-12) / max(share, 1e-12)))
    return gained > _CERTAIN and share < _CLEARLY * other[0]


def _unexplained(
    arrays: Mapping[str, Array], flat: Mapping[str, Shape], way: frozenset[str]
) -> tuple[float, int] | None:
    """Share of the readings' variance that a line per output on Σ w x leaves, and rows compared; None if unknown."""
    if "readings" not in arrays:
        return None
    x, y = (_sample(arrays[name], flat[name], name in way) for name in ("inputs", "readings"))
    weights = np.asarray(arrays["weights"][:], np.float64).reshape(flat["weights"])
    w = weights.T if "weights" in way else weights
    good = np.isfinite(x).all(axis=1) & np.isfinite(y).any(axis=1)
    if good.sum() < _FEWEST:
        return None
    if "output" in arrays:
        output = np.asarray(arrays["output"][:]).reshape(-1)[: len(x)].astype(np.float64)
        good &= (output >= 0) & (output < len(w)) & (output == np.floor(output))
        if good.sum() < _FEWEST:
            return None
        z = (x[good] * w[output[good].astype(np.intp)]).sum(axis=1, keepdims=True)
    else:
        z = x[good] @ w.T
    return unexplained(z, y[good]), int(good.sum())


def unexplained(z: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Share of the variance of ``y`` (n, M) that a line per column on ``z`` (n, M) leaves; NaN does not count."""
    read = np.isfinite(y)
    count = np.maximum(read.sum(axis=0), 1)
    zc, yc = (np.where(read, a - np.where(read, a, 0).sum(axis=0) / count, 0) for a in (z, y))
    whole = (yc**2).sum(axis=0)
    explained = (zc * yc).sum(axis=0) ** 2 / np.maximum((zc**2).sum(axis=0), 1e-300)
    alive = whole > 0
    if not alive.any():
        return 1.0
    return float(np.mean(np.clip(1 - explained[alive] / whole[alive], 0.0, 1.0)))


def _sample(array: Array, flat: Shape, turned: bool) -> NDArray[np.float64]:
    rows = flat[-1] if turned else flat[0]
    step = min(rows, _SAMPLE)
    if turned and len(flat) == 2:
        return np.asarray(array[:, :step], np.float64).T
    return np.asarray(array[:step], np.float64).reshape(step, -1)

"""All that happens to vectors before they are multiplied, in one compiled call: for one token, calls are what costs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from groundwork.compiled import rounding_kernel
from simulation.light.counting import Expected, Exposure, expect
from simulation.light.detection import Products
from simulation.light.flicker import flicker_of_frames
from simulation.light.showing import Shown, split_signs, squares_of_passes

Array = Any  # numba compiles these for the types it meets

_f32 = np.float32


class Prepared(NamedTuple):
    """Vectors as they are shown, and what light and flicker their products have; see `simulation.light.counting`."""

    shown: Shown
    products: Products
    expected: Expected
    flicker: Array
    share: Array
    gathered: Array


def prepare_many(
    vectors: Array,
    kept: int,
    edges: Array,
    rows: int,
    panel: Any,
    exposure: Exposure,
    matrices: Any,
    strength: np.float32,
    key: Array,
) -> Prepared:
    """`prepare` vectors (n, K), ``kept`` of whose light is kept, on as many ``rows`` of tiles."""
    (n, k), tiles = vectors.shape, len(edges) - 1
    light, sums, scale = (np.zeros(shape, np.float32) for shape in ((n, 2, tiles), (3, 2, n), (n, 3)))
    shown = Shown(np.empty((n, k), np.float32), np.empty((kept, k), np.float32), scale, light, sums)
    products, gathered = Products(*np.zeros((8, n), np.float32)), np.empty(n, np.float32)
    flicker = np.zeros((n, rows, 3), np.float32)
    out = gathered, flicker
    expected = prepare(vectors, edges, panel, exposure, matrices, strength, key, shown, products, out)
    return Prepared(shown, products, Expected(*expected), flicker, np.empty((0, 0), np.float32), gathered)


@rounding_kernel
def prepare(
    vectors: Array,
    edges: Array,
    panel: Any,
    exposure: Any,
    matrices: Any,
    strength: np.float32,
    key: Array,
    shown: Any,
    products: Any,
    out: Any,
) -> Any:
    """Show vectors as two passes in one light, and find what light and what flicker their products have.

    Parameters
    ----------
    vectors, edges, shown
        As of `simulation.light.showing.split_signs`.
    panel
        Its levels, and the magnitude at which vectors are clipped.
    exposure
        `simulation.light.counting.Exposure`
    matrices
        Unit and brightness as of `simulation.light.counting.expect`, planes and scatter as of
        `simulation.light.flicker.flicker_of_frames`.
    strength, key
        Flicker and key as of the same; nothing flickers at 0.
    products
        `simulation.light.detection.Products`; out: electrons, read, unit and sign.
    out
        Out: (n,) light of all passes, and (n, R, 3) flicker, which was zero.

    Returns
    -------
    The fields of `simulation.light.counting.Expected`.
    """
    levels, limit = panel
    unit, brightness, planes, scatter = matrices
    gathered, flicker = out
    split_signs(vectors, edges, levels, False, limit, shown)
    electrons, read = products.electrons, products.read
    told, share = (electrons, read, products.unit, products.sign), np.empty((2, 0), np.float32)
    expected = expect(shown.sums, shown.scale, exposure, unit, brightness, told, share, gathered)
    if strength > _f32(0):
        each, tiles, rows = len(vectors) // len(unit), len(edges) - 1, flicker.shape[1]
        squares, uneven = np.empty_like(shown.light), np.zeros((len(unit), each), np.float32)
        squares_of_passes(shown.signed, edges, squares)
        by_matrix = len(unit), each, 2, tiles
        light, excess = shown.light.reshape(by_matrix), flicker.reshape((len(unit), each, rows, 3))
        flicker_of_frames(light, squares.reshape(by_matrix), planes, scatter, strength, key, excess, uneven)
        noise = uneven.reshape(-1)
        for n in range(len(vectors)):
            e = electrons[n] if electrons[n] > _f32(0) else _f32(1)
            read[n] += noise[n] * (e * e)
    return expected

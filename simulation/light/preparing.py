"""All that happens to vectors before they are multiplied, in one compiled call: for one token, calls are what costs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from groundwork.compiled import inline, rounding_kernel
from simulation.light.counting import Expected, Exposure, expect
from simulation.light.detection import Products
from simulation.light.flicker import draw_flicker, find_flicker, flicker_of_frames
from simulation.light.sharing import share_rows
from simulation.light.showing import Shown, split_signs

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
    """`prepare` vectors (n, K), ``kept`` of whose light is kept, on as many ``rows`` of tiles, in several threads."""
    (n, k), tiles = vectors.shape, len(edges) - 1
    light, sums, scale = (np.zeros(shape, np.float32) for shape in ((n, 2, tiles), (3, 2, n), (n, 3)))
    shown = Shown(np.empty((n, k), np.float32), np.empty((kept, k), np.float32), scale, light, sums)
    products, gathered = Products(*np.zeros((8, n), np.float32)), np.empty(n, np.float32)
    flicker, (levels, limit) = np.zeros((n, rows, 3), np.float32), panel
    share_rows(split_signs, n, k, vectors, edges, levels, False, limit, shown)
    expected = find_light(exposure, matrices, strength, key, shown, products, (gathered, flicker))
    if strength > 0:
        share_rows(find_flicker, n, k, edges, matrices[2:], strength, shown, products, flicker)
    return Prepared(shown, products, Expected(*expected), flicker, np.empty((0, 0), np.float32), gathered)


@inline
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
    exposure, matrices, strength, key, products, out
        As of `find_light`.

    Returns
    -------
    The fields of `simulation.light.counting.Expected`.
    """
    levels, limit = panel
    split_signs(0, len(vectors), vectors, edges, levels, False, limit, shown)
    expected = find_light(exposure, matrices, strength, key, shown, products, out)
    if strength > _f32(0):
        planes = matrices[2], matrices[3]
        flicker_of_frames(0, len(vectors), edges, planes, strength, shown, products, out[1])
    return expected


@rounding_kernel
def find_light(
    exposure: Any, matrices: Any, strength: np.float32, key: Array, shown: Any, products: Any, out: Any
) -> Any:
    """Find what light the products of vectors have that are ``shown``, and draw what their flicker is made of.

    Parameters
    ----------
    exposure
        `simulation.light.counting.Exposure`
    matrices
        Unit and brightness as of `simulation.light.counting.expect`, planes and scatter as of
        `simulation.light.flicker.flicker_of_frames`.
    strength, key
        Flicker as of the same, and key of `simulation.light.flicker.draw_flicker`; nothing flickers at 0.
    products
        `simulation.light.detection.Products`; out: electrons, read, unit and sign.
    out
        Out: (n,) light of all passes, and (n, R, 3) of which `simulation.light.flicker.find_flicker` makes flicker.

    Returns
    -------
    The fields of `simulation.light.counting.Expected`.
    """
    gathered, flicker = out
    told, share = (products.electrons, products.read, products.unit, products.sign), np.empty((2, 0), np.float32)
    if strength > _f32(0):
        draw_flicker(key, flicker)
    return expect(shown.sums, shown.scale, exposure, matrices[0], matrices[1], told, share, gathered)

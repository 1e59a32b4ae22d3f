"""How many photons and electrons products take, in a compiled loop over them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from groundwork.compiled import summing_kernel

Array = Any  # numba compiles these for the types it meets

_f32 = np.float32


class Exposure(NamedTuple):
    """How bright a bench is while it multiplies, float64.

    Attributes
    ----------
    own
        Detected electrons per unit of light of the bench's own source [e-]; 0 where there is no shot noise.
    per_mac
        Detected electrons per multiply–accumulate and pass that are asked for [e-]; negative: the source's own.
    per_pass
        Each input pass has its own light, or both together have one.
    read
        Read noise of one reading, all weight passes together [e-²].
    full
        What one unit of signal is worth before the scales of vector and matrix.
    """

    own: float
    per_mac: float
    per_pass: bool
    read: float
    full: float


class Expected(NamedTuple):
    """What all products of a call have together.

    Attributes
    ----------
    columns
        Columns that were shown, Σ over input passes and products.
    electrons
        Detected electrons, Σ over the same, of full weights.
    fewest
        The smallest mean number of electrons of a product's outputs, over the products that are lit; infinite if none.
    fewest_of_both
        The same over the products that show both of their input passes; infinite if none does.
    """

    columns: float
    electrons: float
    fewest: float
    fewest_of_both: float


@summing_kernel
def expect(
    sums: Array,
    scale: Array,
    exposure: Exposure,
    unit: Array,
    brightness: Array,
    products: Any,
    share: Array,
    gathered: Array,
) -> Any:
    """What light each product has.

    Parameters
    ----------
    sums, scale
        Of `simulation.light.showing.Shown`.
    unit, brightness
        (B,) the weight that full transmission stands for, and the mean of `Weights.mean_light`, of each matrix.
    products
        Of `simulation.light.detection.Products`, out: electrons, read, unit and sign.
    share
        (2, n), out: by what the light of each pass is multiplied to count in electrons of the first that is lit; left
        alone where the passes are in one light.
    gathered
        (n,), out: the light of all passes, counted so.

    Returns
    -------
    The fields of `Expected`.
    """
    passes, count = sums.shape[1], sums.shape[2]
    electrons, read, units, sign = products
    each = count // len(unit)
    columns, total, fewest, fewest_of_both = 0.0, 0.0, np.inf, np.inf
    for n in range(count):
        light, wide, frames, e0, e1, signs = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for q in range(passes):
            light += sums[0, q, n]
            wide += sums[1, q, n]
            frames += sums[2, q, n]
            signs += (1.0 if q == 0 else -1.0) if sums[2, q, n] > 0 else 0.0
        for q in range(passes):
            lit = np.float64(sums[0, q, n])
            e = exposure.own
            if exposure.per_mac >= 0.0:
                if exposure.per_pass:
                    e = exposure.per_mac * sums[1, q, n] / lit if lit > 0.0 else 0.0
                else:
                    e = exposure.per_mac * wide / light if light > 0.0 else 0.0
            e = e if lit > 0.0 else 0.0
            if q == 0:
                e0 = e
            e1 = e
        reference = e0 if e0 > 0.0 else e1
        expected = sums[0, 0, n] * e0 + (sums[0, 1, n] * e1 if passes == 2 else 0.0)
        together = light
        if exposure.per_pass and passes == 2:
            together = 0.0
            for q in range(2):
                e = e0 if q == 0 else e1
                weighed = np.float64(scale[n, 1 + q]) ** 2 * reference / e if e > 0.0 else 0.0
                share[q, n] = _f32(weighed)
                together += sums[0, q, n] * weighed
        mean = brightness[n // each]
        if passes == 2 and e0 > 0.0 and e1 > 0.0:
            fewest_of_both = min(fewest_of_both, expected * mean)
        if reference > 0.0:
            fewest = min(fewest, together * mean * reference)
        columns += wide
        total += expected
        electrons[n], gathered[n] = _f32(reference), _f32(together)
        read[n], units[n] = _f32(frames * exposure.read), _f32(exposure.full * scale[n, 0] * unit[n // each])
        sign[n] = _f32(signs)
    return columns, total, fewest, fewest_of_both

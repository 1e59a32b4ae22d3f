"""From products to scans and back: tiles, passes, weight-stationary order, and the sums that undo them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.frames.products import ProductGroup
from calibration.frames.scan import Readings, Scan
from calibration.machine.layout import Tile
from calibration.machine.machine import Machine

Float = NDArray[np.float64]


@dataclass(frozen=True)
class TileScan:
    """All frames of one tile of one matrix.

    Attributes
    ----------
    group
        Index of the product group in the workload.
    tile
        Part of the matrix.
    scan
        The frames. Weight passes that are equal (all dark, of a pruned tile) may share an SLM pattern.
    product, input_pass, weight_pass
        (n,) which input vector of the group each frame shows, which pass of it, and which pass of the weights.
    """

    group: int
    tile: Tile
    scan: Scan
    product: NDArray[np.int64]
    input_pass: NDArray[np.int64]
    weight_pass: NDArray[np.int64]


@dataclass(frozen=True)
class ProductResult:
    """Products of one group as the bench returned them, in units of ``weight_scale × input_scale``.

    Attributes
    ----------
    measured, realised, exact
        (n, M): decoded readings; the same decoding of what the channel predicts for the levels really shown;
        the model's own product.
    variance
        (n, M) predicted variance of ``measured``.
    common
        (n, M) the part of it that all outputs of a product have in common: the source's flicker, and what is left of
        its drift.
    """

    group: int
    measured: Float
    realised: Float
    exact: Float
    variance: Float
    common: Float

    @property
    def z(self) -> Float:
        """Residuals over predicted standard deviations, flat; a product with a zero vector needs no light, has none."""
        lit = self.variance > 0
        return np.asarray((self.measured - self.realised)[lit] / np.sqrt(self.variance[lit]))

    def where(self, keep: NDArray[np.bool_]) -> ProductResult:
        """Only the products of the (n,) mask ``keep``."""
        parts = (self.measured, self.realised, self.exact, self.variance, self.common)
        return ProductResult(self.group, *(part[keep] for part in parts))

    @property
    def squares_covariance(self) -> float:
        """Sum of the squared correlations of all pairs of `z`, each with itself included.

        Half the variance of the sum of their squares, if they are normal: as many as there are values where nothing is
        in common, and more where it is.
        """
        lit = self.variance > 0
        share = np.where(lit, self.common / np.where(lit, self.variance, 1.0), 0.0)
        return float(lit.sum() + (share.sum(axis=1) ** 2 - (share**2).sum(axis=1)).sum())


def schedule(machine: Machine, groups: list[ProductGroup]) -> Iterator[TileScan]:
    """Scans of every tile, group after group: the SLM changes once per tile and weight pass, and no oftener."""
    for g, group in enumerate(groups):
        weight = group.weight.astype(np.float64) / group.weight_scale
        vectors = group.inputs.astype(np.float64) / group.input_scales[:, None]
        for tile in machine.layout.tiles(group.weight.shape):
            slm = machine.encode_weight(weight[tile.rows, tile.columns])
            display, lit = machine.encode_input(vectors[:, tile.columns])
            product, input_pass = (index.astype(np.int64) for index in np.nonzero(lit.T))
            frames = display[input_pass, product]
            passes = len(slm)
            weight_pass = np.repeat(np.arange(passes), len(frames))
            scan = Scan(slm, weight_pass, np.tile(frames, (passes, 1)))
            yield TileScan(g, tile, scan, np.tile(product, passes), np.tile(input_pass, passes), weight_pass)


class _Drift:
    """What is left of the drift in the products of one weight pass: the same over the input passes of each product.

    These follow one another; from one weight pass to the next all products of the tile are shown.
    """

    def __init__(self, machine: Machine, readings: Readings, products: int, rows: int) -> None:
        self._machine, self._covariance, self._rows = machine, readings.drift_covariance, rows
        self._follow = np.zeros((products, rows, 2))
        self._left = np.zeros((products, 2, 2))

    def add(self, products: NDArray[np.int64], frames: NDArray[np.intp], factor: float, mean: Float) -> None:
        """One input pass: ``frames`` show ``products`` and are expected to read ``mean`` (n, M) [DN]."""
        if self._covariance is not None:
            self._follow[products] += factor * self._machine.decode_drift(mean, self._rows)
            self._left[products] = self._covariance[frames]

    @property
    def variance(self) -> Float:
        """(products, rows)"""
        return np.asarray(np.einsum("nmi,nij,nmj->nm", self._follow, self._left, self._follow))


def predicted(machine: Machine, scan: Scan) -> tuple[Float, Float]:
    """Expected readings and their variance, (n, M) each [DN, DN²], of every frame of a scan."""
    mean, variance = np.empty((len(scan), machine.layout.rows)), np.empty((len(scan), machine.layout.rows))
    for s in range(len(scan.slm)):
        frames = scan.slm_index == s
        if frames.any():
            mean[frames], variance[frames] = machine.predict(scan.slm[s], scan.display[frames])
    return mean, variance


def assemble(
    machine: Machine, group: ProductGroup, index: int, parts: list[tuple[TileScan, Readings]]
) -> ProductResult:
    """Sum the decoded passes of all tiles of one group."""
    n, m = group.outputs.shape
    measured, realised, variance, common = (np.zeros((n, m)) for _ in range(4))
    code = machine.encoding
    weight = np.clip(group.weight.astype(np.float64) / group.weight_scale, -1, 1)
    vectors = group.inputs.astype(np.float64) / group.input_scales[:, None]
    gain_error2 = machine.channel.relative_variance
    for tile_scan, readings in parts:
        tile, scan = tile_scan.tile, readings.scan
        rows, k = tile.shape
        mean, _ = predicted(machine, scan)
        shown_by = np.zeros((n, len(code.weight_factors)))
        for p, a in enumerate(code.weight_factors):
            drift = _Drift(machine, readings, n, rows)
            for q, c in enumerate(code.input_factors):
                frames = np.nonzero((tile_scan.weight_pass == p) & (tile_scan.input_pass == q))[0]
                if not len(frames):
                    continue
                to = np.ix_(tile_scan.product[frames], np.arange(tile.row0, tile.row1))
                shown = scan.slm[scan.slm_index[frames[0]]], scan.display[frames]
                measured[to] += a * c * machine.decode(readings.dn[frames], *shown)
                realised[to] += a * c * machine.decode(mean[frames], *shown)
                power = 1.0 if readings.power is None else readings.power[frames]
                noise = machine.decode_variance(mean[frames], rows, power)
                variance[to] += (a * c) ** 2 * (noise + machine.lut_variance(*shown))
                common[to] += (a * c) ** 2 * machine.decode_flicker_variance(mean[frames], rows)
                drift.add(tile_scan.product[frames], frames, a * c, mean[frames])
                shown_by[tile_scan.product[frames], p] += a * c
            variance[:, tile.rows] += drift.variance
            common[:, tile.rows] += drift.variance
        variance[:, tile.rows] += machine.still_variance(scan.slm, shown_by)
        w, x = weight[tile.rows, tile.columns], vectors[:, tile.columns]
        variance[:, tile.rows] += x**2 @ (w**2 * gain_error2[:rows, :k]).T
        a0, c0 = code.weight_constant, code.input_constant
        constant = machine.channel.seen(np.ones((rows, k)))  # the weights undo the bleed, their constant does not
        digital = a0 * (x - c0) @ constant.T + c0 * w.sum(1)
        measured[:, tile.rows] += digital
        realised[:, tile.rows] += digital
    exact = group.outputs / (group.weight_scale * group.input_scales[:, None])
    return ProductResult(index, measured, realised, exact, variance, common)

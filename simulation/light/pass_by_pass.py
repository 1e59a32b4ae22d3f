"""Products in light as the bench makes them: pass by pass, tile by tile, count by count. Slow, and obviously right.

Nothing folds here. It is what `simulation.light.product` is compared with, in tests and benchmarks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.machine.channel import Channel, undo_bleed
from calibration.machine.layout import Tile
from calibration.machine.noise import Noise
from simulation.light.optics import Optics

Float = NDArray[np.float64]


def pass_by_pass(
    optics: Optics,
    weight: Float,
    vectors: Float,
    rng: np.random.Generator | None,
    *,
    photons_per_mac: float | None = None,
    attention: bool = False,
) -> Float:
    """One draw of ``vectors @ weight.T``.

    Parameters
    ----------
    optics
        Any; its ``drift`` is left out.
    weight
        (M, K), scaled to −1 … 1 and clipped there.
    vectors
        (n, K)
    rng
        None for the expectation.
    photons_per_mac
        At the weight plane per pass; the bench's own light if None.
    attention
        Which of the preset's reading errors applies.

    Returns
    -------
    (n, M), in units of ``weight`` times ``vectors``.
    """
    channel, actual = (_whole(weight.shape) if c is None else c for c in (optics.channel, optics.actual))
    whole = Tile(0, weight.shape[0], 0, weight.shape[1])
    tiles = [whole] if optics.layout is None else list(optics.layout.tiles((weight.shape[0], weight.shape[1])))
    code, full = optics.encoding, channel.gain_dn.min()
    w = np.clip(weight, -1, 1)
    scales, inputs, lit = _input_passes(optics, vectors)
    electrons = _electrons(optics, inputs, lit, photons_per_mac, tiles)
    out = np.zeros((len(vectors), len(weight)))
    unit = full * (1 - optics.slm.floor) * (1 - optics.display.floor)
    for tile in tiles:
        m, k = tile.shape
        flat = full / channel.gain_dn[:m, :k]
        parts = code.split_weight(np.clip(undo_bleed(channel.bleed, w[tile.rows, tile.columns]), -1, 1))
        for p, a in enumerate(code.weight_factors):
            slm = np.full(channel.shape, optics.slm.floor)
            known, floor = slm.copy(), slm.copy()
            slm[:m, :k] = known[:m, :k] = optics.slm.show((parts[p] * flat).astype(np.float32))
            for q, c in enumerate(code.input_factors):
                on = np.asarray(inputs[q][:, tile.columns].any(axis=1)) if len(code.input_factors) > 1 else lit[q]
                if not on.any():
                    continue
                display = np.full((len(vectors), channel.shape[1]), optics.display.floor if optics.channel else 0.0)
                display[:, :k] = optics.display.show(inputs[q][:, tile.columns].astype(np.float32))
                dark = np.full_like(display, optics.display.floor)
                mean = actual.mean(actual.light(slm, display))
                reading = _read(optics, mean, actual.offset_dn, electrons[q], full, on, attention, rng)
                pedestal = channel.light(floor, display) + channel.light(known, dark) - channel.light(floor, dark)
                decoded = (channel.unmix(reading) - pedestal)[:, :m] / unit
                out[:, tile.rows] += np.where(on[:, None], a * c * decoded * scales[q][:, None], 0.0)
        lone = code.weight_constant * (
            _bled(channel, vectors[:, tile.columns] / scales[0][:, None] - code.input_constant)
        )
        digital = lone[:, None] + code.input_constant * w[tile.rows, tile.columns].sum(1)
        out[:, tile.rows] += digital * scales[0][:, None]
    return out


def _whole(shape: tuple[int, ...]) -> Channel:
    """A channel of that shape without faults."""
    m, k = shape
    zero = np.zeros
    return Channel(
        np.ones((m, k)), zero((m, k)), zero(m), zero(m), zero((m, 2)), zero((m, 2)), zero(2), zero(2),
        Noise(0.0, 1.0, 0.0, zero(3)),
    )  # fmt: skip


def _input_passes(optics: Optics, vectors: Float) -> tuple[list[Float], list[Float], list[NDArray[np.bool_]]]:
    """Scale, operand 0 … 1 and whether it is shown at all, of each input pass."""
    peak = np.abs(vectors).max(axis=1)
    signs = (np.maximum(vectors, 0), np.maximum(-vectors, 0)) if len(optics.encoding.input_factors) == 2 else (vectors,)
    scales, inputs, lit = [], [], []
    for part in signs:
        scale = part.max(axis=1) if optics.per_pass else peak
        scale = np.where(scale > 0, scale, 1.0)
        scales.append(scale)
        inputs.append(
            part / scale[:, None] if len(signs) == 2 else optics.encoding.split_input(part / scale[:, None])[0]
        )
        lit.append(np.abs(part).max(axis=1) > 0)
    return scales, inputs, lit


def _electrons(
    optics: Optics, inputs: list[Float], lit: list[NDArray[np.bool_]], photons_per_mac: float | None, tiles: list[Tile]
) -> list[Float]:
    """(n,) electrons per unit of light of each input pass."""
    n = len(inputs[0])
    if photons_per_mac is None:
        return [np.full(n, optics.electrons) for _ in inputs]
    efficiency = optics.electrons / optics.photons if optics.photons else optics.quantum_efficiency
    columns = sorted({(t.col0, t.col1) for t in tiles})
    light, shown = np.zeros((len(inputs), n)), np.zeros((len(inputs), n))
    for q, part in enumerate(inputs):
        transmission = optics.display.show(part.astype(np.float32))
        for a, b in columns:
            on = part[:, a:b].any(axis=1) if len(inputs) > 1 else lit[q]
            light[q] += np.where(on, transmission[:, a:b].sum(axis=1, dtype=float), 0.0)
            shown[q] += (b - a) * on
    if not optics.per_pass:
        light[:], shown[:] = light.sum(0), shown.sum(0)
    return list(efficiency * photons_per_mac * shown / np.where(light > 0, light, 1.0))


def _read(
    optics: Optics,
    mean_dn: Float,
    offset_dn: Float,
    electrons: Float,
    full: float,
    on: NDArray[np.bool_],
    attention: bool,
    rng: np.random.Generator | None,
) -> Float:
    """Readings (n, M) of one pass, from what is expected: counts, read noise, the preset's error.

    The offset is light past the modulators. It flickers with the rest; its counts are part of the read noise.
    """
    if rng is None:
        return mean_dn
    light = (mean_dn - offset_dn) / full
    flicker = 1 + optics.flicker * rng.standard_normal((len(light), 1))
    e = electrons[:, None]
    seen = light * flicker
    if e.any():
        counts = rng.poisson(np.maximum(e * light * flicker, 0)) + optics.read_e * rng.standard_normal(light.shape)
        seen = counts / np.where(e > 0, e, 1.0)
    spread = optics.spread[attention] * light[on].sum() / light.size
    return np.asarray((seen + spread * rng.standard_normal(light.shape)) * full + offset_dn * flicker)


def _bled(channel: Channel, inputs: Float) -> Float:
    """(n,) sums of inputs after the bleed that the calibration knows."""
    padded = np.pad(inputs, ((0, 0), (1, 1)))
    before, after = channel.bleed
    spread = inputs * (1 - before - after) + before * padded[:, :-2] + after * padded[:, 2:]
    return np.asarray(spread.sum(axis=1))

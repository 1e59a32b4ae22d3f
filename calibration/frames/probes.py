"""Designed patterns: what to show so that each parameter of the channel stands alone.

Every function returns a `Scan` in weight-stationary order. Frames are counted here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import hadamard

from calibration.frames.scan import Levels, Scan

BRIGHT = 255
PHASES = 3
COUPLING_BLOCK = 4


@dataclass(frozen=True)
class ProbePlan:
    """How often each pattern is repeated."""

    lut_corner_repeats: int = 8
    lut_repeats: int = 1
    gain_repeats: int = 1
    offset_repeats: int = 16
    crosstalk_repeats: int = 6
    coupling_repeats: int = 1
    noise_repeats: int = 16
    holdout_frames: int = 64


def slm_ramp(shape: tuple[int, int], corner_repeats: int, repeats: int = 1) -> Scan:
    """Every SLM gray level on all macropixels, display bright; then the darkest and brightest again."""
    levels = np.repeat(np.concatenate([np.arange(256), np.repeat([0, 255], corner_repeats)]), repeats)
    display = np.full((len(levels), shape[1]), BRIGHT, np.uint8)
    return Scan(_uniform(shape, np.arange(256)), levels.astype(np.int64), display)


def display_ramp(shape: tuple[int, int], corner_repeats: int, repeats: int = 1) -> Scan:
    """Every display gray level on all columns, SLM bright; then darkest and brightest display on both SLM ends."""
    bright = np.repeat(np.concatenate([np.arange(256), np.repeat([0, 255], corner_repeats)]), repeats)
    dark = np.repeat([0, 255], corner_repeats)
    level = np.concatenate([bright, dark]).astype(np.uint8)
    index = np.concatenate([np.ones(len(bright), np.int64), np.zeros(len(dark), np.int64)])
    return Scan(_uniform(shape, np.array([0, BRIGHT])), index, np.repeat(level[:, None], shape[1], axis=1))


def gain_scan(shape: tuple[int, int], plan: ProbePlan) -> Scan:
    """Hadamard patterns on the display over a bright SLM, each with its complement; then all dark.

    Half the columns are lit in each frame, so a column's gain is known from all frames and not from one: the
    multiplex advantage (Hadamard-transform optics, Harwit & Sloane 1979).
    """
    k = shape[1]
    order = 1 << (k - 1).bit_length()
    pattern = hadamard(order)[:, :k] > 0
    lit = np.concatenate([np.tile(np.concatenate([pattern, ~pattern]), (plan.gain_repeats, 1))])
    off = np.zeros((plan.offset_repeats, k), bool)
    display = np.where(np.concatenate([lit, off]), BRIGHT, 0).astype(np.uint8)
    return Scan(_uniform(shape, np.array([BRIGHT])), np.zeros(len(display), np.int64), display)


def crosstalk_scan(shape: tuple[int, int], plan: ProbePlan) -> Scan:
    """Every third row and column of the SLM, every third column of the display, in all 27 combinations."""
    row, column = np.arange(shape[0])[:, None], np.arange(shape[1])
    slm = np.stack(
        [
            np.where((row % PHASES == a) & (column % PHASES == b), BRIGHT, 0).astype(np.uint8)
            for a in range(PHASES)
            for b in range(PHASES)
        ]
    )
    lines = np.stack([np.where(column % PHASES == c, BRIGHT, 0).astype(np.uint8) for c in range(PHASES)])
    lines = np.repeat(lines, plan.crosstalk_repeats, axis=0)
    return Scan(slm, np.repeat(np.arange(len(slm)), len(lines)), np.tile(lines, (len(slm), 1)))


def coupling_scan(shape: tuple[int, int], plan: ProbePlan) -> Scan:
    """Display columns through a dark SLM, through every third column of macropixels, through every third row of them.

    Through a dark SLM and through columns of macropixels, display columns are multiplexed in blocks of
    `COUPLING_BLOCK`, patterns and complements in one block at a time: wider blocks average more of the read noise away
    and add more of the source's flicker. For the rows all columns are multiplexed: their shares are quotients within a
    frame, and flicker cancels.
    """
    k = shape[1]
    row, column = np.arange(shape[0])[:, None], np.arange(k)
    by_column, by_row = ([line % PHASES == phase for phase in range(PHASES)] for line in (column, row))
    slm = np.stack([np.where(np.broadcast_to(lit, shape), BRIGHT, 0) for lit in (False, *by_column, *by_row)])
    pattern = hadamard(COUPLING_BLOCK) > 0
    blocks = np.kron(np.eye(-(-k // COUPLING_BLOCK), dtype=bool), np.concatenate([pattern, ~pattern]))[:, :k]
    wide = np.concatenate([_simplex(k), np.zeros((plan.offset_repeats, k), bool)])
    lit = [np.tile(blocks, (plan.coupling_repeats, 1))] * (1 + PHASES) + [wide] * PHASES
    index = np.repeat(np.arange(len(slm)), [len(frames) for frames in lit])
    return Scan(slm.astype(np.uint8), index, np.where(np.concatenate(lit), BRIGHT, 0).astype(np.uint8))


def noise_scan(shape: tuple[int, int], plan: ProbePlan) -> Scan:
    """Uniform light from dark to full, each level many times: a photon transfer curve for every region."""
    level = np.array([0, 32, 64, 96, 128, 160, 200, 255], np.uint8)
    display = np.repeat(np.repeat(level, plan.noise_repeats)[:, None], shape[1], axis=1)
    return Scan(_uniform(shape, np.array([BRIGHT])), np.zeros(len(display), np.int64), display)


def holdout_scan(shape: tuple[int, int], plan: ProbePlan, rng: np.random.Generator) -> Scan:
    """Random matrices and sparse random vectors, of a kind no fit has seen: they choose the structure."""
    matrices = 4
    slm = rng.integers(0, 256, (matrices, *shape)).astype(np.uint8)
    value = rng.integers(0, 256, (plan.holdout_frames, shape[1]))
    share = np.linspace(0.05, 1.0, plan.holdout_frames)[:, None]
    display = np.where(rng.random(value.shape) < share, value, 0).astype(np.uint8)
    index = np.sort(np.arange(plan.holdout_frames) % matrices)
    return Scan(slm, index, display[rng.permutation(len(display))])


def _simplex(columns: int) -> NDArray[np.bool_]:
    """(p, columns) of an S-matrix (Harwit & Sloane 1979): shifts of the quadratic residues of a prime 4 n + 3."""
    p = next(n for n in range(max(columns, 3), 4 * columns + 8) if n % 4 == 3 and all(n % d for d in range(2, n)))
    residues = {i * i % p for i in range(p)}
    lit = np.array([i in residues for i in range(p)])
    shift = (np.arange(columns) - np.arange(p)[:, None]) % p
    return np.asarray(lit[shift])


def _uniform(shape: tuple[int, int], levels: NDArray[np.int64]) -> Levels:
    return np.broadcast_to(levels.astype(np.uint8)[:, None, None], (len(levels), *shape)).copy()

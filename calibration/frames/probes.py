"""Designed scans: what to show so that each parameter of the channel can be told apart from the others.

Every function returns a `Scan` whose frames are ordered so that the SLM changes as seldom as possible. The scans are
designed for the gray levels that the panels have (`PanelLevels`); where a panel is only switched between dark and
bright, two levels are enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import hadamard

from calibration.frames.scan import EIGHT_BIT, PanelLevels, Scan
from calibration.machine.lut import Levels

PHASES = 3
COUPLING_BLOCK = 4
GAIN_PATTERNS_MIN = 8
"""Patterns of the gain scan, their complements not counted."""
RAMP_LEVELS_MAX = 256
"""A ramp shows all gray levels of a panel that has no more than these, and about so many of one that has."""
NOISE_SHARES = np.array([0, 32, 64, 96, 128, 160, 200, 255]) / 255
"""Steps of light of the noise scan, as shares of the display's range of gray levels, or of its columns."""


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


def ramp_levels(levels: int) -> NDArray[np.int64]:
    """The gray levels that a ramp shows of a panel that has ``levels``, rising, darkest and brightest among them.

    All of them for a panel of up to `RAMP_LEVELS_MAX` levels. Of one that has more, as many spread over its range,
    each moved by up to half of their spacing, so that two neighbours are 0.6 or 1.6 spacings apart: a panel with a
    hidden coarser step (a 10-bit interface to 8-bit electronics) then shows that step as scatter about a smooth
    curve, and not as a smooth curve that is wrong between the levels shown.
    """
    if levels <= RAMP_LEVELS_MAX:
        return np.arange(levels)
    even = np.linspace(0, levels - 1, RAMP_LEVELS_MAX)
    golden = (np.sqrt(5) - 1) / 2  # its multiples fill 0 … 1 evenly
    moved = even[1] * (np.arange(1, RAMP_LEVELS_MAX - 1) * golden % 1.0 - 0.5)
    even[1:-1] += moved
    return np.unique(np.rint(even).astype(np.int64))


def slm_ramp(shape: tuple[int, int], corner_repeats: int, repeats: int = 1, *, levels: PanelLevels = EIGHT_BIT) -> Scan:
    """Each of the SLM's `ramp_levels` on all macropixels, display bright; then the darkest and brightest again.

    Parameters
    ----------
    shape
        Macropixels (m, k).
    corner_repeats
        How often the darkest and the brightest level are shown again; the scatter of these frames is the noise.
    repeats
        How often every frame is shown.
    """
    shown = ramp_levels(levels.slm)
    order = np.concatenate([np.arange(len(shown)), np.repeat([0, len(shown) - 1], corner_repeats)])
    index = np.repeat(order, repeats).astype(np.int64)
    display = np.full((len(index), shape[1]), levels.display_bright, levels.display_dtype)
    return Scan(_uniform(shape, shown, levels), index, display)


def display_ramp(
    shape: tuple[int, int], corner_repeats: int, repeats: int = 1, *, levels: PanelLevels = EIGHT_BIT
) -> Scan:
    """Each of the display's `ramp_levels` on all columns, SLM bright; then its ends over a bright and a dark SLM.

    Parameters
    ----------
    shape
        Macropixels (m, k).
    corner_repeats
        How often each combination of darkest and brightest display and SLM is shown at the end.
    repeats
        How often every frame over the bright SLM is shown.
    """
    ends = np.repeat([0, levels.display_bright], corner_repeats)
    bright = np.repeat(np.concatenate([ramp_levels(levels.display), ends]), repeats)
    level = np.concatenate([bright, ends]).astype(levels.display_dtype)
    index = np.concatenate([np.ones(len(bright), np.int64), np.zeros(len(ends), np.int64)])
    slm = _uniform(shape, np.array([0, levels.slm_bright]), levels)
    return Scan(slm, index, np.repeat(level[:, None], shape[1], axis=1))


def gain_scan(shape: tuple[int, int], plan: ProbePlan, *, levels: PanelLevels = EIGHT_BIT) -> Scan:
    """Hadamard patterns on the display over a bright SLM, each with its complement; then all dark.

    Half the columns are lit in each frame, so a column's gain is known from all frames and not from one: the
    multiplex advantage (Hadamard-transform optics, Harwit & Sloane 1979). Few columns have few patterns, which are
    shown again, so that one bad frame is told from the others.
    """
    k = shape[1]
    order = 1 << (k - 1).bit_length()
    pattern = hadamard(order)[:, :k] > 0
    shown = max(plan.gain_repeats, GAIN_PATTERNS_MIN // order)
    lit = np.tile(np.concatenate([pattern, ~pattern]), (shown, 1))
    off = np.zeros((plan.offset_repeats, k), bool)
    return _over_bright_slm(shape, _lit(np.concatenate([lit, off]), levels), levels)


def crosstalk_scan(shape: tuple[int, int], plan: ProbePlan, *, levels: PanelLevels = EIGHT_BIT) -> Scan:
    """Every third row and column of the SLM, every third column of the display, in all 27 combinations."""
    row, column = np.arange(shape[0])[:, None], np.arange(shape[1])
    slm = [(row % PHASES == a) & (column % PHASES == b) for a in range(PHASES) for b in range(PHASES)]
    lines = _lit(np.stack([column % PHASES == c for c in range(PHASES)]), levels)
    lines = np.repeat(lines, plan.crosstalk_repeats, axis=0)
    return Scan(_open(slm, levels), np.repeat(np.arange(len(slm)), len(lines)), np.tile(lines, (len(slm), 1)))


def coupling_scan(shape: tuple[int, int], plan: ProbePlan, *, levels: PanelLevels = EIGHT_BIT) -> Scan:
    """Display columns through a dark SLM, through every third column of macropixels, through every third row of them.

    Through a dark SLM and through columns of macropixels, display columns are multiplexed in blocks of
    `COUPLING_BLOCK`: Hadamard patterns and their complements, in one block at a time. Wider blocks would average more
    of the read noise away and add more of the source's flicker. For the rows all columns are multiplexed at once:
    what is wanted of them are quotients of readings of the same frame, in which the flicker cancels.
    """
    k = shape[1]
    row, column = np.arange(shape[0])[:, None], np.arange(k)
    by_column, by_row = ([line % PHASES == phase for phase in range(PHASES)] for line in (column, row))
    slm = [np.broadcast_to(lit, shape) for lit in (np.array(False), *by_column, *by_row)]
    pattern = hadamard(COUPLING_BLOCK) > 0
    blocks = np.kron(np.eye(-(-k // COUPLING_BLOCK), dtype=bool), np.concatenate([pattern, ~pattern]))[:, :k]
    wide = np.concatenate([_simplex(k), np.zeros((plan.offset_repeats, k), bool)])
    lit = [np.tile(blocks, (plan.coupling_repeats, 1))] * (1 + PHASES) + [wide] * PHASES
    index = np.repeat(np.arange(len(slm)), [len(frames) for frames in lit])
    return Scan(_open(slm, levels), index, _lit(np.concatenate(lit), levels))


def noise_scan(shape: tuple[int, int], plan: ProbePlan, *, levels: PanelLevels = EIGHT_BIT) -> Scan:
    """Light from dark to full in `NOISE_SHARES`, each step many times: a photon transfer curve for every region.

    All columns of the display show the level that is nearest to the step. A display with fewer levels than there are
    steps lights the step's share of its columns instead, spread evenly over all of them, at its brightest level.
    """
    if levels.display < len(NOISE_SHARES):
        column = np.arange(shape[1])[None]
        share = NOISE_SHARES[:, None]
        steps = _lit(np.floor((column + 1) * share) > np.floor(column * share), levels)
    else:
        level = np.rint(NOISE_SHARES * levels.display_bright).astype(levels.display_dtype)
        steps = np.repeat(level[:, None], shape[1], axis=1)
    return _over_bright_slm(shape, np.repeat(steps, plan.noise_repeats, axis=0), levels)


def holdout_scan(
    shape: tuple[int, int], plan: ProbePlan, rng: np.random.Generator, *, levels: PanelLevels = EIGHT_BIT
) -> Scan:
    """Random matrices and sparse random vectors, of a kind no fit has seen: they choose the structure."""
    matrices = 4
    slm = rng.integers(0, levels.slm, (matrices, *shape)).astype(levels.slm_dtype)
    value = rng.integers(0, levels.display, (plan.holdout_frames, shape[1]))
    share = np.linspace(0.05, 1.0, plan.holdout_frames)[:, None]
    display = np.where(rng.random(value.shape) < share, value, 0).astype(levels.display_dtype)
    index = np.sort(np.arange(plan.holdout_frames) % matrices)
    return Scan(slm, index, display[rng.permutation(len(display))])


def levels_of_ramps(display_ramp: Scan, slm_ramp: Scan) -> PanelLevels:
    """How many gray levels the panels have on which these two ramps were shown: ramps show the brightest level."""
    display = max(int(scan.display.max()) for scan in (display_ramp, slm_ramp))
    slm = max(int(scan.slm.max()) for scan in (display_ramp, slm_ramp))
    return PanelLevels(display + 1, slm + 1)


def _simplex(columns: int) -> NDArray[np.bool_]:
    """(p, columns) of an S-matrix (Harwit & Sloane 1979): shifts of the quadratic residues of a prime 4 n + 3."""
    p = next(n for n in range(max(columns, 3), 4 * columns + 8) if n % 4 == 3 and all(n % d for d in range(2, n)))
    residues = {i * i % p for i in range(p)}
    lit = np.array([i in residues for i in range(p)])
    shift = (np.arange(columns) - np.arange(p)[:, None]) % p
    return np.asarray(lit[shift])


def _uniform(shape: tuple[int, int], shown: NDArray[np.int64], levels: PanelLevels) -> Levels:
    """(s, m, k): one SLM pattern for each of the gray levels ``shown`` (s,), the same on all macropixels."""
    return np.broadcast_to(shown.astype(levels.slm_dtype)[:, None, None], (len(shown), *shape)).copy()


def _over_bright_slm(shape: tuple[int, int], display: Levels, levels: PanelLevels) -> Scan:
    """Display frames (n, k), all over an SLM at its brightest level."""
    return Scan(_uniform(shape, np.array([levels.slm_bright]), levels), np.zeros(len(display), np.int64), display)


def _lit(columns: NDArray[np.bool_], levels: PanelLevels) -> Levels:
    """Display frames (n, k) at the brightest level where ``columns`` (n, k) are true, and dark elsewhere."""
    return np.where(columns, levels.display_bright, 0).astype(levels.display_dtype)


def _open(patterns: list[NDArray[np.bool_]], levels: PanelLevels) -> Levels:
    """SLM patterns (s, m, k) at the brightest level where the patterns (m, k) are true, and dark elsewhere."""
    return np.where(np.stack(patterns), levels.slm_bright, 0).astype(levels.slm_dtype)

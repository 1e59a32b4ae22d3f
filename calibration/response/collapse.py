"""Rows that are no measurement, told by their readings before any fit: a camera that stopped, a lamp that went out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.response.preview import Preview
from calibration.statistics.bad_frame import BadFrame, normal_score

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]

BY_CHANCE = 0.01  # rows that may show a pattern by chance for it to prove something by itself
CONTRADICTED = 5.0  # standard deviations from what the line expects
USUAL = 8.0  # the same for a pattern that rows of the file show by chance, too
DIFFERENT = 3.0  # standard deviations by which two rows must be expected to differ for equal readings to be odd
RUN = 3  # rows in sequence: fewer are found one by one
DARK = 0.2  # of what the inputs would do to the readings: less is no light
WRONG = 4.0  # standard deviations (root mean square of a row) that make a row part of such a run


@dataclass(frozen=True)
class Patterns:
    """Rows whose readings look like no measurement.

    Attributes
    ----------
    alike
        (n,) rows in which every output reads the same.
    repeated
        (n,) rows with the readings of the row before.
    at_end
        (n,) rows in which every output stands at its smallest, or every one at its largest reading.
    alike_proves, repeated_proves
        Whether readings of this file never do so by chance.
    repeated_share
        Chance of one row to have the readings of the row before.
    """

    alike: Mask
    repeated: Mask
    at_end: Mask
    alike_proves: bool
    repeated_proves: bool
    repeated_share: float

    @property
    def any(self) -> Mask:
        """(n,) rows with any of them."""
        return self.alike | self.repeated | self.at_end

    @classmethod
    def of(cls, readings: Float, read: Mask) -> Patterns:
        """Of ``readings`` (n, M), of which some may not have been ``read`` (n, M); most of a row must have been."""
        n, m = readings.shape
        same, two = (readings == cls.first(readings)) & read, read.copy()
        two[1:] &= read[:-1]
        alike = _all(same, read) if m > 1 else np.zeros(n, bool)
        equal = np.zeros((n, m), bool)
        equal[1:] = readings[1:] == readings[:-1]
        repeated = _all(equal, two)
        low, high = (np.where(read, readings, -s * np.inf) for s in (-1, 1))
        at_end = np.zeros(n, bool)
        for rail in (low.min(axis=0), high.max(axis=0)):
            there = _all(readings == rail, read)
            if there.sum() >= RUN:
                at_end |= there
        share = _by_chance(equal, repeated, two)
        alike_proves = m > 1 and n * _by_chance(same[:, 1:], alike, read[:, 1:]) < BY_CHANCE
        return cls(alike, repeated, at_end, alike_proves, n * share < BY_CHANCE, share)

    @staticmethod
    def first(readings: Float) -> Float:
        """(n, 1) the first reading of each row that is not missing."""
        at = np.argmax(~np.isnan(readings), axis=1)
        return np.asarray(readings[np.arange(len(readings)), at][:, None])


def _all(holds: Mask, read: Mask) -> Mask:
    """(n,) rows in which something holds of all readings that there are, and there are more than half."""
    return np.asarray((holds | ~read).all(axis=1) & (2 * read.sum(axis=1) > read.shape[1]))


def _by_chance(equal: Mask, whole: Mask, read: Mask) -> float:
    """Chance that all columns of ``equal`` hold in a row, were they independent; from the rows not in ``whole``."""
    others, there = (equal & read)[~whole], read[~whole]
    if not len(others):
        return 1.0
    return float(np.prod((others.sum(axis=0) + 1.0) / (there.sum(axis=0) + 1.0)))


def collapsed(readings: Float, patterns: Patterns, line: Preview, unit: str) -> list[BadFrame]:
    """The rows of some patterns that contradict the line drawn through the other rows, with reasons.

    Parameters
    ----------
    readings
        (n, M)
    line
        What the inputs that each row belongs to should give.
    """
    low, high = readings.min(axis=0), readings.max(axis=0)
    beyond = ((readings == low) & (line.mean < low)) | ((readings == high) & (line.mean > high))
    off = np.where(beyond, 0.0, np.abs(readings - line.mean) / line.sd)  # cut off at a rail, as it should be
    z = np.nan_to_num(off.max(axis=1), nan=np.inf)
    moved = np.zeros(len(readings))
    moved[1:] = np.nan_to_num((np.abs(np.diff(line.mean, axis=0)) / line.sd[1:]).max(axis=1), nan=np.inf)
    contradicted = z > CONTRADICTED
    alike = patterns.alike & ((patterns.alike_proves & (z > 1)) | (z > USUAL))
    at_end = patterns.at_end & contradicted & ~alike
    odd = (patterns.repeated_proves & (contradicted | (moved > DIFFERENT))) | (z > USUAL)
    again = patterns.repeated & odd & ~alike
    if readings.shape[1] == 1:  # one reading may well be that of the row before
        again = _in_runs(again & ~at_end, RUN)
    else:
        at_end &= ~again
    for start, stop in _runs(patterns.repeated & ~alike & ~at_end):
        if len(readings) * patterns.repeated_share ** (stop - start) < BY_CHANCE and contradicted[start:stop].any():
            again[start:stop] = True
    first = np.zeros(len(readings), bool)
    for start, stop in _runs(again):  # the frame that is repeated may be wrong itself
        first[start - 1] = stop - start >= RUN and z[start - 1] > USUAL
    found = []
    for i in np.nonzero(alike | again | at_end | first)[0]:
        value = f"{readings[i, 0]:g}"
        if alike[i] or (at_end[i] and readings.shape[1] == 1):
            lowest = readings[i].max() <= min(0.0, float(np.median(readings)))
            reason, evidence = ("dropped", f"all readings are {value}") if lowest else (
                "stopped", f"every output reads {value} {unit}")  # fmt: skip
        elif first[i]:
            reason, evidence = "stopped", "the readings of the rows that follow"
        elif again[i]:
            reason, evidence = "duplicated", f"the readings of row {i - 1} once more"
        else:
            reason, evidence = "stopped", "every output stands at an end of its range"
        found.append(_frame(int(i), reason, evidence, readings, line))
    return found


def dark(readings: Float, usable: Mask, line: Preview) -> list[BadFrame]:
    """Runs of rows that are far from the line and in which readings hardly move though the inputs do: no light."""
    score = line.score(readings)
    middle = float(np.nanmedian(score[usable])) if usable.any() else 1.0
    far = np.nan_to_num(score, nan=np.inf) > WRONG**2 * max(middle, 1.0)
    found = []
    for start, stop in _runs(far & usable):
        if stop - start < RUN:
            continue
        run = slice(start, stop)
        y, p = readings[run], line.mean[run]
        p_spread = float(((p - p.mean(axis=0)) ** 2).sum())
        y_spread = float(((y - y.mean(axis=0)) ** 2).sum())
        noise = float((line.sd[run] ** 2).sum())
        if p_spread > 4 * noise and y_spread < DARK**2 * p_spread:
            words = f"rows {start}–{stop - 1} do not follow their inputs: no light"
            found += [_frame(i, "dark", words, readings, line) for i in range(start, stop)]
    return found


def _runs(mask: Mask) -> list[tuple[int, int]]:
    edges = np.nonzero(np.diff(np.concatenate([[False], mask, [False]])))[0]
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _in_runs(mask: Mask, shortest: int) -> Mask:
    kept = np.zeros_like(mask)
    for start, stop in _runs(mask):
        kept[start:stop] = stop - start >= shortest
    return kept


def _frame(i: int, reason: str, evidence: str, readings: Float, line: Preview) -> BadFrame:
    m = readings.shape[1]
    chi2 = float(np.nansum(((readings[i] - line.mean[i]) / line.sd[i]) ** 2))
    z = float(normal_score(np.array([chi2]), m)[0])
    return BadFrame(i, reason, chi2 / m, evidence, round(z, 1))

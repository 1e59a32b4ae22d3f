"""Single outputs whose black level, gain, scatter or row is another in a part of a recording: each output by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.response.following import FAR
from calibration.response.leftover import Leftover, least_squares
from calibration.response.survey import QUIETEST
from calibration.statistics.tails import chi2_sf
from groundwork.listing import listed

Float = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]

CELLS = 160  # of a recording, between which a stretch may begin and end
SHORTEST = 8  # rows of a stretch: fewer are found one by one, as bad rows
CHANCE = 1e-6  # that any stretch of a steady recording is said to be another
MOST_STEPS = 4  # of one recording
SLOPE = 3.5  # standard errors, from which on it is a gain and no black level
SAME_LAW = 4.0  # ratio of the mean squares beside the two lines, up to which it is a step and not another scatter
MOST_NAMED = 3
BIASED = 0.35  # standard deviations of a reading at the end of the recording: then 95 % intervals hold 93 %
ADDED = 0.1  # to the mean square of an output
FEW = 1 / 3  # of the outputs: where more change, it is the bench that does
PARTS = 8
SCATTER, PROVEN = 4.0, 6.0  # ratio of mean squares of two parts, and standard errors
FEWEST = 24  # rows of a part
LATE = 0.5  # of the mean square of an output, that its inputs of the row before or after leave
OWN = 0.05  # the same in proportion to its readings: a little afterglow is no other row
INNER, OF_INNER = 0.8, 1.2816  # share of the residuals, and where that of a normal law ends
STRAY = 0.1  # of the mean square, that the inner residuals of an output with two laws of noise leave of it


@dataclass(frozen=True)
class Step:
    """One output that reads otherwise in some rows than in the others.

    Attributes
    ----------
    output
        Its column in what was looked at.
    first
        Row in the recording that it begins with.
    to_end
        Whether it lasts to the end of the recording.
    words
        In words.
    bias
        Of readings after the end of the recording, if the fit stands for all rows [standard deviations].
    added
        To the mean square of the output [1].
    is_step
        Whether the output scatters there as it does elsewhere: it is another fault where it does not.
    """

    output: int
    first: int
    to_end: bool
    words: str
    bias: float
    added: float
    is_step: bool

    @property
    def matters(self) -> bool:
        """Whether predictions would be wrong by more than their intervals allow for."""
        return self.is_step and (abs(self.bias) > BIASED or self.added > ADDED)


def find_steps(left: Leftover) -> tuple[Step, ...]:
    """Stretches of rows in which single outputs have a black level or a gain of their own, the strongest first.

    What all outputs have in common is drift, which the fit follows; it is taken off. Every stretch between two of 160
    edges is held against the rest of the recording, and the strongest one is taken out before the next is looked for.
    """
    found: list[Step] = []
    quiet = left.rms < QUIETEST * np.ptp(left.readings[left.good], axis=0)  # what rounding leaves has steps of its own
    if left.outputs < 2 or left.good.sum() < 2 * FEWEST or quiet.any():
        return ()
    at = np.nonzero(left.good)[0]
    z, y = _own(left, left.score)[at], _own(left, np.clip(left.error, -FAR, FAR))[at]
    s = left.signal[at]
    edges = np.unique(len(at) * np.arange(min(CELLS, len(at)) + 1) // min(CELLS, len(at)))
    tried = len(edges) ** 2 / 2 * z.shape[1]
    strongest = [_strongest(z[:, m], s[:, m], edges) for m in range(z.shape[1])]
    for _ in range(MOST_STEPS):
        m = int(np.argmax([one[0] for one in strongest]))
        chi2, start, stop = strongest[m]
        if float(chi2_sf(chi2, 2)) * tried > CHANCE:
            break
        start, stop = _refined(z[:, m], s[:, m], start, stop)
        inside = np.zeros(len(at), bool)
        inside[start:stop] = True
        found.append(_step(left, at, y[:, m], s[:, m], m, inside))
        for values in (z, y):
            values[:, m] -= (_beside(s[:, m], inside) @ _lines(values[:, m], s[:, m], inside))[:, 0] * inside
        strongest[m] = _strongest(z[:, m], s[:, m], edges)
    return tuple(found)


def _own(left: Leftover, values: Float) -> Float:
    """(n, M) residuals of each output beside what all have in common, over their rms."""
    z = values / np.maximum(np.sqrt((values[left.good] ** 2).mean(axis=0)), 1e-300)
    if left.outputs < 3:
        return np.asarray(z)
    return np.asarray(z - np.median(z, axis=1, keepdims=True))


def _strongest(z: Float, s: Float, edges: Indices) -> tuple[float, int, int]:
    """χ² of two degrees of freedom of the stretch that is least like the rest, and where it begins and ends."""
    z = z / max(float(z.std()), 1e-300)
    z = z - z.mean()
    sums = [np.append(0.0, np.cumsum(v))[edges] for v in (z, z * s)]
    rows = edges[None, :] - edges[:, None]
    share = rows / edges[-1]
    inside = (rows >= SHORTEST) & (rows <= edges[-1] - SHORTEST)
    weight = 1 / np.maximum(np.where(inside, rows * (1 - share), np.inf), 1e-300)
    gained = sum((u[None, :] - u[:, None] - share * u[-1]) ** 2 * weight for u in sums)
    i, j = np.unravel_index(int(np.argmax(np.where(inside, gained, 0.0))), rows.shape)
    return float(np.asarray(gained)[i, j]), int(edges[i]), int(edges[j])


def _refined(z: Float, s: Float, start: int, stop: int) -> tuple[int, int]:
    """The rows near both ends at which the readings change from one line to the other."""
    n, wide = len(z), max(len(z) // CELLS, 1) * 2
    inside = np.zeros(n, bool)
    inside[start:stop] = True
    better = _off(z, s, ~inside) ** 2 - _off(z, s, inside) ** 2  # above zero where a row is of the stretch
    low, high = max(start - wide, 0), min(stop + wide, n)
    if start > 0:
        gain = np.cumsum(better[low : start + wide][::-1])[::-1]
        start = min(low + int(np.argmax(gain)), max(stop - SHORTEST, 0))
    if stop < n:
        first = max(stop - wide, start + SHORTEST - 1)
        stop = first + 1 + int(np.argmax(np.cumsum(better[first:high])))
    return start, stop


def _off(z: Float, s: Float, own: Mask) -> Float:
    """(n,) how far all rows are off the line through some."""
    design = np.stack([np.ones_like(s), s], axis=1)
    return np.asarray(z - (design @ least_squares(design[own], z[own, None]))[:, 0])


def _beside(s: Float, inside: Mask) -> Float:
    """(n, 2) a level and a slope over the signal in a stretch, and nothing elsewhere."""
    return np.stack([inside.astype(np.float64), inside * s], axis=1)


def _lines(values: Float, s: Float, inside: Mask) -> Float:
    """(2, 1) by which level and slope a stretch differs from the rest."""
    design = np.concatenate([np.stack([np.ones_like(s), s], axis=1), _beside(s, inside)], axis=1)
    return least_squares(design, values[:, None])[2:]


def _step(left: Leftover, at: Indices, y: Float, s: Float, m: int, inside: Mask) -> Step:
    """What an output, with residuals ``y`` over their rms, does in a stretch of the rows ``at``."""
    if inside[0]:  # then it is the rest that comes later
        inside = ~inside
    other, slope = _lines(y, s, inside)[:, 0].tolist()
    rest = _off(y, s, inside)[inside], _off(y, s, ~inside)[~inside]
    share, middle = float(inside.mean()), float(s[inside].mean())
    level = other + slope * middle
    error = float(np.hypot(rest[0].std() / np.sqrt(len(rest[0])), rest[1].std() / np.sqrt(len(rest[1]))))
    slope_error = float(rest[0].std() / np.sqrt(max(float(((s[inside] - middle) ** 2).sum()), 1e-300)))
    rows, to_end = left.index[at[inside]], bool(inside[-1])
    when = f"from row {rows[0]} on" if to_end else f"in rows {rows[0]} to {rows[-1]}"
    has_slope = abs(slope) > SLOPE * slope_error
    spread, unit = level**2 + (slope**2 if has_slope else 0.0), float(left.rms[m])
    if has_slope:
        change = 100 * slope * unit / max(float(left.mean[left.good, m].std()), 1e-300)
        words = f"the gain of output {left.names[m]} is {change:+.2g} % off {when}"
    else:
        words = f"the black level of output {left.names[m]} is off by {level * unit:+.3g} ± {error * unit:.1g} {when}"
        words += f" ({abs(level):.2g} times its scatter)"
    bias = float(np.sqrt(spread)) * ((1 - share) if to_end else share)
    ratio = float(np.median(rest[0] ** 2) / max(float(np.median(rest[1] ** 2)), 1e-300))
    is_step = 1 / SAME_LAW < ratio < SAME_LAW
    return Step(m, int(rows[0]), to_end, words, bias, spread * share * (1 - share), is_step)


def steps_in_words(steps: tuple[Step, ...], outputs: int, *, alone: bool = True) -> str:
    """The steps that matter, with what to do; empty where there are none.

    Parameters
    ----------
    alone
        Whether only those of few outputs are meant: where more change, it is another fault.
    """
    mattering = [s for s in steps if s.matters]
    changed = {s.output for s in mattering}
    if not changed or (alone and len(changed) > max(1, int(FEW * outputs))):
        return ""
    last = max(mattering, key=lambda s: s.first)
    todo = f"fit the rows from {last.first} on alone" if last.to_end else "leave these readings out (empty cells)"
    more = " …" if len(mattering) > MOST_NAMED else ""
    what = "; ".join(s.words for s in mattering[:MOST_NAMED]) + more
    return f"{what}: no one fit stands for the recording; {todo}, then fit again"


def of_another_row(left: Leftover) -> str:
    """Outputs that read the row before or after, all inputs of it; empty where there are none."""
    n = len(left.index)
    late: dict[int, list[int]] = {1: [], -1: []}
    for lag in late:
        at = np.arange(max(lag, 0), n + min(lag, 0))
        at = at[(left.index[at] - left.index[at - lag] == lag) & left.good[at]]
        if not left.suffices(len(at), wide=True):
            return ""
        y = left.readings[at] - left.readings[at].mean(axis=0)
        whole = (y**2).sum(axis=0)
        own, other = (
            ((y - d @ least_squares(d, y)) ** 2).sum(axis=0) for d in (left.design[at], left.design[at - lag])
        )
        worse = other < np.minimum(LATE * own, OWN * whole)
        late[lag] = [int(left.names[m]) for m in np.nonzero(worse)[0]]
    for lag, outputs in late.items():
        if outputs:
            side = "before" if lag > 0 else "after"
            todo = "move these columns by one row, then fit again"
            return f"the readings of output {listed(outputs)} are those of the row {side}: {todo}"
    return ""


def scatter_of_outputs(left: Leftover) -> str:
    """Single outputs that scatter much more in some rows than in others; empty where there are none.

    Scatter is told from differences of neighbouring rows, which a step does not change, and against the other outputs.
    """
    at = np.nonzero(left.good)[0]
    if len(at) < PARTS * FEWEST:
        return ""
    square = np.diff(left.score[at], axis=0) ** 2 / 2
    of = np.arange(len(square)) * PARTS // len(square)
    count = np.bincount(of)[:, None]
    edges = np.searchsorted(of, np.arange(PARTS))
    mean = np.add.reduceat(square, edges) / count
    error = np.sqrt(np.maximum(np.add.reduceat(square**2, edges) / count - mean**2, 0) / count)
    usual = np.median(mean, axis=1, keepdims=True) if left.outputs > 2 else np.ones((PARTS, 1))
    mean, error = mean / np.maximum(usual, 1e-300), error / np.maximum(usual, 1e-300)
    for m in range(left.outputs):
        low, high = int(np.argmin(mean[:, m])), int(np.argmax(mean[:, m]))
        apart = (mean[high, m] - mean[low, m]) / max(float(np.hypot(error[high, m], error[low, m])), 1e-300)
        if mean[high, m] > SCATTER * mean[low, m] and apart > PROVEN:
            row = int(left.index[at[edges[high]]])
            factor = float(np.sqrt(mean[high, m] / max(float(mean[low, m]), 1e-300)))
            return (
                f"output {left.names[m]} scatters {factor:.2g} times as far in some rows as in others (most from row "
                f"{row} on): no one noise law holds; leave its readings out there (empty cells), then fit again"
            )
        stray = _stray(left, at, m)
        if stray:
            return stray
    return ""


def _stray(left: Leftover, at: Indices, m: int) -> str:
    """An output of which most readings lie close to the fit and some very far away; empty where it is not one."""
    off = np.abs(left.readings[at, m] - left.mean[at, m] - np.median(left.readings[at, m] - left.mean[at, m]))
    inner = float(np.quantile(off, INNER)) / OF_INNER
    if inner**2 >= STRAY * float((off**2).mean()):
        return ""
    far = off > 5 * inner
    return (
        f"{100 * far.mean():.2g} % of the readings of output {left.names[m]} lie far from the fit, by "
        f"{off[far].mean():.3g} on average, where the others scatter by {inner:.2g}: no one noise law holds; leave "
        "them out (empty cells), then fit again"
    )


def without_response(left: Leftover, follows: float = 0.5, silent: float = 0.02) -> tuple[int, ...]:
    """Outputs that do not follow their inputs where the others do.

    Parameters
    ----------
    follows, silent
        Shares of an output's variance that the fit explains: of the middle output at least, and of these at most.
    """
    explained = 1 - left.rms**2 / np.maximum(left.readings[left.good].var(axis=0), 1e-300)
    if left.outputs < 2 or np.median(explained) < follows:
        return ()
    return tuple(int(m) for m in left.names[explained < silent])

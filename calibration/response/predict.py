"""Readings that a fitted bench would give, with intervals; against the readings of a file, its drift and bad rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from calibration.errors import FitError
from calibration.response.cards import percent_of_range
from calibration.response.faults import explain
from calibration.response.following import Followed, follow
from calibration.response.model import Response
from calibration.response.observations import Observations
from calibration.response.outside import Looking, Outside
from calibration.response.residuals import columns, reduce_all
from calibration.response.screening import screen
from calibration.statistics.bad_frame import BadFrame
from calibration.statistics.drift import Jump
from groundwork.notebook import Card, Carded

Float = NDArray[np.float64]

FEWEST_ROWS = 8  # for a drift to be followed
NEAR = 0.02  # change of gain that curves and noise law may overlook
UNLIKE = 6.0  # times the noise of the fit that the usual reading may lie off its prediction
ANOTHER_SCALE = 0.5  # change of gain beyond which a file is in another unit rather than drifted
USUAL = 0.6745  # median of |z| of a normal distribution


@dataclass(frozen=True)
class DriftCourse:
    """Gain and offset of a file relative to the response.

    Attributes
    ----------
    at
        (k,) clock, seconds or rows.
    gain, gain_stderr, offset, offset_stderr
        (k,) relative deviation [1] and offset [unit].
    model
        ``"still"``, ``"walk"``, ``"still with jumps"`` or ``"walk with jumps"``.
    jumps
        Sudden changes of gain [1] and offset [unit]; ``index`` is the first row after each.
    in_words
        One line.
    """

    at: Float
    gain: Float
    gain_stderr: Float
    offset: Float
    offset_stderr: Float
    model: str
    jumps: tuple[Jump, ...]
    in_words: str


@dataclass(frozen=True, repr=False)
class Prediction(Carded):
    """What the response says about a file; arrays (rows, M), or (rows,) of a single detector [unit].

    Attributes
    ----------
    mean, sd, low95, high95
        Expected reading, standard deviation of a new reading, and its 95 % interval. Where the file has readings, the
        drift is followed through the other rows (of its block, in a large file); a row never predicts itself.
    rms_percent_of_range, rms_percent_of_range_frozen
        (M,) rms error of the good rows over the range of their readings [%]: with the drift followed, and with the
        response as it was fitted. None without readings; NaN of an output that was never read, or always the same.
    coverage95
        (M,) fraction of good readings within the interval.
    chi2_per_dof
        Mean squared error over variance.
    bad_rows, drift
        `BadFrame`, `DriftCourse`
    outside
        Rows beyond what the rows of the fit showed, where a prediction rests on more than them; None when the response
        does not hold what these were: it is of a file from before that was kept.
    outside_reason
        (rows,) int8, why each row is outside: a place in `calibration.response.outside.REASONS`, 0 inside.
    outside_groups
        The same by reason, with inputs and outputs and in words.
    notes
        What was left out or mended besides single rows, in words.
    """

    mean: Float
    sd: Float
    low95: Float
    high95: Float
    rms_percent_of_range: Float | None = None
    rms_percent_of_range_frozen: Float | None = None
    coverage95: Float | None = None
    chi2_per_dof: float | None = None
    bad_rows: tuple[BadFrame, ...] = ()
    drift: DriftCourse | None = None
    outside: int | None = None
    outside_reason: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))
    outside_groups: tuple[Outside, ...] = ()
    notes: tuple[str, ...] = ()

    def card(self) -> Card:
        """What a notebook shows of it."""
        met, within, chi2 = self.rms_percent_of_range, self.coverage95, self.chi2_per_dof
        return Card(
            "prediction",
            f"{len(self.mean)} rows" + (f", {self.outside} beyond what the fit has seen" if self.outside else ""),
            {
                "error": None if met is None else percent_of_range(met),
                "within the 95 % interval": None if within is None else f"{100 * np.nanmean(within):.3g} %",
                "χ²/dof": None if chi2 is None else f"{chi2:.3g}",
                "rows left out": len(self.bad_rows) or None,
            },
            "bad" if self.outside else "",
            self.notes,
        )


def predict(response: Response, observations: Observations) -> Prediction:
    """Expected readings with 95 % intervals.

    Raises
    ------
    OutOfDomain
        When the observations are of another bench (other weights, other read-out).
    """
    response.check(observations)
    every = np.arange(observations.count)
    live = observations.selected(every, every, response.live) if response.dead else observations
    read, screened = live, None
    followed: Followed | None = None
    bad: list[BadFrame] = []
    if observations.readings is not None and observations.count >= FEWEST_ROWS:
        screened = screen(observations, response)
        read = screened.whole.selected(screened.rows, screened.reading_of[screened.rows], response.live)
        if read.count >= FEWEST_ROWS:
            followed, found = examine(response, read)
            bad = [screened.in_recording(b) for b in found]
    kept = every if screened is None else screened.rows
    predicted = _Pass(response, live, *_levels_of_all(response, live, read, kept, followed))
    shape = (-1,) if (response.single and observations.readings is not None) or observations.single else (
        observations.count, observations.n_outputs)  # fmt: skip
    arrays = (predicted.mean, predicted.sd, predicted.low(), predicted.high())
    mean, sd, low, high = (response.with_dead(a, still=i == 1).reshape(shape) for i, a in enumerate(arrays))
    seen = predicted.looked
    result = Prediction(
        mean, sd, low, high, outside=seen.count, outside_reason=seen.reason, outside_groups=seen.groups()
    )
    if observations.readings is None:
        return result
    listed = {b.index for b in bad}
    good = np.array([i not in listed for i in kept.tolist()], bool)
    y = np.concatenate([columns(rows) for rows in read.chunks()])
    of = None if not response.single else np.asarray(_output(read))
    figures = Figures.of(
        y, predicted.mean[kept], predicted.frozen[kept], predicted.sd[kept], predicted.half[kept], good, of, response
    )
    bad += [] if screened is None else screened.bad
    return replace(
        result,
        rms_percent_of_range=_with_unread(response, figures.rms),
        rms_percent_of_range_frozen=_with_unread(response, figures.frozen),
        coverage95=_with_unread(response, figures.coverage),
        chi2_per_dof=figures.chi2,
        bad_rows=tuple(sorted(bad, key=lambda b: b.index)),
        drift=None if followed is None else course(followed, response.unit, kept),
        notes=(
            *(() if screened is None else screened.notes),
            *_unlike(y - predicted.mean[kept], predicted.noise[kept], good, followed),
        ),
    )


def _unlike(error: Float, noise: Float, good: NDArray[np.bool_], followed: Followed | None) -> list[str]:
    """What says that the readings of a file are not those of the bench that was fitted, in words.

    Drift that is followed through such readings makes every interval wide enough for them.

    Parameters
    ----------
    error, noise
        (n, M) readings less predictions, NaN where there is none, and the variance of the noise law.
    good
        (n,) rows that are not left out.
    """
    found = []
    gain = 0.0 if followed is None else float(np.median(followed.level[:, 0]))
    if abs(gain) > ANOTHER_SCALE:
        found.append(
            f"the gain is {100 * gain:+.3g} % off the calibration: inputs, weights or readings in another unit?"
        )
    z = np.abs(error[good]) / np.sqrt(np.maximum(noise[good], 1e-300))
    z = z[~np.isnan(z)]
    usual = float(np.median(z)) / USUAL if len(z) else 0.0
    if usual > UNLIKE:
        found.append(
            f"the readings lie {usual:.2g} times the noise of the calibration off what it predicts: another bench, or "
            "inputs, outputs or weights in another order?"
        )
    return found


def _levels_of_all(
    response: Response, live: Observations, read: Observations, kept: NDArray[np.intp], followed: Followed | None
) -> tuple[Float, Float]:
    """Gain and offset of every row; of one that is no measurement, those of the nearest before it that is."""
    if followed is None:
        return levels(response, live, None)
    level, covariance = levels(response, read, followed)
    near = np.clip(np.searchsorted(kept, np.arange(live.count), side="right") - 1, 0, len(kept) - 1)
    return level[near], covariance[near]


def _with_unread(response: Response, values: Float) -> Float:
    found = np.full(response.n_outputs + len(response.dead), np.nan)
    found[response.live] = values
    return found


def examine(response: Response, observations: Observations) -> tuple[Followed | None, list[BadFrame]]:
    """Drift and bad rows of a file with readings; no drift when too little is known of it."""
    rows = reduce_all(response, observations)
    try:
        followed = follow(rows, response.noise.jitter, tail=response.noise.tail)
        if np.abs(followed.level[:, 0]).max() > NEAR:  # curves and noise are those of the light that there was
            rows = reduce_all(response, observations, followed.level)
            followed = follow(rows, response.noise.jitter, tail=response.noise.tail)
        bad = explain(response, observations, followed)
        found = np.zeros(len(rows), bool)
        found[[b.index for b in bad]] = True
        if (found & ~followed.bad).any():
            followed = follow(rows, response.noise.jitter, found, tail=response.noise.tail)
            listed = {b.index for b in bad}
            bad += [b for b in explain(response, observations, followed) if b.index not in listed]
    except FitError:
        return None, []
    return followed, sorted(bad, key=lambda b: b.index)


def levels(response: Response, observations: Observations, followed: Followed | None) -> tuple[Float, Float]:
    """(n, 2) and (n, 2, 2): gain and offset of each row, from the other rows or by the walk since the fit."""
    law = response.drift
    n = observations.count
    at = observations.clock_values
    since = at + 1.0
    if law.clock == "s" and observations.at_s is not None:
        since = at - (law.last_at if at[0] >= law.last_at else at[0])
    level = np.zeros((n, 2))
    covariance = law.level_covariance + since[:, None, None] * np.diag(law.walk**2)
    if followed is not None:
        known = np.isfinite(followed.covariance).all(axis=(1, 2))
        level[known], covariance[known] = followed.level[known], followed.covariance[known]
    return level, covariance


def course(followed: Followed, unit: str, kept: NDArray[np.intp]) -> DriftCourse:
    """The drift of a file, as an operator reads it; ``kept`` (k,) are the rows of the file that were followed."""
    d = followed.drift
    stderr = np.sqrt(np.einsum("kii->ki", d.covariance))
    jumps = tuple(replace(jump, index=int(kept[jump.index * followed.block])) for jump in d.jumps)
    gain = d.value[:, 0]
    words = f"{d.model}: gain {_range(100 * gain, '+.2f')} %"
    words += f", offset {_range(d.value[:, 1], '+.4g')} {unit} against the calibration"
    for j in jumps:
        gained, moved = 100 * j.size[0], 100 * j.stderr[0]
        words += f"; jump at row {j.index}: gain {gained:+.2f} ± {moved:.2f} %"
        words += f", offset {j.size[1]:+.4g} ± {j.stderr[1]:.3g} {unit}"
    return DriftCourse(d.at_s, gain, stderr[:, 0], d.value[:, 1], stderr[:, 1], d.model, jumps, words)


@dataclass(frozen=True)
class Figures:
    """How well predictions meet readings, by output."""

    rms: Float
    frozen: Float
    coverage: Float
    chi2: float

    @classmethod
    def of(
        cls,
        y: Float,
        mean: Float,
        frozen: Float,
        sd: Float,
        half: Float,
        good: NDArray[np.bool_],
        output: NDArray[np.intp] | None,
        response: Response,
    ) -> Figures:
        """Compare readings ``y`` with predictions: (n, M), or (n, 1) with the ``output`` (n,) that a row read.

        Those that are missing, NaN, are not compared.
        """
        rms, still, coverage = (np.full(response.n_outputs, np.nan) for _ in range(3))
        z, inside, read = (y - mean) / sd, np.abs(y - mean) <= half, good[:, None] & ~np.isnan(y)
        for m in range(response.n_outputs):
            column = m if output is None else 0
            rows = read[:, column] if output is None else read[:, 0] & (output == m)
            if not rows.any():
                continue
            # a single detector has one range, whatever it looks through
            span = np.ptp(y[rows if output is None else read[:, 0], column]) or np.nan
            rms[m] = 100 * np.sqrt(np.mean((y - mean)[rows, column] ** 2)) / span
            still[m] = 100 * np.sqrt(np.mean((y - frozen)[rows, column] ** 2)) / span
            coverage[m] = np.mean(inside[rows, column])
        return cls(rms, still, coverage, float(np.mean(z[read] ** 2)) if read.any() else float("nan"))


class _Pass:
    """Means and standard deviations of a whole file."""

    def __init__(self, response: Response, observations: Observations, level: Float, covariance: Float) -> None:
        wide = 1 if observations.single or (response.single and observations.output is not None) else response.n_outputs
        self.shape = (observations.count, wide)
        self.mean, self.frozen, self.sd, self.half, self._centre = (np.empty(self.shape) for _ in range(5))
        self.noise = np.empty(self.shape)
        self._rails = response.rails
        self.looked = Looking(response, observations.count)
        for rows in observations.chunks():
            at = slice(rows.start, rows.start + len(rows))
            found = response.expected(rows, level[at], covariance[at] + response.noise.jitter)
            sd = np.sqrt(found.variance)
            self.frozen[at] = self._rails.censored(found.still, sd)[0]
            self.mean[at], self.sd[at] = self._rails.censored(found.mean, sd)
            self._centre[at] = found.mean
            common = (response.noise.common_gain * found.light) ** 2 + response.noise.common_offset**2
            self.noise[at] = response.noise_variance(found.light * (1 + level[at, :1]), rows) + common
            self.half[at] = sd * response.per_output(response.interval, rows)
            self.looked.look(rows, found)

    def low(self) -> Float:
        """Lower end of the interval, which no reading cut off at a floor is below."""
        return np.clip(self._centre - self.half, self._rails.floor, self._rails.ceiling)

    def high(self) -> Float:
        """Upper end of the interval."""
        return np.clip(self._centre + self.half, self._rails.floor, self._rails.ceiling)


def _output(observations: Observations) -> NDArray[np.intp]:
    output = observations.output
    return np.zeros(observations.count, np.intp) if output is None else np.asarray(output, np.intp)


def _range(values: Float, form: str) -> str:
    """``"+0.10 … +0.31"``, or one number where both ends read the same."""
    low, high = format(float(values.min()), form), format(float(values.max()), form)
    return low if low == high else f"{low} … {high}"

"""Whether a fit may stand for a whole recording: what is left over is the same everywhere, and no known fault."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.response.hum import hum
from calibration.response.leftover import Leftover
from calibration.response.neighbours import (
    late_inputs,
    of_neighbours,
    of_other_outputs,
    own_drift,
    own_drift_of_inputs,
    twice,
)
from calibration.response.normalised import divided, normalised
from calibration.response.observations import Observations
from calibration.response.own_levels import (
    find_steps,
    of_another_row,
    scatter_of_outputs,
    steps_in_words,
    without_response,
)
from calibration.response.parts import Parts, at_an_edge, difference, in_turn, of_either_line, starts
from calibration.response.stopped import stopped_inputs
from calibration.response.stretches import in_stretches
from calibration.response.stuck_bits import bits_in_words, stuck_bits
from calibration.response.to_and_fro import to_and_fro
from calibration.response.wandering import InTime, wandering_inputs
from calibration.response.wrapped import wrapped_inputs, wrapped_readings
from calibration.statistics.drift import DriftTrack
from calibration.statistics.tails import binomial_sf, f_sf
from groundwork.listing import listed

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOST_OUTPUTS, FEW_OUTPUTS = 64, 16  # that are looked at, and that are looked at many times
EXPLAINS = 0.5  # of an output's mean square: a fault that leaves less of it is the cause
CHANCE = 1e-9  # of a cause where there is none
LITTLE = 0.1  # of the mean square, that a cause leaves where it is one beside what changes in time
CLEARER = 1.2  # of what such a change leaves, up to which it is the cause all the same
AS_GOOD = 2.0  # times the mean square of the best cause, up to which a simpler one is named
INNER = 0.55  # share of the rows that a line is drawn through where the others may be garbage
ROUNDS = 10
HOPELESS = (3, 0.6)  # rounds after which it must be less than this
MOST_STRAY = 15.0  # % of the rows: fewer do not keep a fit from the others
CLOSER = 0.1  # of the median square of a row: what is left of it about the line through the larger part
EIGHTHS = 8
UNIT = 20.0  # factor between two gains
SCATTER = 1.7  # ratio of the mean squares of two parts of a recording
FEWEST = 24  # rows of a part
CORRELATED = (-0.6, 0.35)  # of the residuals of neighbouring rows; each is predicted from the others where they drift
PROVEN = 6.0  # standard errors
END, FEWEST_AT_END = 0.05, 4  # share of the rows at an end of the light of an output, and bad rows there
CHANCE_OF_END = 1e-4  # that rows which are bad for other reasons lie there
CHI2 = (0.7, 1.5)  # of held-out rows, over their degrees of freedom


@dataclass(frozen=True)
class Cause:
    """What explains the residuals of a fit.

    Attributes
    ----------
    words, todo
        In words, and what to do next.
    left
        (M,) of the mean square [1].
    numbers
        That the explanation has of each output.
    before
        (M,) or 1: the mean square that a line without this fault leaves [1].
    """

    words: str
    todo: str
    left: Float
    numbers: int
    before: Float | float = 1.0


def why_not(left: Leftover, chi2_per_dof: float, tail: float = 1.0, *, misfit: bool = False) -> str:
    """Why a fit must not stand for its recording, with what to do next; empty where it may.

    Parameters
    ----------
    chi2_per_dof, tail
        Of held-out rows, and by how much heavier than normal the tail of the noise is (`NoiseLaw.tail`).
    misfit
        Whether what the fit leaves follows what was shown.
    """
    stuck = bits_in_words(stuck_bits(left.readings[left.good]), left.names)
    if stuck:
        return stuck
    every, left = left, left.thinned(MOST_OUTPUTS)
    repeated = twice(left)
    if repeated:
        return f"{repeated}; export single readings, then fit again"
    early = stopped_inputs(left) or (normalised(left) if misfit else "") or to_and_fro(left)
    if early:
        return early
    of_one = of_another_row(every) or scatter_of_outputs(every)
    in_time = None if of_one else max(filter(None, (wandering_inputs(left), hum(left))), key=_share, default=None)
    steps = () if in_time else find_steps(every)
    of_one = of_one or steps_in_words(steps, every.outputs)
    cause = find_cause(left)
    if cause is not None and not (of_one and np.minimum(cause.left, 1.0).mean() > EXPLAINS):
        leaves = float(np.minimum(cause.left, 1.0).mean())
        if in_time is None or leaves < max(LITTLE, CLEARER * (1 - in_time.share)):
            return _with_cause(left, cause)
    if in_time is not None:
        return in_time.words
    if of_one:
        return of_one
    steps_of_many = steps_in_words(steps, every.outputs, alone=False)
    return steps_of_many or at_an_end(every) or unsteady(left) or _scatter_as_stated(left, chi2_per_dof, tail)


def _share(fault: InTime) -> float:
    return fault.share


def _with_cause(left: Leftover, cause: Cause) -> str:
    """A cause in a sentence, with what the residuals are beside it and what to do."""
    now, percent = float(np.mean(np.sqrt(np.minimum(cause.left, 1.0)))), left.percent_of_range
    return (
        f"{cause.words}: with that the residuals are {percent * now:.3g} instead of {percent:.3g} % of range; "
        f"{cause.todo}, then fit again"
    )


def another_unit(drift: DriftTrack, block: int, observations: Observations) -> str:
    """A jump of all gains by a factor that no lamp has, and what to do; empty where there is none.

    ``block`` is how many rows are one observation of the drift.
    """
    for jump in drift.jumps:
        before, after = (1 + float(drift.value[i, 0]) for i in (jump.index - 1, jump.index))
        factor = abs(after / before) if before else np.inf
        if not 1 / UNIT < factor < UNIT:
            row = jump.index * block if observations.place is None else observations.place[jump.index * block]
            return (
                f"all gains change by a factor of {factor:.3g} at row {int(row)}: inputs or readings are in another "
                "unit from there on, or the light went out; bring them into one, then fit again"
            )
    return ""


def remarks(left: Leftover) -> list[str]:
    """What is odd about single outputs and no reason to refuse the fit, in words."""
    silent = without_response(left)
    if not silent:
        return []
    return [f"output {listed(silent)} does not follow the inputs, though the others do: its predictions are its mean"]


def find_cause(left: Leftover) -> Cause | None:
    """The fault of a recording that explains what the fit leaves; None where none does."""
    found = [cause for cause in _causes(left) if _is_proven(cause, left)]
    whole = left.apart((left.good,), wide=True)
    if whole is not None and whole.mean() < EXPLAINS:  # the fit is too simple, and what a line explains needs no cause
        found = [cause for cause in found if cause.left.mean() < EXPLAINS * whole.mean()]
    if not found:
        return None
    best = min(found, key=lambda cause: float(np.mean(cause.left)))
    return next(cause for cause in found if _is_as_good(cause, best))


def _is_as_good(cause: Cause, best: Cause) -> bool:
    """Whether a simpler cause leaves about as little, of the outputs that have the fault: the others would hide it."""
    if len(cause.left) != len(best.left):  # one of them was looked for in some outputs alone
        return float(np.mean(cause.left)) <= AS_GOOD * float(np.mean(best.left))
    of = best.left < EXPLAINS * np.minimum(best.before, 1.0)
    return float(np.mean(cause.left[of])) <= AS_GOOD * float(np.mean(best.left[of]))


def _causes(left: Leftover) -> list[Cause]:
    """Every cause that is known, the simpler ones first."""
    found = []
    columns, few = left.inputs.shape[1], left.thinned(FEW_OUTPUTS)
    mixtures = (
        (of_neighbours(few), 14),
        (of_other_outputs(few), few.outputs + 2),
        (late_inputs(few), 2 * columns + 1),
        (own_drift(few), 8),
        (own_drift_of_inputs(few), 3 * columns + 4),
        (divided(few), 2 * columns + 1),
    )
    for mixed, numbers in mixtures:
        if mixed is not None:
            found.append(Cause(mixed.words, mixed.todo, mixed.left, numbers, mixed.before))
    for what in (wrapped_readings(left), wrapped_inputs(left)):
        if what is not None:
            found.append(Cause(what.words, "put them right, or export them in a wider type", what.left, columns + 2))
    in_order = (*in_turn(left), *at_an_edge(left), *in_stretches(left))
    for of, every in ((left, in_order), (few, tuple(of_either_line(few)))):
        for parts in every:
            numbers = len(parts.groups) * of.numbers(parts.wide)
            cause = Cause(parts.words, "", parts.left, numbers, parts.before)
            if _is_proven(cause, of):  # only then it is worth looking how they differ
                found.append(_of_parts(of, parts, cause))
    return found


def _of_parts(left: Leftover, parts: Parts, cause: Cause) -> Cause:
    """The same cause, with how the parts differ and what to do about it."""
    what = f"{parts.words} {'are of another bench' if parts.another or parts.edge >= 0 else 'follow different benches'}"
    how, todo = difference(left, parts)
    if how:
        what += f" ({how})"
    if not todo:
        todo = f"fit the rows before and after row {parts.edge} apart" if parts.edge >= 0 else "fit these rows apart"
    return replace(cause, words=what, todo=todo)


def _is_proven(cause: Cause, left: Leftover) -> bool:
    """Whether the best explained output is explained for the larger part, and not by chance."""
    rows = int(left.good.sum())
    freedom = rows - cause.numbers
    if freedom <= 0:
        return False
    least = max(float(np.min(cause.left / np.minimum(cause.before, 1.0))), 1e-12)
    f = (rows - least * freedom) / cause.numbers / least
    return least < EXPLAINS and float(f_sf(f, cause.numbers, freedom)) * left.outputs < CHANCE


def garbage(left: Leftover) -> str:
    """A line that most rows follow much more closely than one through all of them; empty where there is none."""
    for wide in (False, True):
        if not left.suffices(int(INNER * left.good.sum()), wide):
            continue
        usual = float(np.median((left.beside(left.good, wide)[left.good] ** 2).sum(axis=1)))
        for start in starts(left, wide):
            own = start
            for i in range(ROUNDS):
                off = np.where(left.good, (left.beside(own, wide) ** 2).sum(axis=1), np.inf)
                own = off <= np.quantile(off[left.good], INNER)
                middle = float(np.median(off[left.good]))
                if i == HOPELESS[0] and middle > HOPELESS[1] * usual:
                    break
            if middle < CLOSER * usual:
                others = 100 * float((off[left.good] > 12 * middle).mean())
                if others < MOST_STRAY:
                    return "most rows lie much closer to a line of their own than to one through all rows"
                return f"{others:.0f} % of the rows do not belong to the bench that the others follow"
    return ""


def unsteady(left: Leftover) -> str:
    """What of the residuals is not the same everywhere, or depends on the row before; empty where all is steady."""
    others = garbage(left.thinned(FEW_OUTPUTS))
    if others:
        return f"{others}; find out why (a start-up, another bench, garbage), take such rows out, then fit again"
    return _scatter(left) or _correlated(left)


def at_an_end(left: Leftover) -> str:
    """Rows that were left out as bad and lie at one end of an output's range; empty where they do not.

    Chance does not choose the brightest rows: there the fit does not describe the bench.
    """
    bad = ~left.good
    if bad.sum() < FEWEST_AT_END:
        return ""
    for m in range(left.outputs):
        light = left.mean[:, m]
        for words, there in (
            ("brightest", light > np.quantile(light[left.good], 1 - END)),
            ("darkest", light < np.quantile(light[left.good], END)),
        ):
            many = int((bad & there).sum())
            if float(binomial_sf(many - 1, int(bad.sum()), 2 * END)) * 2 * left.outputs < CHANCE_OF_END:
                more = "less" if words == "brightest" else "more"
                return (
                    f"{many} of the {int(bad.sum())} rows that were called bad are among the {words} of output "
                    f"{left.names[m]}: the bench bends there as no curve of the fit does; leave such rows out, or "
                    f"record with {more} light, then fit again"
                )
    return ""


def _scatter(left: Leftover) -> str:
    square = (left.score**2).mean(axis=1)
    at = np.nonzero(left.good)[0]
    n = len(at)
    for words, of in (
        ("odd and even rows", left.index[at] % 2),
        ("the halves of the recording", np.arange(n) * 2 // n),
        ("the eighths of the recording", np.arange(n) * EIGHTHS // n),
    ):
        count = np.bincount(of)
        mean = np.bincount(of, square[at]) / count
        error = np.sqrt(np.maximum(np.bincount(of, square[at] ** 2) / count - mean**2, 0) / count)
        low, high = int(np.argmin(mean)), int(np.argmax(mean))
        apart = (mean[high] - mean[low]) / max(float(np.hypot(error[high], error[low])), 1e-300)
        if count.min() < FEWEST:
            continue
        if mean[high] > SCATTER * mean[low] and apart > PROVEN:
            ratio = float(np.sqrt(mean[high] / max(float(mean[low]), 1e-300)))
            row = int(left.index[at[int(np.argmax(of == high))]])
            return (
                f"{words} scatter unequally about the fit, by a factor of {ratio:.2g} (most from row {row} on): no one "
                "noise law holds; fit the steady part alone"
            )
    return ""


def _correlated(left: Leftover) -> str:
    r, error = correlation(left)
    if CORRELATED[0] < r < CORRELATED[1] or abs(r) < PROVEN * error:
        return ""
    return (
        f"what the fit leaves of neighbouring rows is correlated ({r:+.2f}): readings that were averaged, subtracted "
        "or smoothed are no single measurements; export those, then fit again"
    )


def correlation(left: Leftover) -> tuple[float, float]:
    """Of the residuals of neighbouring rows, beside what the outputs of a row share, with its standard error."""
    at = np.nonzero((np.diff(left.index) == 1) & left.good[1:] & left.good[:-1])[0]
    if len(at) < 2:
        return 0.0, np.inf
    s = left.score
    products = (s[at] * s[at + 1]).mean(axis=1) / max(float((s[left.good] ** 2).mean()), 1e-300)
    return float(products.mean()), float(products.std() / np.sqrt(len(at)))


def _scatter_as_stated(left: Leftover, chi2: float, tail: float) -> str:
    error = np.sqrt(2 / max(int(left.good.sum()), 1))
    if CHI2[0] <= chi2 <= CHI2[1] * tail or abs(chi2 - 1) < PROVEN * error:
        return ""
    return (
        f"held-out rows scatter {np.sqrt(chi2):.2g} times as far as the noise law states (χ² {chi2:.2f} per reading; "
        f"{CHI2[0]:g} … {CHI2[1]:g} is usual), so that the intervals are wrong; look at the rows that were left out "
        "and at the order of the rows"
    )

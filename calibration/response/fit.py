"""Fit a bench from what somebody recorded on it: a few rounds of two passes over the file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import FitError
from calibration.response.assemble import blank, coefficients, features, respond, settle
from calibration.response.bends import Bent
from calibration.response.blocks import AllOutputs, OneDetector
from calibration.response.cards import percent_of_range
from calibration.response.curves import fit_curves
from calibration.response.enough import require_rows, require_size
from calibration.response.faults import explain
from calibration.response.following import BLOCKS, FEW_BLOCKS, Followed, follow
from calibration.response.freedom import independent_numbers
from calibration.response.gate import ResponseGate, judge
from calibration.response.laws import NoiseLaw
from calibration.response.leftover import Leftover
from calibration.response.memory_need import require_memory
from calibration.response.misfit import Misfit, find_misfit
from calibration.response.model import Response
from calibration.response.noise_law import Squares, fit_noise_law
from calibration.response.normalised import refuse_normalised
from calibration.response.observations import Observations
from calibration.response.residuals import columns, reduce_all
from calibration.response.screening import Screened, refuse_saturated, screen
from calibration.response.showing import find_shown
from calibration.response.steady import another_unit, remarks, why_not
from calibration.response.structure import Candidate, Key, Selector
from calibration.response.sums import Sums
from calibration.response.survey import FirstLine, refuse_unrelated, survey
from calibration.response.tails import heavy_tail
from calibration.statistics.bad_frame import BadFrame
from calibration.statistics.choice import Choice
from calibration.statistics.tails import chi2_isf, chi2_sf, p_in_words
from groundwork.notebook import Card, Carded, joined

Float = NDArray[np.float64]

FOLDS = 8
ROUNDS = 4
MOST_SETTLING = 3  # more rounds
SETTLED = 0.1  # of a reading's variance, from one round to the next
TOO_QUIET = 0.9  # of its median: squares of rows over their variance, below which that was taken from a poorer fit

Progress = Callable[[str, float], None]


@dataclass(frozen=True, repr=False)
class ResponseFit(Carded):
    """A fitted response with its evidence.

    Attributes
    ----------
    response
        Everything that predicting needs.
    structure
        `Choice` by subject: gain, crosstalk, nonlinearity, noise, common noise, drift, misfit.
    noise
        The variance law with standard errors; its `formula` is the text.
    bad_rows
        Rows left out, with reasons.
    gate
        Held-out figures and whether the fit is better than a line and than the previous response.
    ill_posed
        What the data do not determine and what the prior did about it, in words.
    directions, determined
        Free parameters of the gain structure, and how many the data determine.
    rows
        Rows used.
    notes
        What was left out or mended besides single rows, in words.
    screened
        The recording as the fit took it; None of a fit of rows that nobody looked through.
    """

    response: Response
    structure: Mapping[str, Choice]
    noise: NoiseLaw
    bad_rows: tuple[BadFrame, ...]
    gate: ResponseGate
    ill_posed: str
    directions: int
    determined: float
    rows: int
    notes: tuple[str, ...] = ()
    screened: Screened | None = None

    def card(self) -> Card:
        """What a notebook shows of it."""
        gate = self.gate
        return Card(
            f"fit of {self.response.id}",
            f"{'applied' if gate.applied else 'not applied'}: {gate.reason}",
            {
                "held-out error": percent_of_range(gate.rms_percent_of_range),
                "held-out χ²/dof": f"{gate.chi2_per_dof:.3g}",
                "structure": joined({name: choice.chosen for name, choice in self.structure.items()}),
                "noise": self.noise.formula,
                "rows": f"{self.rows} used, {len(self.bad_rows)} left out",
                "determined": f"{self.determined:.4g} of {self.directions} parameters of the gain",
                "not determined": self.ill_posed,
            },
            "good" if gate.applied else "bad",
            self.notes,
        )

    @property
    def stderr(self) -> dict[str, Float]:
        """Standard errors of every parameter, by name."""
        return dict(self.response.stderr)


@dataclass(frozen=True)
class _Round:
    """What one round found."""

    response: Response
    selector: Selector
    candidate: Candidate
    choices: dict[str, Choice]
    bent: Bent | None = None
    misfit: Misfit | None = None


def fit_response(
    observations: Observations, *, progress: Progress | None = None, previous: Response | None = None
) -> ResponseFit:
    """Gain, crosstalk, curves, noise and drift of a bench, with a structure that the data chose.

    Parameters
    ----------
    observations
        With readings.
    progress
        Called with a phase and the fraction done.
    previous
        Response that the new one must predict held-out rows as well as, within errors, to pass the gate.

    Raises
    ------
    Saturated
        When more than a fifth of an output's readings stand at its ceiling, or half of the rows are cut off somewhere.
    NoResponse
        When the readings do not follow the inputs.
    FitError
        When there is too little to fit, or the data do not determine it.
    """
    try:
        with np.errstate(all="ignore"):
            return _fit(observations, progress, previous)
    except (ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
        raise FitError(
            "the data do not determine the fit",
            action="fit response",
            expected="inputs, weights and readings that differ from row to row and from output to output",
            seen=str(error) or type(error).__name__,
            hint="look at the weights (all zero, or the same for every output?) and at the range of the numbers",
        ) from error


def _fit(observations: Observations, progress: Progress | None, previous: Response | None) -> ResponseFit:
    tell = progress or (lambda phase, done: None)
    require_rows(observations)
    require_memory(1 if observations.single else observations.n_outputs, observations.n_inputs, observations.count)
    require_size(observations)
    tell("survey", 0.0)
    refuse_normalised(observations)
    screened = screen(observations)
    refuse_saturated(screened)
    if previous is not None and set(previous.dead) != set(screened.dead):
        previous = None  # a response of other outputs predicts other readings
    found = _fit_kept(screened, tell, previous)
    for _ in range(screened.refits):
        screened = screened.without_cut_off(found.response)
        found = _fit_kept(screened, lambda phase, done: tell(f"{phase}, without what is missing", 0.95), previous)
    return found


def _fit_kept(screened: Screened, tell: Progress, previous: Response | None) -> ResponseFit:
    """Fit what of a recording is a measurement, and say the rest of the recording, too."""
    observations = screened.kept
    require_rows(observations)
    seen = survey(observations)
    line = refuse_unrelated(observations, seen)
    design = (OneDetector if observations.single else AllOutputs)(observations.weights * line.slope)
    fold = folds(observations)
    response = blank(observations, seen, line.slope, line.middle)
    found, followed = _rounds(response, design, observations, line, fold, tell)
    tell("judge", (2 * ROUNDS + 1) / (2 * ROUNDS + 2))
    return _of_recording(_finish(found, followed, observations, screened.live, fold, previous), screened)


def _of_recording(found: ResponseFit, screened: Screened) -> ResponseFit:
    """A fit of the rows and outputs that were kept, told of the whole recording."""
    bad = sorted([*screened.bad, *(screened.in_recording(b) for b in found.bad_rows)], key=lambda b: b.index)
    notes = (*screened.notes, *found.notes)
    evidence = {
        **found.response.evidence,
        **screened.evidence,
        **({"notes": list(notes)} if notes else {}),
        "rows": screened.whole.count,
        "bad_rows": [[b.index, b.in_words, b.z if np.isfinite(b.z) else None] for b in bad],
    }
    gate = found.gate.of_outputs(screened.live, screened.whole.n_outputs).unless(screened.why_not)
    response = replace(found.response, evidence=evidence)
    return replace(found, response=response, bad_rows=tuple(bad), gate=gate, notes=notes, screened=screened)


def _rounds(
    response: Response,
    design: AllOutputs,
    observations: Observations,
    line: FirstLine,
    fold: NDArray[np.intp],
    tell: Progress,
) -> tuple[_Round, Followed]:
    """Fit and follow in turn: drift is seen against a response, and a response is fitted to rows freed of drift.

    The first rounds take the bench as still. The curves are chosen when the gains are known a little, and again when
    the drift is: a search of their own (`calibration.response.curves`), beside free gains, of which no step is kept
    that makes the rest larger.
    """
    found = _round(response, None, design, observations, line, fold)
    followed = follow(reduce_all(found.response, observations), blocks=FEW_BLOCKS, heavy=False)
    curved = fit_curves(found.response, observations, fold, followed)
    for i in range(1, ROUNDS):
        tell("fit", (2 * i + 1) / (2 * ROUNDS + 2))
        last, earlier = i == ROUNDS - 1, found.response.noise
        # the structure of the round before is where the last one starts: it may grow and shrink
        start: Key = found.candidate.key if last else ("scalar", "none")
        if i == 1:  # with a curve everything is another: what the rows have in common is looked for anew
            followed = replace(followed, level=curved.level, jitter=np.zeros((2, 2)))
        found = _round(
            curved.response, followed, design, observations, line, fold,
            start=start, correlated=i > 1, bent=float(curved.bent.freedom.sum()), last=last,
        )  # fmt: skip
        tell("rows", (2 * i + 2) / (2 * ROUNDS + 2))
        followed = follow(
            reduce_all(found.response, observations, followed.level), blocks=BLOCKS if last else FEW_BLOCKS, heavy=last
        )
        if i == 1:
            curved = fit_curves(found.response, observations, fold, followed)
        else:
            curved = replace(curved, response=found.response)
    bent = float(curved.bent.freedom.sum())
    found, followed = _settled(found, followed, earlier, design, observations, line, fold, bent)
    found, followed = _without_misfit(found, followed, design, observations, line, fold, bent)
    # the numbers of single inputs' curvature add to the variance of a prediction as those of the mean do
    variance = found.response.offset_variance * (1 + curved.bent.freedom if curved.bent.bend.powers else 1)
    response = replace(found.response, offset_variance=variance)
    choices = found.choices | {"nonlinearity": curved.choice}
    return replace(found, response=response, choices=choices, bent=curved.bent), followed


def _settled(
    found: _Round,
    followed: Followed,
    earlier: NoiseLaw,
    design: AllOutputs,
    observations: Observations,
    line: FirstLine,
    fold: NDArray[np.intp],
    bent: float,
) -> tuple[_Round, Followed]:
    """The last round once more where its noise law is that of a response which fitted the rows less well.

    ``earlier`` is the law of the round before.
    """
    outputs, middle = 1 if observations.single else observations.n_outputs, np.array(line.brightest / 2)
    for _ in range(MOST_SETTLING):
        good, now = ~followed.bad, found.response.noise
        is_quiet = good.any() and np.median(followed.chi2[good]) < TOO_QUIET * chi2_isf(0.5, outputs)
        is_settled = np.isclose(now.variance(middle), earlier.variance(middle), rtol=SETTLED)
        if is_settled and not is_quiet:
            break
        earlier = now
        found, followed = _again(found, followed, design, observations, line, fold, bent)
    return found, followed


def _again(
    found: _Round,
    followed: Followed,
    design: AllOutputs,
    observations: Observations,
    line: FirstLine,
    fold: NDArray[np.intp],
    bent: float,
) -> tuple[_Round, Followed]:
    """The last round once more, from where it ended."""
    found = _round(
        found.response, followed, design, observations, line, fold,
        start=found.candidate.key, correlated=True, bent=bent, last=True,
    )  # fmt: skip
    return found, follow(reduce_all(found.response, observations, followed.level))


def _without_misfit(
    found: _Round,
    followed: Followed,
    design: AllOutputs,
    observations: Observations,
    line: FirstLine,
    fold: NDArray[np.intp],
    bent: float,
) -> tuple[_Round, Followed]:
    """What the last round leaves that is no noise; where there is any, noise and drift are told from the rest."""
    misfit = find_misfit(found.response, observations, followed)
    if not misfit.proven:
        return replace(found, misfit=misfit), followed
    rest = misfit.taken_off(found.response, observations, followed)
    again, followed = _again(found, followed, design, rest, line, fold, bent + misfit.freedom)
    return replace(again, response=replace(again.response, misfit=misfit.rms), misfit=misfit), followed


def folds(observations: Observations) -> NDArray[np.intp]:
    """(rows,) eighths of the file in order; a group is never divided."""
    n = observations.count
    if observations.group is None:
        return np.arange(n) * FOLDS // n
    _, of = np.unique(observations.group, return_inverse=True)
    size = np.bincount(of)
    order = np.argsort(np.bincount(of, np.arange(n, dtype=float)) / size)
    edge = np.empty(len(size), np.intp)
    edge[order] = (np.cumsum(size[order]) - size[order] / 2) * FOLDS / n
    return np.asarray(edge[of])


def _round(
    response: Response,
    followed: Followed | None,
    design: AllOutputs,
    observations: Observations,
    line: FirstLine,
    fold: NDArray[np.intp],
    *,
    start: Key = ("scalar", "none"),
    correlated: bool = False,
    bent: float = 0.0,
    last: bool = False,
) -> _Round:
    """One pass: sums and squares of the rows as they stand; then structure, noise law and a new response.

    ``bent`` is how many numbers the curvature of single inputs has. ``correlated`` asks whether outputs have more in
    common than a gain and an offset; not before these are known.
    """
    single = observations.single
    sums = Sums(
        observations.n_inputs + (observations.n_outputs if single else 0),
        1 if single else observations.n_outputs,
        FOLDS,
    )
    squares = Squares(observations.n_outputs, line.brightest, correlated=correlated)
    for rows in observations.chunks():
        at = slice(rows.start, rows.start + len(rows))
        good = np.ones(len(rows), bool) if followed is None else ~followed.bad[at]
        level = np.zeros((len(rows), 2)) if followed is None else followed.level[at]
        shared = np.zeros((len(rows), 2, 2)) if followed is None else followed.covariance[at] + followed.jitter
        light = response.light(rows)
        drifted = light * (1 + level[:, :1])
        gradient = response.gradient(drifted, rows)
        residual = columns(rows) - response.mean(light, rows, level)
        variance = response.noise_variance(drifted, rows)
        signal = response.signal(drifted, rows)
        of = None if rows.output is None else rows.output[good]
        read = np.ones(residual.shape, bool) if rows.drawn is None else ~rows.drawn
        squares.add(
            signal[good], (light * gradient)[good], variance[good], residual[good], of, shared[good], read[good]
        )
        # what the light must have been, were the detectors straight
        weight = 1 / (variance / response.per_output(response.noise.scale, rows) / gradient**2).mean(1)
        phi = features(response, rows, light) * (1 + level[:, :1])
        sums.add(fold[at][good], weight[good], phi[good], (residual / gradient)[good])
    selector = Selector(design, sums, coefficients(response))
    if followed is None:  # what follows the drift first must not be misled by a structure that is too simple
        gains = design.gains()
        richest = next(g for g in ("full", "separable", gains[-1]) if g in gains and not (selector.few and g == "full"))
        blind = selector.few and observations.single
        candidate = selector.choose() if blind else selector.candidate(richest, "none", hold_out=False)
    else:
        candidate = selector.choose(start)
    choices = selector.reasons(candidate) if last else {}
    noise, choices["noise"] = fit_noise_law(squares, sums.outputs + candidate.freedom[1] + bent, observations.unit)
    if followed is not None:
        noise = with_jitter(noise, followed)
    return _Round(respond(response, selector, candidate, noise, covariances=last), selector, candidate, choices)


def with_jitter(noise: NoiseLaw, followed: Followed) -> NoiseLaw:
    """The law with the part that the outputs of a row share."""
    gain, offset = np.sqrt(np.diag(followed.jitter))
    return replace(noise, common_gain=float(gain), common_offset=float(offset))


def _finish(
    found: _Round,
    followed: Followed,
    observations: Observations,
    names: NDArray[np.intp],
    fold: NDArray[np.intp],
    previous: Response | None,
) -> ResponseFit:
    """The last round with its gate, its evidence and what the data did not determine.

    ``names`` (M,) are the numbers that the outputs have in the recording.
    """
    bad = explain(found.response, observations, followed)
    mask = np.zeros(observations.count, bool)
    mask[[b.index for b in bad]] = True
    gate, interval = judge(
        found.response, found.selector, found.candidate, observations, followed, mask, fold, previous, found.bent
    )
    noise = replace(
        with_jitter(found.response.noise, followed),
        tail=heavy_tail(followed.chi2[~mask], 1 if observations.single else observations.n_outputs),
    )
    left = Leftover.of(found.response, observations, followed, mask, names)
    misfit = found.misfit
    assert misfit is not None
    gate = gate.unless(
        another_unit(followed.drift, followed.block, observations)
        or why_not(left, gate.chi2_per_dof, noise.tail, misfit=misfit.proven)
    )
    notes = tuple(remarks(left))
    size, known = found.candidate.freedom
    structure = found.choices | {
        "common noise": _common(followed, noise),
        "drift": _drift(followed, observations.clock),
        "misfit": misfit.choice,
    }
    shown = find_shown(found.response, observations, followed, mask, fold)
    words = "; ".join(filter(None, [_ill_posed(found.candidate), shown.in_words]))
    evidence: dict[str, Any] = {
        "rows": observations.count,
        "gain_parameters": {"fitted": int(size), "determined": round(float(known), 2)},
        "drift_span": float(np.ptp(observations.clock_values)),
        "independent_numbers": {
            name: round(number, 2)
            for name, number in independent_numbers(found.response, found.selector, found.candidate).items()
        },
        "bad_rows": [[b.index, b.in_words, b.z] for b in bad],
        "gate": gate.as_json(),
        "ill_posed": words,
        "misfit": misfit.as_json(),
    }
    fitted = replace(
        found.response, noise=noise, interval=interval, structure=structure, evidence=evidence, shown=shown
    )
    response = settle(fitted, followed, observations, None if previous is None else previous.id)
    used = observations.count - len(bad)
    return ResponseFit(response, structure, noise, tuple(bad), gate, words, size, round(known, 2), used, notes)


def _common(followed: Followed, noise: NoiseLaw) -> Choice:
    parts = [n for n, v in (("gain", noise.common_gain), ("offset", noise.common_offset)) if v]
    if not parts:
        return Choice(
            "none", "χ²", 0.0, 1.0, "gain", "the outputs of a row have no noise in common that the data prove"
        )
    chance = float(chi2_sf(followed.jitter_chi2, len(parts)))
    reason = (
        f"{' and '.join(parts)} common to the outputs of a row (χ² = {followed.jitter_chi2:.1f}, {p_in_words(chance)})"
    )
    return Choice(" + ".join(parts), f"χ²({len(parts)})", followed.jitter_chi2, chance, "none", reason)


def _drift(followed: Followed, clock: str) -> Choice:
    d = followed.drift
    gained = 2 * (max(d.log_likelihood.values()) - d.log_likelihood["still"])
    chance = float(min([*d.walk_p_value, *(j.p_value for j in d.jumps), 1.0]))
    other, words = "walk" if d.model == "still" else "still", d.in_words(rows=clock == "rows")
    return Choice(d.model, "2 Δ log-likelihood", gained, chance, other, words)


def _ill_posed(candidate: Candidate) -> str:
    e, (size, known) = candidate.estimate, candidate.freedom
    each = dict.fromkeys(("each", "band", "all"), "crosstalk of each pair")
    names = {"in": "input map", "out": "output gains", "near": "crosstalk"} | each
    widths = [f"{names.get(b, b)} ± {100 * w:.3g} %" for b, w in e.widths.items()]
    if e.extra is not None:
        widths.append(f"single gains ± {100 * e.extra_width:.3g} %")
    if not widths:
        return f"the data fix all {size} numbers that describe the gain"
    return (
        f"the gain is described by {size} numbers, of which the data alone fix {known:.1f}; where they leave it open, "
        f"the fit keeps to the simpler structure, give or take the spread that the data show ({', '.join(widths)})"
    )

"""Fit a bench from what somebody recorded on it: a few rounds of two passes over the file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_law

from calibration.errors import FitError
from calibration.response.assemble import blank, coefficients, features, respond, settle
from calibration.response.blocks import AllOutputs, OneDetector
from calibration.response.curves import Curves, fit_curves
from calibration.response.faults import explain
from calibration.response.following import BLOCKS, FEW_BLOCKS, Followed, follow, heavy_tail
from calibration.response.gate import ResponseGate, judge
from calibration.response.laws import NoiseLaw
from calibration.response.model import Response
from calibration.response.noise_law import Squares, fit_noise_law
from calibration.response.observations import Observations
from calibration.response.residuals import columns, reduce_all
from calibration.response.screening import Screened, refuse_saturated, screen
from calibration.response.structure import Candidate, Key, Selector
from calibration.response.sums import Sums
from calibration.response.survey import Survey, refuse_unrelated, survey
from calibration.statistics.bad_frame import BadFrame
from calibration.statistics.choice import Choice

Float = NDArray[np.float64]

FOLDS = 8
BLIND = 2  # rounds that take the bench as still
ROUNDS = 4
SHORTEST = 12  # rows

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class ResponseFit:
    """A fitted response with its evidence.

    Attributes
    ----------
    response
        Everything that predicting needs.
    structure
        `Choice` by subject: gain, crosstalk, nonlinearity, noise, common noise, drift.
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
    curves: tuple[float, float]
    choices: dict[str, Choice]


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
        When more than a twentieth of an output's readings stand at its maximum.
    NoResponse
        When the readings do not follow the inputs.
    FitError
        When there is too little to fit.
    """
    tell = progress or (lambda phase, done: None)
    _require_rows(observations)
    tell("survey", 0.0)
    screened = screen(observations)
    refuse_saturated(screened)
    if previous is not None and set(previous.dead) != set(screened.dead):
        previous = None  # a response of other outputs predicts other readings
    found = _fit_kept(screened, tell, previous)
    if screened.rails.any:
        screened = screened.without_cut_off(found.response)
        found = _fit_kept(screened, lambda phase, done: tell(f"{phase}, without what is cut off", 0.95), previous)
    return found


def _fit_kept(screened: Screened, tell: Progress, previous: Response | None) -> ResponseFit:
    """Fit what of a recording is a measurement, and say the rest of the recording, too."""
    observations = screened.kept
    _require_rows(observations)
    seen = survey(observations)
    unit_gain, light = refuse_unrelated(observations, seen)
    design = (OneDetector if observations.single else AllOutputs)(observations.weights * unit_gain)
    fold = folds(observations)
    response = blank(observations, seen, unit_gain, light)
    found, followed = _rounds(response, design, observations, seen, fold, tell)
    tell("judge", (2 * ROUNDS + 1) / (2 * ROUNDS + 2))
    return _of_recording(_finish(found, followed, observations, fold, previous), screened)


def _of_recording(found: ResponseFit, screened: Screened) -> ResponseFit:
    """A fit of the rows and outputs that were kept, told of the whole recording."""
    bad = sorted([*screened.bad, *(screened.in_recording(b) for b in found.bad_rows)], key=lambda b: b.index)
    evidence = {
        **found.response.evidence,
        **screened.evidence,
        "rows": screened.whole.count,
        "bad_rows": [[b.index, b.in_words, b.z if np.isfinite(b.z) else None] for b in bad],
    }
    gate = found.gate.of_outputs(screened.live, screened.whole.n_outputs)
    response = replace(found.response, evidence=evidence)
    return replace(found, response=response, bad_rows=tuple(bad), gate=gate, notes=screened.notes)


def _require_rows(observations: Observations) -> None:
    if observations.readings is None or observations.count < SHORTEST:
        raise FitError(
            "too little to fit",
            action="fit response",
            expected=f"{SHORTEST} rows with readings at least",
            seen="no readings" if observations.readings is None else f"{observations.count} rows",
        )


def _rounds(
    response: Response,
    design: AllOutputs,
    observations: Observations,
    seen: Survey,
    fold: NDArray[np.intp],
    tell: Progress,
) -> tuple[_Round, Followed]:
    """Fit and follow in turn: drift is seen against a response, and a response is fitted to rows freed of drift.

    The first rounds take the bench as still. Where a round finds a curvature, the response is bent by it and the round
    repeated.
    """
    found: _Round | None = None
    followed: Followed | None = None
    curved: Choice | None = None
    for i in range(ROUNDS):
        tell("fit", (2 * i + 1) / (2 * ROUNDS + 2))
        # the structure of the round before is where the last one starts: it may grow and shrink
        start = found.candidate.key if found is not None and i == ROUNDS - 1 else ("scalar", "none")
        found = _round(response, followed, design, observations, seen, fold, start=start, last=i == ROUNDS - 1)
        q, a = (response.curve, float(response.detector[0])) if followed is None or i == ROUNDS - 1 else found.curves
        response = found.response
        if (q, a) != (response.curve, float(response.detector[0])):
            bent = replace(response, curve=q, detector=np.full(len(response.offset), a))
            curved = found.choices["nonlinearity"]
            found = _round(bent, followed, design, observations, seen, fold, start=found.candidate.key)
            response = replace(found.response, noise=response.noise)
        elif i < ROUNDS - 1:
            curved = found.choices["nonlinearity"]
        if i < BLIND - 1:
            continue
        tell("rows", (2 * i + 2) / (2 * ROUNDS + 2))
        followed = follow(reduce_all(response, observations), blocks=FEW_BLOCKS if i < ROUNDS - 1 else BLOCKS)
    assert found is not None
    assert followed is not None
    assert curved is not None
    return replace(found, response=response, choices=found.choices | {"nonlinearity": curved}), followed


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
    seen: Survey,
    fold: NDArray[np.intp],
    *,
    start: Key = ("scalar", "none"),
    last: bool = False,
) -> _Round:
    """One pass: sums, squares and curvature of the rows as they stand; then structure, noise law and a new response."""
    single = observations.single
    sums = Sums(
        observations.n_inputs + (observations.n_outputs if single else 0),
        1 if single else observations.n_outputs,
        FOLDS,
    )
    jitter = np.zeros((2, 2)) if followed is None else followed.jitter
    squares, curves = Squares(observations.n_outputs, seen.light, correlated=followed is not None), Curves(observations)
    for rows in observations.chunks():
        at = slice(rows.start, rows.start + len(rows))
        good = np.ones(len(rows), bool) if followed is None else ~followed.bad[at]
        level = np.zeros((len(rows), 2)) if followed is None else followed.level[at]
        light = response.light(rows)
        slope = response.slope(light, rows)
        residual = columns(rows) - response.mean(light, rows) - slope * level[:, :1] - level[:, 1:]
        variance = response.noise_variance(light, rows)
        of = None if rows.output is None else rows.output[good]
        squares.add(light[good], slope[good], variance[good], residual[good], of, jitter)
        weight = 1 / (variance / response.per_output(response.noise.scale, rows)).mean(1)
        phi = features(response, rows, light) * (1 + level[:, :1])
        sums.add(fold[at][good], weight[good], phi[good], residual[good])
        curves.add(response, rows, good, fold[at], weight, phi, residual, light)
    selector = Selector(design, sums, coefficients(response))
    if followed is None:  # what follows the drift first must not be misled by a structure that is too simple
        gains = design.gains()
        richest = next(g for g in ("full", "separable", gains[-1]) if g in gains and not (selector.few and g == "full"))
        blind = selector.few and observations.single
        candidate = selector.choose() if blind else selector.candidate(richest, "none", hold_out=False)
    else:
        candidate = selector.choose(start)
    choices = selector.reasons(candidate) if last else {}
    noise, choices["noise"] = fit_noise_law(squares, sums.outputs + candidate.freedom[1], observations.unit)
    if followed is not None:
        noise = with_jitter(noise, followed)
    q, a, choices["nonlinearity"] = fit_curves(curves, selector)
    return _Round(respond(response, selector, candidate, noise, covariances=last), selector, candidate, (q, a), choices)


def with_jitter(noise: NoiseLaw, followed: Followed) -> NoiseLaw:
    """The law with the part that the outputs of a row share."""
    gain, offset = np.sqrt(np.diag(followed.jitter))
    return replace(noise, common_gain=float(gain), common_offset=float(offset))


def _finish(
    found: _Round, followed: Followed, observations: Observations, fold: NDArray[np.intp], previous: Response | None
) -> ResponseFit:
    bad = explain(found.response, observations, followed)
    mask = np.zeros(observations.count, bool)
    mask[[b.index for b in bad]] = True
    gate, interval = judge(
        found.response, found.selector, found.candidate, observations, followed, mask, fold, previous
    )
    noise = replace(
        with_jitter(found.response.noise, followed),
        tail=heavy_tail(followed.chi2[~mask], 1 if observations.single else observations.n_outputs),
    )
    size, known = found.candidate.freedom
    structure = found.choices | {
        "common noise": _common(followed, noise),
        "drift": _drift(followed, observations.clock),
    }
    words = _ill_posed(found.candidate)
    evidence: dict[str, Any] = {
        "rows": observations.count,
        "gain_parameters": {"fitted": int(size), "determined": round(float(known), 2)},
        "bad_rows": [[b.index, b.in_words, b.z] for b in bad],
        "gate": gate.as_json(),
        "ill_posed": words,
    }
    fitted = replace(found.response, noise=noise, interval=interval, structure=structure, evidence=evidence)
    response = settle(fitted, followed, observations, None if previous is None else previous.id)
    used = observations.count - len(bad)
    return ResponseFit(response, structure, noise, tuple(bad), gate, words, size, round(known, 2), used)


def _common(followed: Followed, noise: NoiseLaw) -> Choice:
    parts = [n for n, v in (("gain", noise.common_gain), ("offset", noise.common_offset)) if v]
    if not parts:
        return Choice(
            "none", "χ²", 0.0, 1.0, "gain", "the outputs of a row have no noise in common that the data prove"
        )
    chance = float(chi2_law.sf(followed.jitter_chi2, len(parts)))
    reason = f"{' and '.join(parts)} common to the outputs of a row (χ² = {followed.jitter_chi2:.1f}, p = {chance:.2g})"
    return Choice(" + ".join(parts), f"χ²({len(parts)})", followed.jitter_chi2, chance, "none", reason)


def _drift(followed: Followed, clock: str) -> Choice:
    d = followed.drift
    gained = 2 * (max(d.log_likelihood.values()) - d.log_likelihood["still"])
    chance = float(min([*d.walk_p_value, *(j.p_value for j in d.jumps), 1.0]))
    other, words = "walk" if d.model == "still" else "still", d.in_words(rows=clock == "rows")
    return Choice(d.model, "2 Δ log-likelihood", gained, chance, other, words)


def _ill_posed(candidate: Candidate) -> str:
    e, (size, known) = candidate.estimate, candidate.freedom
    names = {"in": "input map", "out": "output gains", "near": "crosstalk", "all": "crosstalk"}
    widths = [f"{names.get(b, b)} ± {100 * w:.3g} %" for b, w in e.widths.items()]
    if e.extra is not None:
        widths.append(f"single gains ± {100 * e.extra_width:.3g} %")
    if not widths:
        return f"the data determine all {size} parameters of the gain"
    return (
        f"of {size} parameters of the gain the data determine {known:.1f}; along the other {max(size - known, 0):.1f} "
        f"directions the fit stays at the simpler structure, within the spread that the data show ({', '.join(widths)})"
    )

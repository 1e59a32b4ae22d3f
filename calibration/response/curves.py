"""Which curves a bench has: of its inputs, of its detectors or of each; richer ones while held-out rows agree."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.response.bends import Bent, fit_bend
from calibration.response.following import Followed
from calibration.response.joint import Sample, State, descend, normal, own_terms, shared_noise
from calibration.response.model import Response
from calibration.response.observations import Observations
from calibration.response.power_curve import ROOT, Bend, PowerCurve
from calibration.response.residuals import columns
from calibration.response.structure import LEVEL
from calibration.statistics.choice import Choice
from calibration.statistics.tails import f_sf, p_in_words

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]

WORK = 1.5e9  # products that one look at the sample may take
MOST_ROWS = 20000
BLOCK = 64  # neighbours that stay together
MOST_FREE = 300  # inputs whose gains are free beside the curves
OUTPUTS = 8  # that are looked at where there are too many
PARTS = 8  # of a drifting file
INPUT_POWERS = (2.0, ROOT, 3.0, 4.0)
DETECTOR_POWERS = (2.0, 3.0, 4.0, 5.0, 6.0)
OUTLYING = 30.0  # times the median χ² of a row, beyond which it does not count
RANGE_MOVED = 0.01  # of the range of light, that a detector's curve is not fitted again for
AS_GOOD = 3.0  # log-likelihood by which a richer curve must be better than a simpler one


@dataclass(frozen=True)
class Curved:
    """Curves that were chosen, with the gains and offsets that go with them.

    Attributes
    ----------
    response
        With the curves; its gains are those of the joint fit.
    choice
        Why.
    level
        (n, 2) gain deviation and offset of each row, by the drift that goes with them.
    sample, state
        What they were fitted to, and how.
    bent
        The curvature of single inputs beyond the curves.
    """

    response: Response
    choice: Choice
    level: Float
    sample: Sample
    state: State
    bent: Bent


def fit_curves(
    response: Response,
    observations: Observations,
    fold: NDArray[np.intp],
    followed: Followed,
) -> Curved:
    """Choose and fit the curves of a bench, gains and offsets beside them, drift and bad rows as they are known.

    Parameters
    ----------
    response
        Where to start; its curves are put aside.
    followed
        Drift and bad rows; where the drift is none, its course is fitted anew beside the curves, which change it.
    """
    found = _curved(response, observations, fold, followed)
    if not followed.drift.jumps:
        return found
    # rows of another kind, single inputs before dense ones, jump off a straight line: on a curve they may not
    still = replace(followed.drift, model="still", jumps=())
    steady = _curved(response, observations, fold, replace(followed, level=np.zeros_like(followed.level), drift=still))
    return steady if _likelihood(steady) > _likelihood(found) - AS_GOOD else found


def _curved(response: Response, observations: Observations, fold: NDArray[np.intp], followed: Followed) -> Curved:
    outputs, sample = sample_of(response, observations, fold, followed)
    state = _straight(response, sample, outputs)
    state, sample = _settled(state, sample)
    state, choice = _grow(state, sample)
    again, sample = _settled(state, sample)
    state = again if state.powers == ((), ()) else descend(again, sample)
    level = followed.level + state.drift[_segments(followed)]
    bent = fit_bend(state, sample, observations.n_outputs)
    found = replace(_put(response, bent.state, sample, outputs), bend=_of_bench(bent.bend, response))
    return Curved(found, _with_bend(choice, bent), level, sample, state, bent)


def _likelihood(found: Curved) -> float:
    """Logarithm of the likelihood of the rows of a sample, all of them, at the scatter that each output has."""
    square = (found.state.residual(found.sample) ** 2).mean(axis=0)
    return -0.5 * len(found.sample.readings) * float(np.log(np.maximum(square, 1e-300)).sum())


def _with_bend(choice: Choice, bent: Bent) -> Choice:
    if not bent.reason:
        return choice
    name = choice.chosen
    if bent.bend.powers:
        name = "each input" if name == "none" else f"{name}, each input"
    return replace(choice, chosen=name, reason=f"{choice.reason}; {bent.reason}")


def _of_bench(bend: Bend, response: Response) -> Bend:
    """The gains that a bend of the map of a single detector has through the weights of each output."""
    if not bend.powers or not response.single:
        return bend
    through = response.output_gain[:, None] * response.weights
    return replace(bend, gain=bend.gain * through[None])


def sample_of(
    response: Response, observations: Observations, fold: NDArray[np.intp], followed: Followed
) -> tuple[NDArray[np.intp], Sample]:
    """Outputs and rows that the curves are fitted to: all of them, or evenly spread ones of a large file."""
    single, m, n = observations.single, observations.n_outputs, observations.n_inputs
    bad, level = followed.bad, followed.level
    if followed.drift.model == "still":  # a row's level is that of the others: against its own noise
        level = np.broadcast_to(level.mean(0), level.shape)
    good = int((~bad).sum())
    free = n <= MOST_FREE and good > 2 * n + 20
    width = (n if free else 1) + 16
    outputs = np.arange(1 if single else m)
    if len(outputs) * width**2 * min(good, 1000) > WORK:
        outputs = np.unique(np.linspace(0, m - 1, OUTPUTS).astype(int))
    most = int(np.clip(WORK / (len(outputs) * (width**2 + n)), 500, MOST_ROWS))
    stride = -(-observations.count // most)
    x, y, w, at = [], [], [], []
    for rows in observations.chunks():
        here = np.arange(rows.start, rows.start + len(rows))
        kept = ((here // BLOCK) % stride == 0) & ~bad[here]
        x.append(rows.inputs[kept])
        y.append(columns(rows)[kept][:, outputs])
        at.append(here[kept])
        if rows.output is not None:
            of = rows.output[kept]
            w.append(observations.weights[of] * response.output_gain[of, None])
    index = np.concatenate(at)
    readings = np.concatenate(y)
    one = np.ones_like(readings)
    weights = np.concatenate(w) if w else None
    return outputs, Sample(
        np.concatenate(x), readings, weights, level[index], one, fold[index], free, _segments(followed)[index]
    )


def _segments(followed: Followed) -> NDArray[np.intp]:
    """(n,) rows between jumps, and eighths of a file that drifts; all one where it stands still."""
    n, drift = len(followed.level), followed.drift
    if drift.model == "still":
        return np.zeros(n, np.intp)
    edges = {min(jump.index * followed.block, n) for jump in drift.jumps}
    edges |= set((np.arange(1, PARTS) * n // PARTS).tolist())
    found = np.zeros(n, np.intp)
    found[sorted(edge for edge in edges if edge < n)] = 1
    return np.cumsum(found)


def _straight(response: Response, sample: Sample, outputs: NDArray[np.intp]) -> State:
    """Gains of the response and no curves."""
    if sample.weights is None:
        gain, offset = response.gain[outputs], response.offset[outputs]
    else:
        gain, offset = response.input_map[None], response.offset[:1]
    reach = float(np.abs(sample.x).max()) or 1.0
    inputs = PowerCurve(scale=reach, low=float(sample.x.min()) / reach, high=float(sample.x.max()) / reach)
    return State(gain.copy(), offset.copy(), inputs, PowerCurve(), np.zeros((sample.segments + 1, 2)))


def _settled(state: State, sample: Sample) -> tuple[State, Sample]:
    """Fit, and weigh each output by what its own residuals scatter; rows far off do not count."""
    for _ in range(2):
        state = descend(state, sample)
        residual = state.residual(sample)
        size = np.maximum(1.4826 * np.median(np.abs(residual), axis=0), 1e-9 * np.ptp(sample.readings, axis=0) + 1e-300)
        score = ((residual / size) ** 2).mean(1)
        counts = score <= OUTLYING * max(float(np.median(score)), 1e-300)
        own = (residual[counts] ** 2).mean(0)
        own = np.maximum(own, 1e-18 * np.ptp(sample.readings, axis=0) ** 2 + 1e-300)
        sample = replace(sample, precision=counts[:, None] / own)
    return state, sample


@dataclass(frozen=True)
class _Step:
    """A richer pair of curves and what it promises; ``p_value`` is of the likeliest of all ``tried``."""

    inputs: tuple[float, ...]
    detectors: tuple[float, ...]
    own: bool
    parameters: int
    f: float
    p_value: float
    gained: float
    tried: int

    @property
    def name(self) -> str:
        return name_of(self.inputs, self.detectors, self.own)

    @property
    def chance(self) -> str:
        """In words: not that of its F alone."""
        return p_in_words(self.p_value) + (f" for the likeliest of {self.tried} curves" if self.tried > 1 else "")


def name_of(inputs: tuple[float, ...], detectors: tuple[float, ...], own: bool) -> str:
    """``"input curve"``, ``"detector curve of each output"``, both, or ``"none"``."""
    parts = ["input"] if inputs else []
    parts += ["detector"] if detectors else []
    text = f"{' and '.join(parts)} curve" if parts else "none"
    return text + (" of each output" if own else "")


def _grow(state: State, sample: Sample) -> tuple[State, Choice]:
    """Richer curves as long as an F test wants them and held-out rows are predicted better by what is then fitted."""
    dof = max(int((sample.precision > 0).sum()) - state.gain.size - state.offset.size, 1)
    first, last = None, None
    for _ in range(8):
        steps, held_now = _steps(state, sample, dof)
        first = first or max(steps, key=lambda s: -s.p_value, default=None)
        taken = None
        for step in _ranked(steps)[:4]:
            trial = _reaching(descend(_extended(state, sample, step), sample), sample)
            gained = 0.5 * (held_now - _held_out(trial, sample)) / shared_noise(trial, sample)
            if trial.monotone and gained > AS_GOOD:
                taken = trial, replace(step, gained=gained)
                break
        if taken is None:
            break
        state, last = taken
        # what is left is what the noise is: the next curve is judged by that
        sample = _reweighted(state, sample)
    f_name = f"F({{}}, {dof})"
    if last is None:
        if first is None:
            return state, Choice("none", "none", 0.0, 1.0, "input curve", "too few rows to look for curvature")
        statistic = f_name.format(first.parameters)
        reason = f"no evidence for curvature ({statistic} = {first.f:.2f}, {first.chance})"
        if first.p_value <= LEVEL:
            reason = f"curvature does not predict held-out rows better ({statistic} = {first.f:.2f}, {first.chance})"
        return state, Choice("none", statistic, first.f, first.p_value, first.name, reason)
    own = state.detectors.coefficients.shape[1] > 1
    chosen = name_of(*state.powers, own)
    statistic = f_name.format(last.parameters)
    reason = (
        f"{chosen} ({_in_words(state)}): {statistic} = {last.f:.3g}, {last.chance}, for its last term; "
        f"held-out log-likelihood +{last.gained:.1f}"
    )
    return state, Choice(chosen, statistic, last.f, last.p_value, "none", reason)


def _in_words(state: State) -> str:
    def terms(of: str, found: tuple[float, ...]) -> str:
        return f"{of}: " + ", ".join("a square root" if p == ROOT else f"order {p:g}" for p in sorted(found))

    inputs, detectors = state.powers
    parts = [terms("inputs", inputs)] if inputs else []
    return "; ".join([*parts, *([terms("detectors", detectors)] if detectors else [])])


def _reweighted(state: State, sample: Sample) -> Sample:
    residual, counts = state.residual(sample), sample.precision > 0
    own = (counts * residual**2).sum(0) / np.maximum(counts.sum(0), 1)
    own = np.maximum(own, 1e-18 * np.ptp(sample.readings, axis=0) ** 2 + 1e-300)
    return replace(sample, precision=counts / own)


def _reach(state: State, sample: Sample) -> PowerCurve:
    """A straight detector curve with the range of light of the sample."""
    return state.detectors if state.detectors.powers else _range_of_light(state, sample)


def _range_of_light(state: State, sample: Sample) -> PowerCurve:
    light = state.light(sample)[sample.precision > 0]
    reach = float(np.abs(light).max()) or 1.0
    return PowerCurve(scale=reach, low=float(light.min()) / reach, high=float(light.max()) / reach)


def _reaching(state: State, sample: Sample) -> State:
    """The state with its detectors' curve over the light that there is, which is another than before the curve was.

    Where light lies beyond the range that a curve was begun with, it would go on as a straight line.
    """
    for _ in range(3):
        old = state.detectors
        if not old.powers:
            return state
        fresh = _range_of_light(state, sample)
        low, high = fresh.low * fresh.scale, fresh.high * fresh.scale
        moved_by = max(abs(low - old.low * old.scale), abs(high - old.high * old.scale))
        if moved_by < RANGE_MOVED * (old.high - old.low) * old.scale:
            return state
        v = np.linspace(low, high, 65)[:, None]
        terms = replace(fresh, powers=old.powers, coefficients=np.zeros((len(old.powers), 1))).terms(v)[:, :, 0]
        basis = np.concatenate([np.ones_like(v), v, terms.T], axis=1)
        bent = old.value(np.repeat(v, old.coefficients.shape[1], axis=1)) - v
        coefficients = np.linalg.lstsq(basis, bent, rcond=None)[0][2:]
        moved = replace(fresh, powers=old.powers, coefficients=coefficients)
        trial = descend(replace(state, detectors=moved), sample)
        if not trial.monotone or trial.loss(sample) >= state.loss(sample):
            return state
        state = trial
    return state


def _steps(state: State, sample: Sample, dof: int) -> tuple[list[_Step], float]:
    """What each richer pair of curves promises by the quadratic about the state; and the held-out loss as it is."""
    allowed = [p for p in INPUT_POWERS if p == int(p) or state.inputs.low >= 0]
    more_in = [p for p in allowed if p not in state.inputs.powers]
    more_out = [p for p in DETECTOR_POWERS if p not in state.detectors.powers]
    inputs = replace(
        state.inputs, powers=(*state.inputs.powers, *more_in),
        coefficients=np.concatenate([state.inputs.coefficients, np.zeros((len(more_in), 1))]),
    )  # fmt: skip
    reach = _reach(state, sample)
    detectors = replace(
        reach, powers=(*reach.powers, *more_out),
        coefficients=np.zeros((len(reach.powers) + len(more_out), reach.coefficients.shape[1])),
    )  # fmt: skip
    equations = normal(state, sample, inputs, detectors)
    whole, outputs = equations.whole, state.gain.shape[0]
    q, drifts = len(inputs.powers), 2 * sample.segments

    def masks(
        step_in: tuple[float, ...], step_out: tuple[float, ...], own: bool
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        used = [p in step_in for p in inputs.powers] + [p in step_out for p in detectors.powers] + [True] * drifts
        return np.array([False] * q + [own] * len(detectors.powers) + [False] * drifts, bool), np.array(used, bool)

    def size(step_in: tuple[float, ...], step_out: tuple[float, ...], own: bool) -> int:
        return len(step_in) + len(step_out) * (outputs if own else 1)

    own_now = state.detectors.coefficients.shape[1] > 1
    now = masks(*state.powers, own_now)
    loss_now = equations.loss(whole, equations.step(whole, *now))
    held_now, size_now = equations.held_out(*now), size(*state.powers, own_now)
    found, richer, shared = [], _richer(state, more_in, more_out, outputs), shared_noise(state, sample)
    for step_in, step_out, own in richer:
        step_masks = masks(step_in, step_out, own)
        loss = equations.loss(whole, equations.step(whole, *step_masks))
        extra = size(step_in, step_out, own) - size_now
        f = max(loss_now - loss, 0.0) / extra / max(loss / dof, 1e-300) / shared
        held = equations.held_out(*step_masks)
        chance = min(len(richer) * float(f_sf(f, extra, max(dof - extra, 1))), 1.0)
        found.append(_Step(step_in, step_out, own, extra, f, chance, 0.5 * (held_now - held) / shared, len(richer)))
    return found, held_now


def _richer(
    state: State, more_in: list[float], more_out: list[float], outputs: int
) -> list[tuple[tuple[float, ...], tuple[float, ...], bool]]:
    """Pairs of curves that contain the one of the state, by one term more or a few."""
    (now_in, now_out), own = state.powers, state.detectors.coefficients.shape[1] > 1
    found = [((*now_in, p), now_out, own) for p in more_in]
    found += [((*now_in, *more_in[:2]), now_out, own)] if len(more_in) > 1 else []
    reaches = [more_out[:k] for k in (1, 2) if len(more_out) >= k]
    found += [(now_in, (*now_out, *reach), own) for reach in reaches]
    if outputs > 1 and not own:
        found += [(now_in, (*now_out, *reach), True) for reach in [*([[]] if now_out else []), *reaches]]
    return found


def _ranked(steps: list[_Step]) -> list[_Step]:
    """Steps that a test wants, the one that promises most first; of two that promise as much the simpler."""
    wanted = [s for s in steps if s.p_value < LEVEL and s.gained > AS_GOOD]
    ranked: list[_Step] = []
    while wanted:
        best = max(s.gained for s in wanted)
        near = [s for s in wanted if s.gained > best - max(AS_GOOD, 0.02 * best)]
        ranked.append(min(near, key=lambda s: (s.parameters, -s.gained)))
        wanted.remove(ranked[-1])
    return ranked


def _extended(state: State, sample: Sample, step: _Step) -> State:
    """The state with the terms of a step, still zero."""
    inputs, detectors = state.inputs, _reach(state, sample)
    fresh = len(step.inputs) - len(inputs.powers)
    coefficients = np.concatenate([inputs.coefficients, np.zeros((fresh, 1))])
    inputs = replace(inputs, powers=step.inputs, coefficients=coefficients)
    wide = len(state.gain) if step.own else 1
    old = np.broadcast_to(detectors.coefficients, (len(detectors.powers), wide))
    own = np.concatenate([old, np.zeros((len(step.detectors) - len(old), wide))])
    return replace(state, inputs=inputs, detectors=replace(detectors, powers=step.detectors, coefficients=own))


def _held_out(state: State, sample: Sample) -> float:
    own = own_terms(state, sample)
    return normal(state, sample, state.inputs, state.detectors).held_out(own, np.ones(len(own), bool))


def _put(response: Response, state: State, sample: Sample, outputs: NDArray[np.intp]) -> Response:
    """The response with curves, gains and offsets of a state."""
    detectors = state.detectors
    if detectors.coefficients.shape[1] > 1 and len(outputs) < response.n_outputs:
        # outputs that were not looked at answer as those that were do on average
        all_of = np.repeat(detectors.coefficients.mean(1, keepdims=True), response.n_outputs, axis=1)
        all_of[:, outputs] = detectors.coefficients
        detectors = replace(detectors, coefficients=all_of)
    moved = replace(response, input_curve=state.inputs, detector_curve=detectors)
    if sample.weights is not None:
        u = state.gain[0]
        gain = response.output_gain[:, None] * u * response.weights
        return replace(moved, gain=gain, input_map=u, offset=np.full(response.n_outputs, state.offset[0]))
    gain, offset = response.gain.copy(), response.offset.copy()
    gain[outputs], offset[outputs] = state.gain, state.offset
    return replace(moved, gain=gain, offset=offset)

"""Build a `Response` from what was estimated: gains with their covariance, offsets, and the drift at the end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calibration.response.blocks import AllOutputs, Estimate, OneDetector, prior_scale
from calibration.response.following import Followed
from calibration.response.laws import DriftLaw, NoiseLaw
from calibration.response.model import Response
from calibration.response.observations import Observations, Rows
from calibration.response.structure import Candidate, Selector
from calibration.response.survey import Survey

Float = NDArray[np.float64]

PLENTY = 300  # rows per feature from which on the parameters hardly add to the variance of a reading
FACTOR_VALUES = 4_000_000  # of the parameters' covariance that a response carries


def blank(observations: Observations, seen: Survey, unit_gain: float, light: Float) -> Response:
    """One gain and an offset per output, to start from; ``light`` (M,) is the mean of Σ w x."""
    m, n = observations.weights.shape
    spread = float(np.sqrt(np.mean(seen.variance))) or 1.0
    return Response(
        offset=np.broadcast_to(seen.mean - unit_gain * light, (m,)).copy(),
        gain=unit_gain * observations.weights,
        weights=observations.weights,
        noise=NoiseLaw(spread, 0.0, 0.0, np.ones(m), unit=observations.unit),
        drift=DriftLaw("still", observations.clock, np.zeros(2), np.zeros((2, 2)), 0.0),
        centre=np.zeros((1, n)),
        offset_variance=np.zeros(m),
        factor=np.zeros((1 if observations.single else m, 1, n)),
        row_variance=np.zeros(m),
        interval=np.full(m, 1.96),
        structure={},
        single=observations.single,
        input_range=seen.inputs,
        reading_range=seen.readings,
        unit=observations.unit,
        input_map=np.full(n, unit_gain),
        output_gain=np.ones(m),
        crosstalk=np.zeros((m, m)),
        stderr={"unit_gain": np.array(unit_gain)},
    )


def respond(
    response: Response, selector: Selector, candidate: Candidate, noise: NoiseLaw, *, covariances: bool
) -> Response:
    """Put the gains and offsets of a candidate into a response.

    Parameters
    ----------
    covariances
        Whether to compute the covariance of the parameters, too, which only the last round needs.
    """
    design, e, moments = selector.design, candidate.estimate, selector.all
    unit_gain = float(response.stderr["unit_gain"])
    gain = design.gain(e)
    # an offset of the light is one of the readings, as far as the detector is straight about the mean
    centre_light = response.gain @ moments.mean[: moments.features] if not response.single else None
    intercept = moments.intercept(gain - selector.reference)
    intercept = intercept * _mean_gradient(response, centre_light)
    offset_variance = 1 / (moments.gram[0, 0] * np.diag(selector.omega))
    m = response.n_outputs
    response = replace(response, noise=noise, output_gain=design.output_gain(e))
    errors = {"unit_gain": np.array(unit_gain), "offset": np.sqrt(np.broadcast_to(offset_variance, (m,)))}
    if isinstance(design, OneDetector):
        return _single(response, design, candidate, selector, intercept, offset_variance, errors, covariances)
    if not covariances:
        return replace(
            response, offset=response.offset + intercept, gain=gain, input_map=design.input_map(e) * unit_gain
        )
    factor = _factors(selector, candidate)
    centre = np.broadcast_to(moments.mean[: moments.features], (1, moments.features))
    gain_error = np.sqrt((factor**2).sum(1))
    variances = _block_errors(selector, candidate, unit_gain)
    plenty = moments.rows > PLENTY * moments.features
    spread = moments.s / moments.gram[0, 0]
    mean_variance = np.array([float(((f @ spread) * f).sum()) for f in factor]) if plenty else None
    at_zero = np.array([((factor[i] @ centre[0]) ** 2).sum() for i in range(m)])
    errors |= {"gain": gain_error, "offset": np.sqrt(offset_variance + at_zero), **variances}
    return replace(
        response,
        offset=response.offset + intercept,
        gain=gain,
        centre=centre,
        offset_variance=offset_variance,
        factor=factor,
        mean_variance=mean_variance,
        row_variance=np.zeros(m),
        input_map=design.input_map(e) * unit_gain,
        crosstalk=design.crosstalk(e),
        stderr=errors,
    )


def _mean_gradient(response: Response, light: Float | None) -> Float:
    """(M,) or (1,) gradient of the detectors at the mean light (M,)."""
    curve = response.detector_curve
    if curve.straight:
        return np.ones(1)
    where = np.array([[curve.scale * (curve.low + curve.high) / 2]]) if light is None else light[None]
    return np.asarray(curve.slope(where)[0])


def _single(
    response: Response,
    design: OneDetector,
    candidate: Candidate,
    selector: Selector,
    intercept: Float,
    offset_variance: Float,
    errors: dict[str, Float],
    covariances: bool,
) -> Response:
    e, moments, n, m = candidate.estimate, selector.all, design.n, response.n_outputs
    # a mean output gain belongs to the map: what is left of the outputs' gains is against their mean
    out = response.output_gain
    level = float(out.mean())
    u = design.input_map(e)
    out = out / level
    moved = replace(
        response,
        offset=response.offset + intercept[0],
        gain=out[:, None] * (u * level) * response.weights,
        input_map=u * level,
        output_gain=out,
    )
    if not covariances:
        return moved
    j = design.design(e)
    covariance = j @ e.covariance @ j.T
    shift = np.concatenate([np.eye(n), np.outer(u, np.full(m, 1 / m))], axis=1)
    of_map = shift @ covariance @ shift.T
    against = np.eye(m) - 1 / m
    row_variance = np.einsum("ij,jk,ik->i", against, covariance[n:, n:], against)
    values, vectors = np.linalg.eigh((of_map + of_map.T) / 2)
    kept = values > 1e-12 * max(values[-1], 1e-300)
    factor = (vectors[:, kept] * np.sqrt(values[kept])).T[None]
    if not kept.any():
        factor = np.zeros((1, 1, n))
    centre = moments.mean[None, :n]
    at_zero = ((factor[0] @ centre[0]) ** 2).sum()
    errors |= {
        "input_map": np.sqrt((factor[0] ** 2).sum(0)),
        "output_gain": np.sqrt(np.maximum(row_variance, 0)),
        "offset": np.full(m, float(np.sqrt(offset_variance[0] + at_zero))),
    }
    return replace(
        moved,
        centre=centre,
        offset_variance=np.full(m, offset_variance[0]),
        factor=factor,
        row_variance=np.maximum(row_variance, 0),
        stderr=errors,
    )


def settle(response: Response, followed: Followed, observations: Observations, previous_id: str | None) -> Response:
    """Refer a response to the bench as it was at the end of the file, and note how it was drifting then."""
    d = followed.drift
    last = int(np.argmax(d.at_s))
    gain, offset = d.value[last]
    law = DriftLaw(d.model, observations.clock, d.walk_per_sqrt_s, d.covariance[last], float(d.at_s[last]))
    stderr = {k: v for k, v in response.stderr.items() if k != "unit_gain"}
    return replace(
        response,
        gain=response.gain * (1 + gain),
        input_map=response.input_map * (1 + gain),
        offset=response.offset + offset,
        bend=replace(response.bend, gain=response.bend.gain * (1 + gain)),
        shown=None if response.shown is None else response.shown.scaled(1 + float(gain)),
        drift=law,
        stderr=stderr,
        parent=previous_id,
    )


def features(response: Response, rows: Rows, light: Float) -> Float:
    """(n, p) φ: the inputs behind their curve; of a single detector through the weights, and the light by output."""
    x = response.curved(rows.inputs)
    if rows.output is None:
        return x
    by_output = np.zeros((len(rows), response.n_outputs))
    by_output[np.arange(len(rows)), rows.output] = light[:, 0] / response.output_gain[rows.output]
    return np.concatenate([x * response.weights[rows.output], by_output], axis=1)


def coefficients(response: Response) -> Float:
    """(M, p) what the response has as coefficients of φ; (1, N + M) of a single detector."""
    if not response.single:
        return response.gain
    return np.concatenate([response.input_map, response.output_gain - 1])[None]


def _factors(selector: Selector, candidate: Candidate) -> Float:
    """(M, r, N) matrices F_m with F_mᵀ F_m the covariance of the gains of output m."""
    design, e = selector.design, candidate.estimate
    n = design.n
    most = max(FACTOR_VALUES // (design.m * n), 1)
    if e.extra is not None:
        scale, level = prior_scale(design, e), np.diag(selector.omega)
        roots = []
        for m in range(design.m):
            values, vectors = np.linalg.eigh(scale[m][:, None] * selector.all.s * scale[m])
            spread = 1 / np.sqrt(np.maximum(values, 0) * level[m] + 1 / e.extra_width**2)
            root = (vectors * spread).T * scale[m]
            roots.append(root[:most])
        return np.stack(roots)
    roots = []
    for j, places in design.jacobians(e):
        values, vectors = np.linalg.eigh(e.covariance[np.ix_(places, places)])
        root = (j @ (vectors * np.sqrt(np.maximum(values, 0)))).T[::-1]
        roots.append(root[:most])
    longest = max(len(root) for root in roots)
    return np.stack([np.pad(root, ((0, longest - len(root)), (0, 0))) for root in roots])


def _block_errors(selector: Selector, candidate: Candidate, unit_gain: float) -> dict[str, Float]:
    """Standard errors by the name of a parameter: scale, output gain and crosstalk [1], input map [unit per input]."""
    e, design = candidate.estimate, selector.design
    error = np.sqrt(np.maximum(np.diag(e.covariance), 0))
    found, at = {}, 0
    for b in e.blocks:
        size = len(e.values[b])
        found[b], at = error[at : at + size], at + size
    named: dict[str, Float] = {"scale": found["scale"] / abs(float(e.values["scale"][0]))}
    if "out" in found:
        named["output_gain"] = found["out"]
    if "in" in found:
        named["input_map"] = found["in"] * np.abs(design.input_map(e)) * unit_gain
    if "near" in found:
        named["crosstalk"] = found["near"]
    for b in set(e.blocks) & set(design.pairs):
        named["crosstalk"] = _pair_errors(design, e, b)
    return named


def _pair_errors(design: AllOutputs, e: Estimate, block: str) -> Float:
    """(M, M) standard errors of the crosstalk of each pair, the part that pairs share included."""
    sizes = np.cumsum([0] + [len(e.values[b]) for b in e.blocks])
    at = dict(zip(e.blocks, sizes, strict=False))
    m, n = design.pairs[block].T
    own = at[block] + np.arange(len(m))
    variance = np.diag(e.covariance)[own]
    if "near" in e.blocks:
        beside = np.abs(m - n) == 1
        shared = at["near"] + (n > m)
        both = e.covariance[shared, shared] + 2 * e.covariance[own, shared]
        variance = variance + np.where(beside, both, 0.0)
    x = np.zeros((design.m, design.m))
    x[m, n] = np.sqrt(np.maximum(variance, 0))
    return x

"""The same bench with other weights on it, where a fit knows what one unit of input does whatever its weight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calibration.errors import OutOfDomain
from calibration.response.model import Response

Float = NDArray[np.float64]

SAME = 1e-6  # of the largest gain: by which factors of inputs and outputs must give the gains of the fit
VARIED = 0.1  # of the weights, that must tell a gain in proportion to the weight from any other


def with_weights(response: Response, weights: Float) -> Response:
    """What a fit says of its bench with other weights on it.

    Where the gain is a factor of the input times a factor of the output (`Response.input_map`, `Response.output_gain`),
    it is in proportion to the weight, as the fit has tested over all of its weights. A gain of its own for every pair
    was measured at one weight only: how much of it is the weight's, and how much a leak that is there without it, one
    recording cannot tell.

    Parameters
    ----------
    weights
        (M, N) of all outputs.

    Raises
    ------
    OutOfDomain
        When the fit does not know, and why.
    """
    weights = np.asarray(weights, np.float64)
    known = response.bench_weights
    if weights.shape != known.shape:
        raise _unknown(f"weights {known.shape}, as in the fit", f"weights {weights.shape}")
    fresh, old = weights[response.live], response.weights
    outputs = response.output_gain[:, None]
    mix = np.eye(response.n_outputs) + response.crosstalk
    missed = mix @ (outputs * old * response.input_map) - response.gain
    if np.abs(missed).max() > SAME * np.abs(response.gain).max():
        chosen = response.structure["gain"].chosen if "gain" in response.structure else "full"
        raise _unknown(
            "gains in proportion to the weights: one for all, or by input and output",
            f"{chosen} gains: each was measured at one weight only, and may hold what leaks at none",
        )
    if response.bend.powers or not response.detector_curve.straight:
        raise _unknown(
            "a straight answer of each output", "curves that were measured in the range of the fit's weights"
        )
    if (fresh != old).any() and _varied(response) < VARIED:
        raise _unknown(
            f"a fit to weights that vary by {VARIED:.0%} and more, beyond what gains of inputs and outputs stand for",
            f"weights that vary by {_varied(response):.2%}: whether gains are in proportion to them was not tested",
        )
    unseen = np.argwhere((fresh != 0) & (old == 0))
    if len(unseen) and not response.single:
        m, k = unseen[0]
        raise _unknown("weights that are zero where those of the fit were", f"{fresh[m, k]:g} at output {m}, input {k}")
    gain = np.asarray(mix @ (outputs * fresh * response.input_map))
    ratio = np.abs(gain) / np.maximum(np.abs(response.gain), 1e-12 * np.abs(response.gain).max())
    mean_variance = response.mean_variance
    if mean_variance is not None:
        mean_variance = mean_variance * (gain**2).sum(axis=1) / (response.gain**2).sum(axis=1)
    return replace(
        response,
        gain=gain,
        weights=fresh,
        factor=response.factor if response.single else response.factor * ratio[:, None, :],
        mean_variance=mean_variance,
        shown=None if response.shown is None else response.shown.with_weights(old, fresh),
    )


def _varied(response: Response) -> float:
    """Share of the weights of a fit, in rms, that gains of its inputs and outputs cannot stand for.

    Where all weights of an input are alike, its gain of its own fits whatever the bench does with the weight.
    """
    weights = response.weights
    of_inputs, of_outputs = (_differ(values) for values in (response.input_map, response.output_gain))
    if of_inputs and of_outputs:
        rest = np.linalg.svd(weights, compute_uv=False)[1:]
    elif of_inputs or of_outputs:
        rest = weights - weights.mean(axis=0 if of_inputs else 1, keepdims=True)
    else:
        rest = weights - weights.mean()
    return float(np.sqrt((rest**2).sum() / max(float((weights**2).sum()), 1e-300)))


def _differ(values: Float) -> bool:
    return bool(np.ptp(values) > SAME * np.abs(values).max())


def _unknown(expected: str, seen: str) -> OutOfDomain:
    return OutOfDomain(
        "the fit does not tell what the bench does with other weights",
        action="predict",
        expected=expected,
        seen=seen,
        hint="fit this bench of its own: labctl import FILE, then labctl fit",
    )

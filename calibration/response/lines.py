"""What a fit says in the words of most people's own model: reading = offset + gain · Σ_k w_k x_k, output by output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.response.model import Response


@dataclass(frozen=True)
class OutputLine:
    """One output of the bench: ``reading = offset + gain · Σ_k w_k x_k``, at the end of what was fitted.

    Attributes
    ----------
    output
        Its number on the bench.
    gain, gain_stderr
        The multiple of the weights that comes nearest to what the inputs add, neighbours' light left out
        [unit per unit of Σ w x].
    offset, offset_stderr
        [unit]
    """

    output: int
    gain: float
    gain_stderr: float
    offset: float
    offset_stderr: float


def output_lines(response: Response) -> list[OutputLine]:
    """Gain and offset of every output that answers; errors include how well the drift is known at the end.

    An output whose weights are all zero has no such gain, and is left out.

    Notes
    -----
    With own gains a_k of the inputs, the gain is ``Σ a_k w_k / Σ w_k²``, the least-squares multiple of the weights. A
    gain for each input makes no difference to it as long as these vary about one value.
    """
    w = response.weights
    own = np.linalg.solve(np.eye(response.n_outputs) + response.crosstalk, response.gain)
    levels = np.maximum(np.diag(response.drift.level_covariance), 0)
    offset_variance = np.broadcast_to(np.asarray(response.stderr["offset"], np.float64), response.offset.shape) ** 2
    found = []
    for m, output in enumerate(response.live):
        square = float(w[m] @ w[m])
        if square == 0:
            continue
        gain = float(own[m] @ w[m]) / square
        factor = response.factor[min(m, len(response.factor) - 1)]
        along = w[m] ** 2 * response.output_gain[m] if response.single else w[m]
        variance = float(((factor @ along) ** 2).sum()) / square**2 + gain**2 * levels[0]
        variance += gain**2 * float(response.row_variance[m]) if response.single else 0.0
        offset_error = float(np.sqrt(offset_variance[m] + levels[1]))
        found.append(OutputLine(int(output), gain, float(np.sqrt(variance)), float(response.offset[m]), offset_error))
    return found

"""Fit and predict from arrays, without a file or a run: for a script or a notebook."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from calibration.response.fit import ResponseFit, fit_response
from calibration.response.model import Response
from calibration.response.observations import Observations
from calibration.response.predict import Prediction
from calibration.response.predict import predict as predict_rows


def fit(inputs: ArrayLike, weights: ArrayLike, readings: ArrayLike, **more: Any) -> ResponseFit:
    """Fit gain, crosstalk, curves, noise and drift of a bench to products that somebody measured on it.

    The structure is chosen by the data: a bench without crosstalk comes out as one without.

    Parameters
    ----------
    inputs
        (rows, N) what was shown, in any unit.
    weights
        (M, N) the matrix that stood on the bench for all rows.
    readings
        (rows, M) what was read; or (rows,) when one detector read one output per row.
    more
        ``output``, ``at_s``, ``group`` and ``unit`` of `calibration.response.observations.Observations`.

    Returns
    -------
    The response with its evidence: what was chosen and why, the noise law, bad rows, and held-out figures.

    Raises
    ------
    BadObservations
        When shapes do not belong together or a number is not finite.
    FitError
        When there is too little to fit, or the readings do not follow the inputs.

    Examples
    --------
    >>> import labctl, numpy as np
    >>> rng = np.random.default_rng(1)
    >>> inputs, weights = rng.random((400, 12)), rng.random((4, 12))
    >>> readings = 50 + 100 * inputs @ weights.T + rng.normal(0, 2, (400, 4))
    >>> found = labctl.fit(inputs, weights, readings)
    >>> found.structure["crosstalk"].chosen, found.gate.applied
    ('none', True)
    """
    return fit_response(Observations(inputs, weights, readings, **more))


def predict(response: Response, inputs: ArrayLike, readings: ArrayLike | None = None, **more: Any) -> Prediction:
    """Say what a fitted bench will read, with a 95 % interval, and how well it meets readings if there are any.

    Rows that the rows of the fit do not determine are counted in ``outside`` and named in ``outside_groups``.

    Parameters
    ----------
    response
        From `load_calibration`, or the ``response`` of a `fit`.
    inputs
        (rows, N) in the unit of the fit.
    readings
        (rows, M) as for `fit`: the drift is then followed through them, and each row is predicted from the others.
    more
        ``output``, ``at_s`` and ``group`` of `calibration.response.observations.Observations`.

    Raises
    ------
    OutOfDomain
        When the inputs do not fit the bench.

    Examples
    --------
    >>> import labctl, numpy as np
    >>> response = labctl.load_calibration("response.calib.h5")
    >>> predicted = labctl.predict(response, np.full((3, 12), 0.5))
    >>> predicted.mean.shape, bool((predicted.low95 < predicted.mean).all())
    ((3, 4), True)
    """
    return predict_rows(response, Observations(inputs, response.bench_weights, readings, unit=response.unit, **more))

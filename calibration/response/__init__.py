"""Somebody else's data: how readings answer inputs × weights on a bench that we do not drive."""

from calibration.response.artefact import load_response, save_response
from calibration.response.fit import ResponseFit, fit_response
from calibration.response.gate import ResponseGate
from calibration.response.laws import DriftLaw, NoiseLaw
from calibration.response.model import Expected, Response
from calibration.response.observations import Observations, Rows
from calibration.response.predict import DriftCourse, Prediction

__all__ = [
    "DriftCourse",
    "DriftLaw",
    "Expected",
    "NoiseLaw",
    "Observations",
    "Prediction",
    "Response",
    "ResponseFit",
    "ResponseGate",
    "Rows",
    "fit_response",
    "load_response",
    "save_response",
]

"""Statistics without optics: covariance, choice of structure, drift, random walks, differences, tensors on disk."""

from calibration.statistics.bad_frame import BadFrame, normal_score
from calibration.statistics.choice import Choice, Hypothesis, choose
from calibration.statistics.covariance import Covariance
from calibration.statistics.difference import Family, FamilyDifference, combined_p_value, differences
from calibration.statistics.drift import DriftTrack, Jump, track
from calibration.statistics.random_walk import Posterior
from calibration.statistics.tensors import canonical, check_id, content_id, read_schema, read_tensors, write_tensors

__all__ = [
    "BadFrame",
    "Choice",
    "Covariance",
    "DriftTrack",
    "Family",
    "FamilyDifference",
    "Hypothesis",
    "Jump",
    "Posterior",
    "canonical",
    "check_id",
    "choose",
    "combined_p_value",
    "content_id",
    "differences",
    "normal_score",
    "read_schema",
    "read_tensors",
    "track",
    "write_tensors",
]

"""Statistics without optics: covariance, choice of structure, drift, control charts, differences, tensors on disk."""

from calibration.statistics.bad_frame import BadFrame, normal_score
from calibration.statistics.choice import Choice, Hypothesis, choose
from calibration.statistics.control_chart import Baseline, Point, control_chart
from calibration.statistics.covariance import Covariance
from calibration.statistics.difference import Family, FamilyDifference, combined_p_value, differences
from calibration.statistics.drift import DriftTrack, Jump, track
from calibration.statistics.random_walk import Posterior
from calibration.statistics.tensors import canonical, check_whole, content_id, read_header, read_tensors, write_tensors

__all__ = [
    "BadFrame",
    "Baseline",
    "Choice",
    "Covariance",
    "DriftTrack",
    "Family",
    "FamilyDifference",
    "Hypothesis",
    "Jump",
    "Point",
    "Posterior",
    "canonical",
    "check_whole",
    "choose",
    "combined_p_value",
    "content_id",
    "control_chart",
    "differences",
    "normal_score",
    "read_header",
    "read_tensors",
    "track",
    "write_tensors",
]

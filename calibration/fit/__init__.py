"""From probe frames to a channel: averages, forms of gain and crosstalk, the fits, drift, and frames to leave out."""

from calibration.fit.bad_frames import Deviance, deviance, find_bad_frames
from calibration.fit.channel import ChannelFit, expected_readings, fit_channel, heldout_chi2
from calibration.fit.couplings import fit_couplings
from calibration.fit.noise import NoiseFit, fit_noise, fit_noise_of_repeats
from calibration.fit.run_drift import RunDrift, drift_of_probes, drift_of_run, steady
from calibration.fit.screening import ScreenedFit
from calibration.fit.structured import Tell, untold

__all__ = [
    "ChannelFit",
    "Deviance",
    "NoiseFit",
    "RunDrift",
    "ScreenedFit",
    "Tell",
    "deviance",
    "drift_of_probes",
    "drift_of_run",
    "expected_readings",
    "find_bad_frames",
    "fit_channel",
    "fit_couplings",
    "fit_noise",
    "fit_noise_of_repeats",
    "heldout_chi2",
    "steady",
    "untold",
]

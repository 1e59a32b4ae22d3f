"""What is found out of the bench before numbers are shown: dark signal, gain, timing, registration, regions, LUTs."""

from calibration.bench.dark import Dark, fit_dark
from calibration.bench.lut_fit import LutFit, fit_lut, fit_luts, stray_light
from calibration.bench.photon_transfer import PhotonTransfer, fit_photon_transfer
from calibration.bench.regions import Regions, camera_regions
from calibration.bench.registration import between, draw, grid_centres, register, square_centres
from calibration.bench.timing import Step, StepFit, fit_step

__all__ = [
    "Dark",
    "LutFit",
    "PhotonTransfer",
    "Regions",
    "Step",
    "StepFit",
    "between",
    "camera_regions",
    "draw",
    "fit_dark",
    "fit_lut",
    "fit_luts",
    "fit_photon_transfer",
    "fit_step",
    "grid_centres",
    "register",
    "square_centres",
    "stray_light",
]

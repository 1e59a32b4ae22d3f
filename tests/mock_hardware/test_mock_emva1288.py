"""The mock camera measured with the standard's reference implementation, ``emva1288`` (EMVA 1288, release 4.0).

Photon transfer by exposure time: 36 steps, two frames in light and two in the dark each; spatial values from 40 frames
at half saturation and 40 in the dark, as the standard has them (it asks for 100 or more; tolerances follow).
"""

import logging

import numpy as np
import pytest

from drivers.protocols import OpenContext, Roi
from drivers.registry import open_device

emva = pytest.importorskip("emva1288.process", reason="pip install emva1288")

SIZE = 320
ROI = Roi(20, 20, 280, 280)
PIXELS = ROI.width * ROI.height
STACK = 40
SIGMAS = 4.5
CAMERAS = {
    8: {
        "gain_dn_per_e": 0.02,
        "full_well_e": 12000,
        "read_noise_e": 60,
        "black_level_dn": 6,
        "prnu": 0.01,
        "dsnu_e": 40,
    },
    12: {
        "gain_dn_per_e": 0.4,
        "full_well_e": 9500,
        "read_noise_e": 5,
        "black_level_dn": 100,
        "prnu": 0.006,
        "dsnu_e": 3,
    },
    16: {
        "gain_dn_per_e": 1.5,
        "full_well_e": 40000,
        "read_noise_e": 3,
        "black_level_dn": 500,
        "prnu": 0.004,
        "dsnu_e": 2,
    },
}
QE = 0.6


class Lab:
    """A uniformly lit camera, and its images as the standard wants them."""

    def __init__(self, bits, **camera):
        straight = {"rows": SIZE, "cols": SIZE, "magnification": 1.0, "rotation_deg": 0.0}
        straight |= {"offset_x_px": 0.0, "offset_y_px": 0.0}
        self.chip = {"bit_depth": bits, "rows": SIZE, "cols": SIZE, "quantum_efficiency": QE, **CAMERAS[bits], **camera}
        table = {
            "seed": bits,
            "slm": straight,
            "display": straight,
            "camera": {"dark_current_e_per_s": 20.0, **self.chip},
            "optics": {"beam_radius_px": 1e6, "stray_fraction": 0.0, "ambient_e_per_s": 0.0},
            "source": {"peak_electrons": self.chip["full_well_e"] / 2, "rin_rms": 0.0},  # full well at 20 ms
        }
        context = OpenContext({"mock": table})
        devices = {n: open_device(f"mock.{n}", n, {}, context) for n in ("slm", "display", "camera", "source")}
        self.camera, self.source = devices["camera"], devices["source"]
        self.bench = self.camera.bench
        for panel in ("slm", "display"):
            devices[panel].show(np.full((SIZE, SIZE), 255, np.uint8))
        self.camera.roi = ROI
        self.camera.arm(1, skip=10)
        self.camera.fetch(10.0)

    def images(self, exposure_s, lit, n):
        self.source.on() if lit else self.source.off()
        self.camera.exposure_s = exposure_s
        self.camera.arm(n)
        return list(self.camera.fetch(100.0).frames)

    def photons(self, exposure_s):
        return self.chip["full_well_e"] * exposure_s / 0.020 / QE

    def measured(self):
        """Results of the reference implementation; exposure times in nanoseconds."""
        exposures = np.linspace(0.0006, 0.0225, 36)
        temporal = {}
        for exposure_s in exposures:
            dark, lit = (self._sums(self.images(exposure_s, on, 2)) for on in (False, True))
            temporal[exposure_s * 1e9] = {0.0: dark, self.photons(exposure_s): lit}
        dark, lit = (emva.routines.get_int_imgs(self.images(0.010, on, STACK)) for on in (False, True))
        data = {
            "temporal": temporal,
            "spatial": {0.010 * 1e9: {0.0: dark, self.photons(0.010): lit}},
            "width": ROI.width,
            "height": ROI.height,
        }
        return emva.Results1288(emva.Data1288(data, loglevel=logging.ERROR).data, loglevel=logging.ERROR)

    def _sums(self, images):
        sums = emva.routines.get_int_imgs(images)
        return {"sum": np.sum(sums["sum"]), "pvar": np.sum(sums["pvar"]), "dmean": sums["dmean"]}


@pytest.fixture(scope="module", params=[8, 12, 16], ids=lambda bits: f"{bits} bit")
def lab(request):
    with pytest.MonkeyPatch.context() as patch:  # emva1288 1.0.2 was written for NumPy 1
        patch.setattr(np, "asfarray", lambda a: np.asarray(a, float), raising=False)
        lab = Lab(request.param)
        lab.results = lab.measured()
        lab.k = lab.results.K
        yield lab


def test_system_gain_is_returned(lab):
    top = lab.results.index_sensitivity_max + 1
    x = (lab.results.temporal["u_y"] - lab.results.temporal["u_ydark"])[:top]
    variance = lab.results.temporal["s2_y"][:top]
    stderr = np.sqrt(np.sum(x**2 * 2 * variance**2 / PIXELS)) / np.sum(x**2)  # slope through 0, Var(s²) = 2 σ⁴ / N
    assert lab.k == pytest.approx(lab.chip["gain_dn_per_e"], abs=SIGMAS * stderr)
    assert stderr / lab.k < 0.003


def test_responsivity_is_returned(lab):
    assert pytest.approx(QE * lab.chip["gain_dn_per_e"], rel=0.003) == lab.results.R


def test_dark_noise_is_returned(lab):
    read_e = lab.chip["read_noise_e"]
    stderr = read_e * np.hypot(2 / np.sqrt(2 * PIXELS), 0.003)  # a fit over exposures has twice that of one pair; K
    assert lab.results.sigma_d == pytest.approx(read_e, abs=SIGMAS * stderr)


def test_nonuniformities_are_those_of_the_chip(lab):
    sensor, results = lab.bench.sensor, lab.results
    dsnu_e, prnu = sensor.offset_e.of(ROI).std(ddof=1), sensor.responsivity.of(ROI).std(ddof=1)
    dark_e2 = results.sigma_2_y_stack_dark / lab.k**2 / STACK
    lit_e2 = results.sigma_2_y_stack / lab.k**2 / STACK
    level_e = (results.spatial["avg_mean"] - results.spatial["avg_mean_dark"]) / lab.k
    noise = np.sqrt(2 / PIXELS)  # relative, of a variance over the pixels
    cross = 2 / np.sqrt(PIXELS)  # of pattern and residual noise
    dsnu_stderr = noise * dark_e2 / 2 / dsnu_e + cross * np.sqrt(dark_e2)
    prnu_stderr = (noise * lit_e2 / 2 / (prnu * level_e) + cross * np.sqrt(lit_e2)) / level_e
    seen_dsnu_e, seen_prnu = results.DSNU1288, results.PRNU1288 / 100
    assert seen_dsnu_e == pytest.approx(dsnu_e, abs=SIGMAS * dsnu_stderr)
    assert seen_prnu == pytest.approx(prnu, abs=SIGMAS * prnu_stderr)


def test_saturation_capacity_is_returned(lab):
    """The standard takes the largest variance, which noise puts up to four standard deviations below the full well."""
    full_e = lab.chip["full_well_e"]
    step_e = full_e / 32
    assert full_e - 4 * np.sqrt(full_e) - step_e <= lab.results.u_e_sat <= full_e + step_e


def test_camera_is_linear(lab):
    assert abs(lab.results.LE_min) < 0.5
    assert abs(lab.results.LE_max) < 0.5


def test_variance_grows_with_the_mean_as_the_standard_says(lab):
    """σ_y² = K² σ_d² + 1/12 + K (μ_y − μ_y.dark), point by point."""
    temporal = lab.results.temporal
    top = lab.results.index_sensitivity_max + 1
    k, read_e = lab.chip["gain_dn_per_e"], lab.chip["read_noise_e"]
    signal = (temporal["u_y"] - lab.chip["black_level_dn"])[:top]
    expected = k**2 * read_e**2 + 1 / 12 + k * signal
    assert temporal["s2_y"][:top] == pytest.approx(expected, rel=SIGMAS * np.sqrt(2 / PIXELS))


def spectrum(image, axis):
    """Power along an axis, mean over the other, relative to that of white noise of the same variance."""
    image = image - image.mean()
    power = np.abs(np.fft.rfft(image, axis=axis)) ** 2
    return power.mean(axis=1 - axis)[1:-1] / image.shape[axis] / image.var()


@pytest.mark.parametrize("axis", [0, 1])
def test_spectrum_of_noise_and_nonuniformity_is_white(lab, axis):
    for frames in (lab.images(0.010, True, 2), lab.images(0.010, False, 2)):
        first, second = (frame.astype(float) for frame in frames)
        for image in (first - second, first + second):
            assert spectrum(image, axis) == pytest.approx(1.0, abs=6 / np.sqrt(ROI.width))


def test_row_noise_stands_out_in_the_vertical_spectrum_only():
    first, second = (frame.astype(float) for frame in Lab(12, row_noise_e=5.0).images(0.010, False, 2))
    # a row's common offset adds its variance times the number of columns to the power of its spatial mean
    rows = (first - second).mean(axis=1)
    assert rows.var() / 2 == pytest.approx(
        (0.4 * 5) ** 2 + (0.4 * 5) ** 2 / ROI.width, rel=SIGMAS * np.sqrt(2 / ROI.height)
    )
    assert (first - second).mean(axis=0).var() / 2 == pytest.approx(
        0.16 * 25 / ROI.height, rel=SIGMAS * np.sqrt(2 / ROI.width)
    )


def test_reference_implementation_sees_the_nonlinearity():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "asfarray", lambda a: np.asarray(a, float), raising=False)
        bent = Lab(12, nonlinearity=0.05).measured()
    assert bent.LE_max - bent.LE_min > 2.0

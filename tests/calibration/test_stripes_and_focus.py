"""A panel on a synthetic camera: what the stripes say against the map and the blur that made the picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from everyday import everyday
from scipy import integrate, stats

from calibration.bench.focus import bleed, focus, leak
from calibration.bench.stripes import Seen, locate, stripes
from calibration.machine.layout import apply_homography

PANEL = (240, 320)
CAMERA = (300, 400)


def affine(
    scale: float, turned_deg: float, mirrored: bool = False, shift: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    angle = np.radians(turned_deg)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if mirrored:
        linear = linear @ np.diag([-1.0, 1.0])
    pivot = np.array([(PANEL[1] - 1) / 2, (PANEL[0] - 1) / 2])
    h = np.eye(3)
    h[:2, :2] = linear
    h[:2, 2] = np.array([(CAMERA[1] - 1) / 2, (CAMERA[0] - 1) / 2]) + shift - linear @ pivot
    return h


def seen_through(h: np.ndarray, blur_px: float, polarity: float = 1.0, noise_dn: float = 3.0) -> Seen:
    """Frames of a panel drawn four times too fine, blurred there, warped by OpenCV, with noise and uneven light."""
    rng = np.random.default_rng(5)
    fine = 4
    to_panel = np.array([[1 / fine, 0, (1 / fine - 1) / 2], [0, 1 / fine, (1 / fine - 1) / 2], [0, 0, 1.0]])
    y, x = np.mgrid[: CAMERA[0], : CAMERA[1]]
    beam = 1000 * np.exp(-((x - 180) ** 2 + (y - 170) ** 2) / 300**2)

    def frame(mask: np.ndarray) -> np.ndarray:
        image = np.kron(np.broadcast_to(mask, PANEL), np.ones((fine, fine))).astype(np.float64)
        image = cv2.GaussianBlur(image, (0, 0), blur_px * fine, borderType=cv2.BORDER_CONSTANT)
        warped = cv2.warpPerspective(image, h @ to_panel, CAMERA[::-1], flags=cv2.INTER_AREA)
        return polarity * beam * warped + rng.normal(0, noise_dn, CAMERA)

    pictures = stripes(PANEL)
    differences = np.stack([frame(p.mask(PANEL)) - frame(~p.mask(PANEL)) for p in pictures])
    contrast = frame(np.ones(PANEL, bool)) - frame(np.zeros(PANEL, bool))
    return Seen(PANEL, pictures, differences, contrast, noise_dn * np.sqrt(2))


@pytest.mark.parametrize(
    ("scale", "turned_deg", "mirrored"),
    [
        (1.0, 0.0, False),
        (1.1, 2.0, False),
        (0.9, 180.0, False),
        (1.0, 5.0, True),
        (0.8, 90.0, False),
        (1.0, 177.0, True),
    ],
)
def test_panel_is_found_whatever_the_rotation_or_reflection(scale: float, turned_deg: float, mirrored: bool) -> None:
    truth = affine(scale, turned_deg, mirrored)
    found = locate(seen_through(truth, 0.7))
    assert found is not None
    assert found.mirrored is mirrored
    assert (found.turned_deg - turned_deg + 180) % 360 - 180 == pytest.approx(0, abs=0.1)
    assert found.magnification == pytest.approx(scale, rel=2e-3)
    corners = np.array([[0, PANEL[1] - 1, 0, PANEL[1] - 1], [0, 0, PANEL[0] - 1, PANEL[0] - 1]], float)
    distance = np.subtract(apply_homography(found.panel_to_camera, *corners), apply_homography(truth, *corners))
    assert np.hypot(*distance).max() < 0.5  # a thirtieth of a cell


@pytest.mark.parametrize("blur_px", everyday([0.6, 1.5, 4.0], 0, 1))
def test_blur_is_what_the_picture_was_blurred_with(blur_px: float) -> None:
    seen = seen_through(affine(1.1, 1.0), blur_px)
    located = locate(seen)
    assert located is not None
    found = focus(seen, located)
    assert found is not None
    # the camera's own pixel, of 1/1.1 panel pixels, adds its variance of a twelfth of its width squared
    expected = np.hypot(blur_px, 1 / 1.1 / np.sqrt(12))
    assert found.blur_px == pytest.approx(expected, rel=0.12)


def test_inverted_panel_is_found_as_well() -> None:
    seen = seen_through(affine(1.0, 0.0), 0.7, polarity=-1.0)
    assert np.median(seen.contrast[seen.lit]) < 0
    found = locate(seen)
    assert found is not None
    assert not found.mirrored


def test_part_that_lies_on_the_sensor_is_told() -> None:
    found = locate(seen_through(affine(1.0, 0.0, shift=(200.0, 0.0)), 0.7))
    assert found is not None
    assert found.visible == pytest.approx((CAMERA[1] / 2 - 40) / PANEL[1], abs=0.02)


def test_panel_that_does_not_change_is_not_found() -> None:
    quiet = np.random.default_rng(1).normal(0, 3, (len(stripes(PANEL)), *CAMERA))
    seen = Seen(PANEL, stripes(PANEL), quiet, np.random.default_rng(2).normal(0, 3, CAMERA), 3.0)
    assert locate(seen) is None


@pytest.mark.parametrize(("pitch", "active", "blur"), [(6, 4, 0.8), (8, 8, 1.5), (5, 1, 3.0)])
def test_leak_is_the_integral_of_the_blurred_macropixel(pitch: float, active: float, blur: float) -> None:
    def blurred(x: float) -> float:
        return float(stats.norm.cdf((x + active / 2) / blur) - stats.norm.cdf((x - active / 2) / blur)) / active

    kept, _ = integrate.quad(blurred, -pitch / 2, pitch / 2)
    assert leak(pitch, active, blur) == pytest.approx(1 - kept, abs=1e-9)


@pytest.mark.parametrize(("pitch", "active", "blur"), [(8, 4, 0.8), (8, 4, 4.0), (6, 6, 1.5)])
def test_bleed_is_the_integral_over_the_neighbours_active_parts(pitch: float, active: float, blur: float) -> None:
    def column(x: float) -> float:
        return float(stats.norm.cdf((x + pitch / 2) / blur) - stats.norm.cdf((x - pitch / 2) / blur))

    aside, _ = integrate.quad(column, pitch - active / 2, pitch + active / 2)
    assert bleed(pitch, active, blur) == pytest.approx(2 * aside / active, abs=1e-9)

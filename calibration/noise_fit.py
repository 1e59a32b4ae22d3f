"""Noise of the channel from repeated frames, by maximum likelihood (a photon transfer curve with common light)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from calibration.channel import Noise
from calibration.errors import FitError
from calibration.scan import Readings, repeats

Float = NDArray[np.float64]


def fit_noise(readings: Readings, display_floor: float) -> Noise:
    """Read noise σ, shot noise κ and intensity noise ρ from frames that showed the same thing.

    Within one group of R repeats the contrasts between frames are R − 1 independent normal vectors with
    covariance ``diag(σ² + κ μ) + ρ² (μ + b)(μ + b)ᵀ``: pixels are independent, the source flickers for all outputs at
    once, in the light μ of the channel and in the stray light b.
    The likelihood is exact and cheap (Sherman–Morrison), so ρ is not mistaken for κ.

    Parameters
    ----------
    readings
        Dark-subtracted; uniform display levels with repeats, the darkest and the brightest among them.
    display_floor
        Transmission of the display at gray 0. What the dark display still lets through is light of the channel; only
        what goes past the modulators is offset, and the shot noise of that belongs to σ.

    Raises
    ------
    FitError
        When there are too few repeats or the optimiser does not converge.
    """
    groups = repeats(readings)
    if len(groups) < 2:
        raise FitError(
            "noise needs repeated frames at two light levels at least",
            action="noise",
            expected="≥ 2 groups",
            seen=str(len(groups)),
        )
    offset_dn = _offset(readings, display_floor)
    means, contrasts = [], []
    for group in groups:
        y = readings.dn[group]
        means.append(np.maximum(y.mean(0) - offset_dn, 0.0))
        contrasts.append(_helmert(len(group)) @ y)
    mu = np.stack(means)
    all_light = mu + np.maximum(offset_dn, 0.0)

    def cost(log_theta: Float) -> tuple[float, Float]:
        value, gradient, _ = _likelihood(np.exp(log_theta), mu, all_light, contrasts)
        return value, gradient * np.exp(log_theta)

    start = np.log(_start(mu, contrasts))
    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=[(s - 25, s + 25) for s in start])
    if not np.isfinite(found.fun):
        raise FitError("the noise fit diverged", action="noise", seen=str(found.message))
    theta = np.exp(found.x)
    for _ in range(20):
        _, gradient, information = _likelihood(theta, mu, all_light, contrasts)
        proposal = theta - np.linalg.solve(information, gradient)
        step = np.where(proposal > 0, proposal, theta * 1e-3)
        if np.allclose(step, theta, rtol=1e-10, atol=0):
            break
        theta = step
    covariance = np.linalg.inv(_likelihood(theta, mu, all_light, contrasts)[2])
    sigma, rho = np.sqrt(theta[0]), np.sqrt(theta[2])
    errors = np.sqrt(np.diag(covariance))
    rho_error = min(errors[2] / (2 * rho), np.sqrt(errors[2]))  # a flicker that is not seen is below the second
    stderr = np.array([errors[0] / (2 * sigma), errors[1], rho_error])
    return Noise(float(sigma), float(theta[1]), float(rho), stderr)


def _offset(readings: Readings, display_floor: float) -> Float:
    """(M,) light past the modulators, from ``y = b + L D`` at the darkest and the brightest display [DN]."""
    level = readings.scan.display.mean(axis=1)
    dark, bright = (readings.dn[level == end].mean(axis=0) for end in (level.min(), level.max()))
    return np.asarray((dark - display_floor * bright) / (1 - display_floor))


def _likelihood(theta: Float, mu: Float, all_light: Float, contrasts: list[Float]) -> tuple[float, Float, Float]:
    """Negative log-likelihood, its gradient and the Fisher information in θ = (σ², κ, ρ²)."""
    value, gradient, information = 0.0, np.zeros(3), np.zeros((3, 3))
    for light, flickering, residual in zip(mu, all_light, contrasts, strict=True):
        n = len(residual)
        d = theta[0] + theta[1] * light
        a = flickering / d
        s = float(flickering @ a)
        shrink = theta[2] / (1 + theta[2] * s)
        projected = residual @ a
        value += 0.5 * n * (np.log(d).sum() + np.log1p(theta[2] * s))
        value += 0.5 * float((residual**2 / d).sum() - shrink * (projected**2).sum())
        # C⁻¹ r and the derivatives ∂C = (I, diag μ, (μ + b)(μ + b)ᵀ)
        solved = residual / d - shrink * np.outer(projected, a)
        inverse_diagonal = 1 / d - shrink * a**2
        solved_light = a * (1 - shrink * s)
        for i, derivative in enumerate((np.ones_like(light), light)):
            gradient[i] += 0.5 * n * float(derivative @ inverse_diagonal) - 0.5 * float((solved**2 @ derivative).sum())
        gradient[2] += 0.5 * n * float(flickering @ solved_light) - 0.5 * float(((solved @ flickering) ** 2).sum())
        one, two = np.ones_like(light), light
        inverse2 = np.diag(inverse_diagonal**2)  # the off-diagonal of (C⁻¹)∘(C⁻¹) is the rank-one part below
        cross = shrink**2 * np.outer(a**2, a**2)
        np.fill_diagonal(cross, 0.0)
        hadamard_square = inverse2 + cross
        for i, left in enumerate((one, two)):
            for j, right in enumerate((one, two)):
                information[i, j] += 0.5 * n * float(left @ hadamard_square @ right)
            shared = 0.5 * n * float(left @ solved_light**2)
            information[i, 2] += shared
            information[2, i] += shared
        information[2, 2] += 0.5 * n * float(flickering @ solved_light) ** 2
    return value, gradient, information


def _start(mu: Float, contrasts: list[Float]) -> Float:
    """Rough θ from the darkest and the brightest group."""
    order = np.argsort(mu.sum(1))
    dark, bright = order[0], order[-1]
    read = float((contrasts[dark] ** 2).mean())
    differences = np.diff(contrasts[bright], axis=1)
    shot = float((differences**2).mean()) / 2 / max(float(mu[bright].mean()), 1e-12)
    common = float((contrasts[bright].sum(1) ** 2).mean()) / max(float(mu[bright].sum()) ** 2, 1e-12)
    return np.asarray(np.maximum(np.array([read, shot, common]), 1e-12))


def _helmert(n: int) -> Float:
    """(n − 1, n) orthonormal contrasts."""
    h = np.tril(np.ones((n, n)), -1)[1:]
    rows = np.arange(1, n)
    h[np.arange(n - 1), rows] = -rows
    return np.asarray(h / np.sqrt(rows * (rows + 1.0))[:, None])

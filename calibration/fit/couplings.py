"""Bleed and crosstalk of single macropixels, where common numbers do not tell them: from the coupling scan.

The scan shows the display's columns through a dark SLM, through every third column of macropixels, and through every
third row of them (`calibration.frames.probes.coupling_scan`). In each of these seven lights the map from display
columns to outputs is fitted by itself. As any two lit columns (rows) are three apart, each entry of a map belongs to
one macropixel, to the one before or to the one after it.

One macropixel is then known about as well as one frame tells. Most of what varies has a cause that is known: the beam
is smooth, and where a display column ends on a whole display pixel, up to half a pixel from where it should, the
registration says. Each map is therefore a mixed model, a few such fixed effects and a random one per macropixel (and
per column, as the source's flicker looks like that), whose variances are estimated and whose values are predicted:
C. R. Henderson, Biometrics 31 (1975) 423. A bench without random effects gets the smooth map, one with large ones the
measured map.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from calibration.errors import BadScan, FitError
from calibration.fit.still import over_macropixels, still_light
from calibration.frames.probes import PHASES
from calibration.frames.scan import Readings
from calibration.machine.channel import Channel, Couplings
from calibration.machine.lut import Levels, Lut
from calibration.machine.noise import Noise
from calibration.statistics.covariance import Covariance

Float = NDArray[np.float64]

SMOOTH = 5
VARYING = 2
ROUNDS = 3
EVIDENCE_SIGMAS = 2.3
ALONE_SIGMAS = 5.0
UNTOLD = 1e12
"""What the variance of a macropixel is multiplied by that tells nothing of the others."""


@dataclass(frozen=True)
class Map:
    """A map over macropixels, or over outputs and display columns, with its errors.

    Attributes
    ----------
    value, stderr
        (M, K) estimates, and the standard error that each has of its own.
    common
        (K,) standard error that all rows of a column have in common, from the flicker of the source.
    """

    value: Float
    stderr: Float
    common: Float


def fit_couplings(
    channel: Channel,
    display: Lut,
    slm: Lut,
    scan: Readings,
    edges_px: Float,
    bright: Readings | None = None,
    dark_stderr_dn: Float | float = 0.0,
) -> Channel:
    """The channel with its gain map, offset, bleed and crosstalk replaced by those of single macropixels.

    Parameters
    ----------
    channel
        Fitted with common bleed and crosstalk; its noise stays.
    scan
        Dark-subtracted readings of `calibration.frames.probes.coupling_scan`.
    edges_px
        (p, M, K + 1) moments of where the display's columns begin and end (`Layout.column_edges`).
    bright
        Dark-subtracted readings of `calibration.frames.probes.gain_scan`, which then tell of the gain of each
        macropixel, too; None for the coupling scan alone.
    dark_stderr_dn
        (M,) standard error of the dark signal that was subtracted; it adds to that of the offset [DN].

    Raises
    ------
    BadScan
        When it is another scan.
    FitError
        When its patterns do not determine every column.
    """
    maps, offsets, offset_errors = _lights(display, channel.noise, scan)
    begin, end = edges_px[:, :, :-1], edges_px[:, :, 1:]
    ground = maps[0]
    columns, rows = ([_minus(lit, ground) for lit in part] for part in (maps[1:4], maps[4:]))
    shares = _shares_of_rows(rows)
    parts = _parts_of_columns(columns, *(share.value for share in shares))
    whole = _sum(parts)
    light = whole.value
    gain = blend(whole, smooth_basis(light.shape, SMOOTH))
    before, after = (
        blend(Map(part.value / light, part.stderr / light, part.common / light.mean(axis=0)), edge_basis(edge), inside)
        for part, edge, inside in ((parts[1], begin, slice(1, None)), (parts[2], end, slice(None, -1)))
    )
    dark = blend(ground, edge_basis(end - begin))
    above, below = shares
    lit = 1.0 - slm.floor
    crosstalk, crosstalk_error = _mean_crosstalk(gain, above, below)
    without = still_light(offsets, offset_errors, _drift_of_offset2(scan), crosstalk)
    bleed = [(share, (share.value * gain.value).sum() / gain.value.sum()) for share in (before, after)]
    found = replace(
        channel,
        gain_dn=gain.value / lit,
        gain_stderr_dn=gain.stderr / lit,
        offset_dn=without.offset_dn,
        offset_stderr_dn=np.hypot(without.offset_stderr_dn, dark_stderr_dn),
        crosstalk=crosstalk,
        crosstalk_stderr=crosstalk_error,
        bleed=np.array([mean for _, mean in bleed]),
        bleed_stderr=np.array([np.sqrt((share.stderr**2).sum()) / share.stderr.size for share, _ in bleed]),
        couplings=Couplings(
            before.value,
            after.value,
            above.value,
            below.value,
            dark.value,
            slm.floor,
            np.stack([share.stderr for share in (before, after, above, below)]),
            dark.stderr,
        ),
    )
    if bright is not None:
        found = _with_bright(found, display, slm, bright)
    return found if without.by_third is None else _with_still(found, without.by_third / lit)


def _with_still(channel: Channel, by_third: Float) -> Channel:
    """The channel with light that the display cannot switch off, (M, 3) at full transmission of the SLM [DN]."""
    assert channel.couplings is not None
    still, stderr = over_macropixels(by_third, channel.gain_dn, channel.gain_stderr_dn)
    return replace(channel, couplings=replace(channel.couplings, still_dn=still, still_stderr_dn=stderr))


def _with_bright(channel: Channel, display: Lut, slm: Lut, scan: Readings) -> Channel:
    """The channel with what the display's columns give over a bright SLM taken into its gains and its dark response.

    Each entry of that map is one observation of the sum of what macropixels send there; the gain of its own macropixel
    and the light through a dark SLM take up its innovation by their shares of the variance (R. E. Kalman, J. Basic
    Eng. 82 (1960) 35). The light of the scan as a whole is free, as the source may have drifted between the two.
    """
    c = channel.couplings
    assert c is not None
    seen, _, _ = _light(display, channel.noise, scan.scan.display, scan.dn)
    lit = np.full(channel.shape, slm.transmission[-1])
    expected, error = channel.response(lit), np.zeros(channel.shape)
    for column, one in enumerate(np.eye(channel.shape[1])):
        shown = lit, one[None], np.zeros_like(lit), np.zeros_like(one[None])
        error[:, column] = channel.stated_variance(*shown)[0] - channel.offset_stderr_dn**2
    variance = error + seen.stderr**2 + seen.common**2
    power = (seen.value * expected / variance).sum() / (expected**2 / variance).sum()
    apart = seen.value / power - expected
    slope = (1 - c.before - c.after) * (slm.transmission[-1] - c.dark_transmission)
    # stuck and dead pixels: a macropixel that is none of those that the random effects were estimated from
    alone2 = np.where(apart**2 > ALONE_SIGMAS**2 * variance, (apart / slope) ** 2, 0.0)
    gain2, dark2 = channel.gain_stderr_dn**2 + alone2, c.dark_stderr_dn**2
    variance = variance + slope**2 * alone2
    innovation = apart / variance
    return replace(
        channel,
        gain_dn=channel.gain_dn + slope * gain2 * innovation,
        gain_stderr_dn=np.sqrt(gain2 * (1 - slope**2 * gain2 / variance)),
        couplings=replace(
            c, dark_dn=c.dark_dn + dark2 * innovation, dark_stderr_dn=np.sqrt(dark2 * (1 - dark2 / variance))
        ),
    )


def blend(found: Map, basis: Float, columns: slice = slice(None)) -> Map:
    """Blend a measured map with a smooth one: the best linear unbiased prediction of a mixed model.

    The map is taken as fixed effects, which ``basis`` spans, and random effects of single macropixels and of whole
    columns. Where the random effects turn out to be small against the errors, the result is the smooth map; where they
    are large, it is the measured one. A macropixel that is far beyond both, as stuck and dead pixels make it, tells
    nothing of the others and stays as it was measured.

    Parameters
    ----------
    found
        The measured map and its errors.
    basis
        (M, K, p) fixed effects; several that are linear combinations of each other do no harm.
    columns
        The columns in which there is something to find; the others become 0.
    """
    value, sigma2 = found.value[:, columns], np.maximum(found.stderr[:, columns], 1e-300) ** 2
    effects = basis[:, columns]
    common2 = found.common[columns] ** 2
    columns_first = np.concatenate([effects, value[:, :, None]], axis=2).swapaxes(0, 1)
    own2 = column2 = 0.0
    lone = np.zeros(value.shape, np.bool_)
    for _ in range(ROUNDS):
        own = np.where(lone, UNTOLD, 1.0) * (sigma2 + own2)
        precision = 1.0 / own
        covariance = Covariance.of(own.T, np.ones_like(value.T), common2 + column2)
        white = covariance.whiten(columns_first)
        design, target = white[:, :, :-1].reshape(-1, effects.shape[2]), white[:, :, -1].ravel()
        fixed_covariance = np.linalg.pinv(design.T @ design, rcond=1e-12, hermitian=True)
        fixed = effects @ (fixed_covariance @ (design.T @ target))
        rest = value - fixed
        effect = (rest * precision).sum(axis=0) / precision.sum(axis=0)
        effect2 = common2 + 1.0 / precision.sum(axis=0)
        column2 = _excess(effect**2, effect2)
        rest = rest - effect
        spread2 = (1.4826 * np.median(np.abs(rest))) ** 2
        lone = rest**2 > ALONE_SIGMAS**2 * np.maximum(sigma2, spread2)
        own2 = _excess(rest[~lone] ** 2, sigma2[~lone])
    kept = np.where(lone, 1.0, own2 / (own2 + sigma2))
    real2 = column2 + own2 / len(value)  # what is real in the mean of a column
    kept_column = real2 / (column2 + effect2)
    fixed2 = np.einsum("mkp,pq,mkq->mk", effects, fixed_covariance, effects, optimize=True)
    error2 = kept * sigma2 + kept_column * (column2 + effect2 - real2) + (1.0 - kept) ** 2 * fixed2
    full, stderr = np.zeros_like(found.value), np.zeros_like(found.value)
    full[:, columns], stderr[:, columns] = fixed + kept_column * effect + kept * rest, np.sqrt(error2)
    return Map(full, stderr, np.zeros(found.value.shape[1]))


def _excess(squares: Float, expected: Float) -> float:
    """Mean of ``squares`` beyond their expectation; 0 where chance alone exceeds it once in a hundred times."""
    found = float((squares - expected).mean())
    return found if found > EVIDENCE_SIGMAS * float(expected.mean()) * np.sqrt(2 / expected.size) else 0.0


def smooth_basis(shape: tuple[int, int], degree: int) -> Float:
    """(M, K, p) Legendre polynomials of row and column up to a total degree, as far as the map's size allows.

    The first and the last column have a level of their own: no display column lights them from outside.
    """
    degree = min(degree, min(shape) // 4)
    y, x = (legendre.legvander(np.linspace(-1, 1, n), degree) for n in shape)
    terms = [np.outer(y[:, i], x[:, j]) for i in range(degree + 1) for j in range(degree + 1 - i)]
    ends = [np.outer(y[:, i], np.arange(shape[1]) == end) for end in (0, shape[1] - 1) for i in (0, min(1, degree))]
    return np.asarray(np.stack(terms + ends, axis=2))


def edge_basis(edge_px: Float) -> Float:
    """(M, K, p) smooth effects, and effects of ``edge_px`` (moments, M, K) that vary slowly over the map."""
    shape = edge_px.shape[1], edge_px.shape[2]
    slow = smooth_basis(shape, VARYING)
    varying = [slow * moment[:, :, None] for moment in edge_px]
    return np.concatenate([smooth_basis(shape, SMOOTH), *varying], axis=2)


def _lights(display: Lut, noise: Noise, scan: Readings) -> tuple[list[Map], Float, Float]:
    """Maps from display columns to outputs, one for each SLM pattern, by two passes of weighted least squares.

    With them come the light without the display and its standard error, both (patterns, M) [DN].
    """
    lights = len(scan.scan.slm)
    if lights != 1 + 2 * PHASES:
        raise BadScan("no coupling scan", action="couplings", expected=f"{1 + 2 * PHASES} patterns", seen=str(lights))
    of_pattern = [scan.scan.slm_index == s for s in range(lights)]
    found = [_light(display, noise, scan.scan.display[frames], scan.dn[frames]) for frames in of_pattern]
    return [part[0] for part in found], np.stack([part[1] for part in found]), np.stack([part[2] for part in found])


def _drift_of_offset2(scan: Readings) -> Float:
    """(patterns,) variance of the offset by what is left of its drift, the same for all outputs [DN²]."""
    patterns = range(len(scan.scan.slm))
    if scan.drift_covariance is None:
        return np.zeros(len(patterns))
    return np.array([scan.drift_covariance[scan.scan.slm_index == s, 1, 1].mean() for s in patterns])


def _light(display: Lut, noise: Noise, shown: Levels, dn: Float) -> tuple[Map, Float, Float]:
    """Map from display columns to outputs through one SLM pattern, from display levels (n, K) and readings (n, M).

    With it come the light without the display and its standard error, both (M,) [DN].
    """
    design = np.column_stack([np.ones(len(shown)), display.realise(shown)])
    light = np.maximum(dn - dn[~shown.any(axis=1)].mean(axis=0), 0.0)
    for _ in range(2):
        weighted = design / noise.variance(light).mean(axis=1)[:, None]
        try:
            estimator = np.linalg.solve(weighted.T @ design, weighted.T)  # (K + 1, n)
        except np.linalg.LinAlgError as error:
            raise FitError(
                "the display patterns do not determine every column",
                action="couplings",
                expected=f"independent patterns of {shown.shape[1]} columns",
                seen=f"rank {np.linalg.matrix_rank(design)}",
            ) from error
        solution = estimator @ dn
        light = np.maximum(design[:, 1:] @ solution[1:], 0.0)
    own = np.sqrt(estimator**2 @ noise.own_variance(light))
    flickering = (light + np.maximum(solution[0], 0.0)).mean(axis=1)  # stray light flickers, too
    common = noise.flicker * np.sqrt(estimator**2 @ flickering**2)
    return Map(solution[1:].T, own[1:].T, common[1:]), solution[0], np.hypot(own[0], common[0])


def _mean_crosstalk(gain: Map, above: Map, below: Map) -> tuple[Float, Float]:
    """(M, 2) crosstalk of whole rows and its standard error: shares of macropixels, weighted with their light."""
    m = len(gain.value)
    crosstalk, error = np.zeros((m, 2)), np.zeros((m, 2))
    weight = gain.value / gain.value.sum(axis=1, keepdims=True)
    for side, share, to, source in (
        (0, below, slice(1, None), slice(None, -1)),
        (1, above, slice(None, -1), slice(1, None)),
    ):
        crosstalk[to, side] = (share.value * weight).sum(axis=1)[source]
        error[to, side] = np.sqrt(((share.stderr * weight) ** 2).sum(axis=1))[source]
    return crosstalk, error


def _sum(parts: list[Map]) -> Map:
    value, stderr, common = (
        np.stack([getattr(part, name) for part in parts]) for name in ("value", "stderr", "common")
    )
    return Map(value.sum(axis=0), np.sqrt((stderr**2).sum(axis=0)), np.sqrt((common**2).sum(axis=0)))


def _minus(lit: Map, ground: Map) -> Map:
    return Map(lit.value - ground.value, np.hypot(lit.stderr, ground.stderr), np.hypot(lit.common, ground.common))


def _shares_of_rows(rows: list[Map]) -> tuple[Map, Map]:
    """Shares that regions m−1 and m+1 collect; the flicker of the source is in both terms of a share, and cancels."""
    m, k = rows[0].value.shape
    lit, still = np.arange(m) % PHASES, np.zeros(k)
    index = np.arange(m)
    value, stderr = np.stack([r.value for r in rows]), np.stack([r.stderr for r in rows])
    own = value[lit, index]
    shares = []
    for step in (-1, 1):
        inside = index[(index + step >= 0) & (index + step < m)]
        beside = lit[inside], inside + step
        raw = Map(value[beside] / own[inside], stderr[beside] / own[inside], still)
        smooth = blend(raw, smooth_basis(raw.value.shape, SMOOTH))
        share, error = np.zeros((m, k)), np.zeros((m, k))
        share[inside], error[inside] = smooth.value, smooth.stderr
        shares.append(Map(share, error, still))
    return shares[0], shares[1]


def _parts_of_columns(columns: list[Map], above: Float, below: Float) -> list[Map]:
    """Light of each macropixel from its own display column, from the one before and from the one after it."""
    m, k = columns[0].value.shape
    own = np.arange(k)
    value, stderr, common = (np.stack([getattr(c, n) for c in columns]) for n in ("value", "stderr", "common"))
    parts = []
    for step in (0, -1, 1):
        inside = own[(own + step >= 0) & (own + step < k)]
        lit = inside % PHASES
        raw, error, shared = np.zeros((m, k)), np.zeros((m, k)), np.zeros(k)
        raw[:, inside], error[:, inside] = value[lit, :, inside + step].T, stderr[lit, :, inside + step].T
        shared[inside] = common[lit, inside + step]
        for macropixel in range(k):
            bands = np.ones((3, m))
            bands[0, 1:], bands[2, :-1] = above[1:, macropixel], below[:-1, macropixel]
            raw[:, macropixel] = solve_banded((1, 1), bands, raw[:, macropixel])
        parts.append(Map(raw, error, shared))
    return parts

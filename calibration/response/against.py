"""Two responses against each other: what both say about gain, offset, crosstalk, curves and noise, with its errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calibration.errors import OutOfDomain
from calibration.response.families import families_of
from calibration.response.laws import NoiseLaw
from calibration.response.model import Response
from calibration.response.power_curve import PowerCurve
from calibration.statistics.difference import Family, FamilyDifference, differences

Float = NDArray[np.float64]
Range = tuple[Float, Float]

OF_WEIGHTS = ("gain", "output gain")  # what the weights are part of
UNPROVEN = 2.0  # standard errors of the richer of two fits: what the simpler one may leave out
NOISE_TERMS = ("read noise", "shot noise", "intensity noise")


def compared(a: Response, b: Response) -> tuple[list[FamilyDifference], list[str]]:
    """What both responses describe, compared within the errors of both; and in words why the rest is not.

    Curves and noise laws of different forms are compared by what they say in the range that both were fitted on: the
    bow of a curve in the middle of it, and the scatter of a reading there. The outputs that one of the two left out
    take no part.

    Raises
    ------
    OutOfDomain
        When the benches are of another size, read-out or unit: they share no number.
    """
    _require_alike(a, b)
    kept = np.intersect1d(a.live, b.live)
    apart = sorted({*a.live.tolist(), *b.live.tolist()} - set(kept.tolist()))
    left = [f"output {m}: left out of one of the two" for m in apart]
    a, b = _of_outputs(a, kept), _of_outputs(b, kept)
    same = np.allclose(a.weights, b.weights, rtol=1e-6, atol=1e-9)
    if not same:
        left.append(f"{' and '.join(OF_WEIGHTS)}: other weights stood on the bench, and gains hold them")
    lines, bent = _about_the_middle(a, b)
    families = [[f for f in families_of(r) if _is_shared(f, same)] for r in lines]
    if bent:
        left.append("offset: the bench is curved, so that gains and readings of the middle of the range are compared")
        families = [
            [replace(f, name="reading in the middle") if f.name == "offset" else f for f in of] for of in families
        ]
    families = [[_widened(f, of) for f in mine] for mine, of in zip(families, families[::-1], strict=True)]
    for more, words in (_crosstalk(a, b), _curves(a, b), _noise(a, b)):
        families = [mine + added for mine, added in zip(families, more, strict=True)]
        left += words
    found, others = differences(*families)
    return found, left + others


def _require_alike(a: Response, b: Response) -> None:
    sizes = [f"{len(r.bench_weights)} outputs, {r.weights.shape[1]} inputs" for r in (a, b)]
    kinds = ["one detector" if r.single else "a detector for each output" for r in (a, b)]
    for what, (first, second) in (("size", sizes), ("read-out", kinds), ("unit", (a.unit, b.unit))):
        if first != second:
            raise OutOfDomain(
                f"the two benches are of another {what}: they have nothing to compare",
                device=f"{a.id}, {b.id}",
                expected=f"twice {first}",
                seen=f"the second: {second}",
                hint="labctl calib list shows the bench of each; readings in another unit: labctl import --unit",
            )
    if not set(a.live.tolist()) & set(b.live.tolist()):
        raise OutOfDomain(
            "the two fits have no output in common: they have nothing to compare",
            device=f"{a.id}, {b.id}",
            expected="an output that neither left out",
            seen=f"{a.n_outputs} and {b.n_outputs} others",
            hint="labctl calib list shows the bench of each",
        )


def _of_outputs(r: Response, kept: NDArray[np.intp]) -> Response:
    """What the comparison reads of a response, of some of the bench's outputs alone."""
    at = np.nonzero(np.isin(r.live, kept))[0]
    if len(at) == r.n_outputs:
        return r
    stderr = dict(r.stderr)
    for name, value in r.stderr.items():
        if value.shape == (r.n_outputs, r.n_outputs):
            stderr[name] = value[np.ix_(at, at)]
        elif len(value) == r.n_outputs and name != "input_map":
            stderr[name] = value[at]
    factor = r.factor if len(r.factor) == 1 else r.factor[at]
    detector = r.detector_curve
    if detector.coefficients.shape[1] > 1:
        detector = replace(detector, coefficients=detector.coefficients[:, at])
    shown = r.shown
    if shown is not None and len(shown.middle) > 1:
        lever = shown.leverage
        lever = replace(lever, reach=lever.reach[:, at], curve_covariance=lever.curve_covariance[at])
        shown = replace(shown, leverage=lever, light=shown.light[:, at])
    return replace(
        r, offset=r.offset[at], gain=r.gain[at], weights=r.weights[at], factor=factor, stderr=stderr, shown=shown,
        row_variance=r.row_variance[at], crosstalk=r.crosstalk[np.ix_(at, at)], detector_curve=detector,
    )  # fmt: skip


def _about_the_middle(a: Response, b: Response) -> tuple[tuple[Response, Response], bool]:
    """Both as straight lines about one point in the middle of their ranges, where one of them is curved.

    Where a curve bends, its offset and its gains at no light are not known by themselves, and two forms of one curve
    state others.
    """
    if all(r.input_curve.straight and r.detector_curve.straight for r in (a, b)):
        return (a, b), False
    middle = (max(a.input_range[0], b.input_range[0]) + min(a.input_range[1], b.input_range[1])) / 2
    return (_line_at(a, middle), _line_at(b, middle)), True


def _line_at(r: Response, at: float) -> Response:
    """The response with the gains that it has where every input is ``at``, and with the reading there for an offset."""
    x = np.array([[at]])
    light = r.gain.sum(axis=1) * r.curved(x)[0, 0]
    of_inputs = float(r.input_curve.slope(x)[0, 0])
    of_outputs = r.detector_curve.slope(light[None])[0] * of_inputs
    slopes = np.broadcast_to(of_outputs, light.shape)
    reading = r.offset + r.detector_curve.value(light[None])[0]
    stderr = dict(r.stderr) | {"offset": np.sqrt(r.offset_variance)}
    if "gain" in stderr:
        stderr["gain"] = stderr["gain"] * slopes[:, None]
    if "input_map" in stderr:
        stderr["input_map"] = stderr["input_map"] * of_inputs
    toward = np.array([float(light.mean()), 1.0])
    level = r.drift.level_covariance.copy()
    level[1, 1] = toward @ level @ toward
    factor = r.factor * (slopes[:, None, None] if len(r.factor) == len(slopes) else of_inputs)
    return replace(
        r, gain=r.gain * slopes[:, None], factor=factor, input_map=r.input_map * of_inputs, offset=reading,
        stderr=stderr, drift=replace(r.drift, level_covariance=level),
    )  # fmt: skip


def _widened(mine: Family, others: list[Family]) -> Family:
    """A family of the simpler structure with errors that hold what its rows could not prove.

    The simpler of two structures was taken because what it leaves out was not proven, not because it is not there.
    """
    other = next((f for f in others if f.name == mine.name), None)
    if other is None or mine.free >= other.free or other.stderr.shape != mine.stderr.shape:
        return mine
    return replace(mine, stderr=np.hypot(mine.stderr, UNPROVEN * other.stderr))


def _is_shared(family: Family, same_weights: bool) -> bool:
    """Whether a family is compared as it is: crosstalk is told by neighbours, one law of noise by what it says."""
    return family.name not in (*NOISE_TERMS, "crosstalk") and (same_weights or family.name not in OF_WEIGHTS)


Both = tuple[list[list[Family]], list[str]]


def _crosstalk(a: Response, b: Response) -> Both:
    """The neighbours' share, in whatever form; where only one fit has any, the other says that there is none."""
    full = [_in_full_gain(r) for r in (a, b)]
    if any(full):
        which = "both" if all(full) else "the first" if full[0] else "the second"
        return [[], []], [f"crosstalk: in the full gain of {which}, and compared there"]
    pairs = [_pairs(r) for r in (a, b)]
    if not any(error.any() for _, error, _ in pairs):
        return [[], []], []
    m = a.n_outputs
    apart = np.abs(np.subtract.outer(np.arange(m), np.arange(m)))
    found: list[list[Family]] = [[], []]
    for name, where in (("crosstalk", apart == 1), ("crosstalk beyond neighbours", apart > 1)):
        if any(error[where].any() for _, error, _ in pairs):
            for mine, (values, error, free) in zip(found, pairs, strict=True):
                known = int((error[where] > 0).sum())
                mine.append(Family(name, "1", values[where], error[where], min(free, known)))
    return [[_widened(f, of) for f in mine] for mine, of in zip(found, found[::-1], strict=True)], []


def _in_full_gain(r: Response) -> bool:
    choice = r.structure.get("crosstalk")
    return choice is not None and choice.chosen == "in the full gain"


def _pairs(r: Response) -> tuple[Float, Float, int]:
    """(M, M) shares and their errors, and how many free numbers these are."""
    values, error = r.crosstalk, np.zeros_like(r.crosstalk)
    if "crosstalk" not in r.stderr:
        return np.zeros_like(values), error, 0
    own = np.asarray(r.stderr["crosstalk"], np.float64)
    if own.shape == values.shape:
        return values, own, int((own > 0).sum())
    ones = np.ones(r.n_outputs - 1)
    return values, np.diag(own[0] * ones, -1) + np.diag(own[1] * ones, 1), own.size


def _curves(a: Response, b: Response) -> Both:
    """How far each curve bows away from its chord, over the range that both fits were shown."""
    if a.shown is None or b.shown is None:
        return [[], []], ["curves: one of the fits is from before the errors of curves were kept"]
    if a.bend.powers or b.bend.powers:
        return [[], []], ["curves: one of the fits has a curvature of each input, whose errors are not kept"]
    light = np.maximum(a.shown.light[0], b.shown.light[0]), np.minimum(a.shown.light[1], b.shown.light[1])
    inputs = max(a.input_range[0], b.input_range[0]), min(a.input_range[1], b.input_range[1])
    if inputs[0] >= inputs[1] or (light[0] >= light[1]).any():
        return [[], []], ["curves: the two fits were shown other ranges of inputs or light"]
    shown: Range = np.array([inputs[0]]), np.array([inputs[1]])
    return [[*_bows(r, shown, light)] for r in (a, b)], []


def _bows(r: Response, inputs: Range, light: Range) -> list[Family]:
    """Bow of the inputs' curve (1,), and of the detectors' (M,), relative to the range [1]."""
    assert r.shown is not None
    lever = r.shown.leverage
    variance = np.diagonal(lever.curve_covariance, axis1=1, axis2=2).T / lever.reach**2
    half = (inputs[1] - inputs[0]) / 2, (light[1] - light[0]) / 2
    of_inputs = np.sqrt(1 / np.sum(1 / np.maximum(variance[0], 1e-300))) * half[0] / 2
    of_detectors = np.sqrt(variance[1]) * half[1] / 2
    detectors = _bow(r.detector_curve, light)
    return [
        Family("input curve", "1", _bow(r.input_curve, inputs), of_inputs, 1),
        Family("detector curve", "1", detectors, np.broadcast_to(of_detectors, detectors.shape), len(of_detectors)),
    ]


def _bow(curve: PowerCurve, over: Range) -> Float:
    low, middle, high = (curve.value(v[None])[0] for v in (over[0], (over[0] + over[1]) / 2, over[1]))
    return np.asarray((middle - (low + high) / 2) / np.where(high == low, 1.0, high - low))


def _noise(a: Response, b: Response) -> Both:
    """Each term where both laws have the same, and what the laws say of a reading in the middle of the range."""
    found: list[list[Family]] = []
    terms = [{f.name: f for f in families_of(r) if f.name in NOISE_TERMS} for r in (a, b)]
    level = min(float(r.reading_range[1] - r.offset.min()) for r in (a, b)) / 2
    for r, mine in zip((a, b), terms, strict=True):
        found.append([_scatter(r.noise, level)] if mine else [])
        found[-1] += list(mine.values()) if set(terms[0]) == set(terms[1]) else []
    laws = [" + ".join(name.removesuffix(" noise") for name in mine) or "none" for mine in terms]
    same = laws[0] == laws[1]
    return found, [] if same else [f"terms of the noise: {laws[0]} in the first, {laws[1]} in the second"]


def _scatter(law: NoiseLaw, level: float) -> Family:
    """Standard deviation of a reading at a level above the offset; its error as if those of the terms were apart."""
    sd = float(np.sqrt(law.variance(np.array(level))))
    slopes = {"read": 2 * law.read, "shot": level, "intensity": 2 * law.intensity * level**2}
    error = float(np.sqrt(sum((slope * law.stderr.get(name, 0.0)) ** 2 for name, slope in slopes.items())))
    return Family("scatter of a reading", law.unit, np.array([sd]), np.array([error / (2 * sd)]), 1)

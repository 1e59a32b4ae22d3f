"""Two calibrations, family by family: is it the same bench, and if not, what has changed?

A calibration is seen as families of numbers with standard errors. Another kind of calibration joins in by a function
that returns its `Family` list.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from calibration.machine.artefact import Calibration
from calibration.machine.layout import apply_homography

Float = NDArray[np.float64]

SIGNIFICANCE = 0.001
SIGMAS = 3.3


@dataclass(frozen=True)
class Family:
    """Parameters of one kind.

    Attributes
    ----------
    name, unit
        ``"gain"``, ``"DN"``.
    values, stderr
        Of any shape, the same for both; what has no error is a constant and is left out of the tests.
    free
        How many of them were fitted freely: a smooth gain map has a few dozen numbers, and 16,384 entries [1].
    common_stderr
        Relative error that all share, of the source's flicker [1].
    scaled
        Whether one factor on all of them means something.
    alike
        Whether the errors may be those of one common reference, so that a mean is known no better than one entry.
    """

    name: str
    unit: str
    values: Float
    stderr: Float
    free: int
    common_stderr: float = 0.0
    scaled: bool = False
    alike: bool = False


@dataclass(frozen=True)
class FamilyDifference:
    """One family in two calibrations.

    Attributes
    ----------
    name, unit, parameters
        Of the family; entries compared.
    mean_a, mean_b
        Means over the entries.
    difference, stderr, z
        Of the means, b − a, its standard error, and their ratio.
    largest_z
        Of the entry that has changed most.
    chi2_per_dof, p
        Of all entries against no change.
    factor, factor_stderr
        Common factor b/a − 1; None where one means nothing.
    changed
        Whether anything has, at one in a thousand.
    """

    name: str
    unit: str
    parameters: int
    mean_a: float
    mean_b: float
    difference: float
    stderr: float
    z: float
    largest_z: float
    chi2_per_dof: float
    p: float
    factor: float | None
    factor_stderr: float | None
    changed: bool

    @property
    def words(self) -> str:
        """``gain: 16,384 parameters, χ²/dof 1.03, p 0.2: the same; common factor −0.31 ± 0.02 %: changed``"""
        same = "changed" if self.p < SIGNIFICANCE else "the same"
        many = f"{self.parameters:,} parameter{'s' if self.parameters > 1 else ''}"
        text = f"{self.name}: {many}, χ²/dof {self.chi2_per_dof:.3g}, p {self.p:.2g}: {same}"
        if self.factor is None or self.factor_stderr is None:
            return text
        moved = abs(self.factor) > SIGMAS * self.factor_stderr
        word = "changed" if moved else "the same"
        return f"{text}; common factor {100 * self.factor:+.3g} ± {100 * self.factor_stderr:.2g} %: {word}"


def families(calibration: Calibration) -> list[Family]:
    """Every family of a machine's calibration."""
    m, c = calibration.machine, calibration.machine.channel
    outputs, inputs = c.shape
    evidence = calibration.evidence
    gain = evidence.get("gain") or {}
    chosen = [x for x in gain.get("candidates", []) if x.get("structure") == gain.get("structure")]
    free_gain = int(chosen[0]["parameters"]) if chosen else c.gain_dn.size
    common = (evidence.get("crosstalk") or {}).get("structure") == "common"
    edge = np.ones((outputs, 2), np.bool_)
    edge[0, 0] = edge[-1, 1] = False
    flicker = c.noise.flicker / np.sqrt(2 * inputs)  # of the mean over the gain scan's 2K frames
    noise = np.array([c.noise.read_dn, c.noise.shot_dn, c.noise.flicker])
    found = [
        Family("gain", "DN", c.gain_dn, c.gain_stderr_dn, free_gain, flicker, True),
        Family("offset", "DN", c.offset_dn, c.offset_stderr_dn, c.offset_dn.size),
        Family(
            "crosstalk", "1", c.crosstalk[edge], c.crosstalk_stderr[edge], 2 if common else int(edge.sum()), 0, True
        ),
        Family("bleed", "1", c.bleed, c.bleed_stderr, 2, 0, True),
        *(
            Family(name, unit, noise[i : i + 1], c.noise.stderr[i : i + 1], 1)
            for i, (name, unit) in enumerate((("read noise", "DN"), ("system gain", "DN/e-"), ("intensity noise", "1")))
        ),
        Family("display LUT", "1", m.display.transmission, m.display.stderr, m.display.transmission.size, alike=True),
        Family("SLM LUT", "1", m.slm.transmission, m.slm.stderr, m.slm.transmission.size, alike=True),
    ]
    if dark := evidence.get("dark"):
        level, stderr = (np.array([float(dark[key])]) for key in ("level_dn", "level_stderr_dn"))
        found.append(Family("dark level", "DN", level, stderr, 1))
    for panel, r in calibration.registrations.items():
        x, y = apply_homography(r.panel_to_camera, r.points_px[:, 0], r.points_px[:, 1])
        where = np.stack([x, y])
        free = 6 if r.model == "affine" else 8
        found.append(
            Family(
                f"{'SLM' if panel == 'slm' else panel} geometry",
                "px",
                where,
                np.full_like(where, r.map_stderr_px),
                free,
            )
        )
    return found


def differences(a: list[Family], b: list[Family]) -> tuple[list[FamilyDifference], list[str]]:
    """Families that both have in one shape and unit, compared; and in words why others are not."""
    theirs = {family.name: family for family in b}
    found, left = [], []
    for family in a:
        other = theirs.pop(family.name, None)
        if other is None:
            left.append(f"{family.name}: only in the first")
        elif other.values.shape != family.values.shape:
            left.append(f"{family.name}: shape {family.values.shape} in the first, {other.values.shape} in the second")
        elif other.unit != family.unit:
            left.append(f"{family.name}: in {family.unit} in the first, in {other.unit} in the second")
        else:
            found.append(_difference(family, other))
    return found, left + [f"{name}: only in the second" for name in theirs]


def _difference(a: Family, b: Family) -> FamilyDifference:
    """χ² of N correlated entries, which scatter as that of their effective number (Satterthwaite).

    With p free numbers the N errors fill p dimensions evenly; the simpler of two structures lies within the richer.
    """
    variance = (a.stderr**2 + b.stderr**2).ravel()
    known = variance > 0
    x, y, v = a.values.ravel()[known], b.values.ravel()[known], variance[known]
    n = max(len(v), 1)
    simple, rich = sorted((a, b), key=lambda family: family.free)
    s1, s2 = (float((family.stderr.ravel()[known] ** 2).sum()) for family in (simple, rich))
    p1, p2 = (min(max(family.free, 1), n) for family in (simple, rich))
    spread = s1**2 / p1 + (2 * s1 * s2 + s2**2) / p2
    dof = (s1 + s2) ** 2 / spread if spread > 0 else 1.0
    z = (y - x) / np.sqrt(v)
    chi2_per_dof = float((z**2).sum() / n)
    p = float(stats.chi2.sf(chi2_per_dof * dof, dof)) if len(v) else 1.0
    mean_a, mean_b = float(a.values.mean()), float(b.values.mean())
    flicker = float(np.hypot(a.common_stderr, b.common_stderr))
    averaged = 1.0 if a.alike else dof
    stderr = float(np.hypot(np.sqrt(v.mean() / averaged), flicker * mean_a)) if len(v) else 0.0
    factor = factor_stderr = None
    if a.scaled and len(v) and (x**2 / v).sum() > 0:
        information = float((x**2 / v).sum())
        factor = float((x * (y - x) / v).sum() / information)
        factor_stderr = float(np.hypot(np.sqrt(n / dof / information), flicker))
    difference = mean_b - mean_a
    moved = factor is not None and factor_stderr is not None and abs(factor) > SIGMAS * factor_stderr
    return FamilyDifference(
        a.name,
        a.unit,
        int(a.values.size),
        mean_a,
        mean_b,
        difference,
        stderr,
        difference / stderr if stderr else 0.0,
        float(z[np.argmax(np.abs(z))]) if len(z) else 0.0,
        chi2_per_dof,
        p,
        factor,
        factor_stderr,
        bool(p < SIGNIFICANCE or moved),
    )

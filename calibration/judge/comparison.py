"""Two calibrations before the same held-out readings: which one predicts them better, and how sure is that?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.fit.bad_frames import deviance
from calibration.frames.scan import Readings
from calibration.frames.schedule import predicted
from calibration.machine.machine import Machine

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """A new calibration against the one before.

    Attributes
    ----------
    chi2_per_dof, chi2_per_dof_before
        Of the readings under each, the source's flicker as the one pattern that it is [1].
    difference, stderr
        −2 log likelihood per reading, before − new, and its standard error over products: positive where the new one
        predicts better. Where both have the same noise it is the difference of the χ² [1].
    products
        Products and probe frames compared.
    """

    chi2_per_dof: float
    chi2_per_dof_before: float
    difference: float
    stderr: float
    products: int


def compare(
    new: Machine, before: Machine, scans: Sequence[Readings], owners: Sequence[NDArray[np.int64]]
) -> Comparison:
    """Predict the same readings twice, and compare them in pairs.

    Frames of one product share their operands and so what each calibration misses of them: the pairs are products.

    Parameters
    ----------
    scans
        Dark-subtracted readings that neither calibration was fitted to.
    owners
        For each scan (n,): which product a frame belongs to; negative frames are left out.
    """
    mine: list[Float] = []
    theirs: list[Float] = []
    product = []
    for scan, owner in zip(scans, owners, strict=True):
        kept = owner >= 0
        for machine, into in ((new, mine), (before, theirs)):
            mean, _ = predicted(machine, scan.scan)
            found = deviance(scan.dn, mean, machine.channel.offset_dn, machine.channel.noise)
            into.append(np.stack([found.chi2, found.chi2 + found.log_det], axis=1)[kept] / scan.dn.shape[1])
        product.append(owner[kept])
    a, b = np.concatenate(mine), np.concatenate(theirs)
    _, index, frames = np.unique(np.concatenate(product), return_inverse=True, return_counts=True)
    gain = np.bincount(index, b[:, 1] - a[:, 1])  # (products,) Σ over the frames of each
    n, difference = len(frames), float(gain.sum() / frames.sum())
    spread = float(((gain - difference * frames) ** 2).sum())
    stderr = float(np.sqrt(spread * n / max(n - 1, 1)) / frames.sum())
    return Comparison(float(a[:, 0].mean()), float(b[:, 0].mean()), difference, stderr, n)

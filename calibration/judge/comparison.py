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
class PairedComparison:
    """A new calibration against the one before, each of which predicted the same held-out readings.

    Attributes
    ----------
    difference, stderr
        Mean loss per reading, before − new, and its standard error over the pairs: positive where the new calibration
        predicts better. The loss is −2 log likelihood, so that 1 is the noise of a reading; where both calibrations
        state the same noise, the difference is that of their χ² [1].
    new, before
        The figure by which people know each calibration, over the same readings.
    pairs
        Independent units that both calibrations predicted, of which ``stderr`` is the scatter.
    figure
        What ``new`` and ``before`` are, in words.
    """

    difference: float
    stderr: float
    new: float
    before: float
    pairs: int
    figure: str = "χ² per reading"


def paired_difference(new: Float, before: Float, owner: NDArray[np.int64]) -> tuple[float, float, int]:
    """Mean loss of the calibration before less that of the new one, its standard error, and the number of pairs.

    Losses that have an owner in common (the frames of one product, the rows of one block) need not be independent:
    their sum is one term of the scatter from which the standard error comes.

    Parameters
    ----------
    new, before
        (n,) losses under the two calibrations, of the same readings.
    owner
        (n,) which pair each belongs to.
    """
    _, index, sizes = np.unique(owner, return_inverse=True, return_counts=True)
    gain = np.bincount(index, before - new)  # (pairs,) Σ over the readings of each
    pairs, difference = len(sizes), float(gain.sum() / sizes.sum())
    spread = float(((gain - difference * sizes) ** 2).sum())
    return difference, float(np.sqrt(spread * pairs / max(pairs - 1, 1)) / sizes.sum()), pairs


def compare(
    new: Machine, before: Machine, scans: Sequence[Readings], owners: Sequence[NDArray[np.int64]]
) -> PairedComparison:
    """Let two machines predict the same readings, and compare them product by product.

    Frames of one product share their operands, and so share what each calibration misses of them: a pair is a product,
    or a probe frame.

    Parameters
    ----------
    scans
        Dark-subtracted readings that neither calibration was fitted to.
    owners
        For each scan (n,): which product a frame belongs to; negative frames are left out.
    """
    losses = [
        np.concatenate([_losses(machine, scan)[owner >= 0] for scan, owner in zip(scans, owners, strict=True)])
        for machine in (new, before)
    ]
    product = np.concatenate([owner[owner >= 0] for owner in owners])
    difference, stderr, pairs = paired_difference(losses[0][:, 1], losses[1][:, 1], product)
    return PairedComparison(difference, stderr, float(losses[0][:, 0].mean()), float(losses[1][:, 0].mean()), pairs)


def _losses(machine: Machine, readings: Readings) -> Float:
    """(n, 2) χ² and −2 log likelihood of each frame, over its number of outputs."""
    mean, _ = predicted(machine, readings.scan)
    found = deviance(readings.dn, mean, machine.channel.offset_dn, machine.channel.noise)
    return np.asarray(np.stack([found.chi2, found.chi2 + found.log_det], axis=1) / readings.dn.shape[1])

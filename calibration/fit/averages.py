"""All probe scans of a bench as one set of frames: equal ones averaged, in transmissions and not in levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.frames.scan import Readings
from calibration.machine.channel import apply_bleed
from calibration.machine.lut import Levels, Lut
from calibration.machine.noise import Noise
from calibration.statistics.covariance import Covariance

Float = NDArray[np.float64]

ENTRIES_MAX = 16


@dataclass(frozen=True)
class Entries:
    """The look-up table entries that frames use and that are known no better than their standard errors.

    Attributes
    ----------
    display, slm
        (F, K) and (s, M, K): which entry a column or macropixel shows, −1 where its transmission is exact.
    stderr
        (L,) of the entries' transmissions [1].
    """

    display: NDArray[np.int64]
    slm: NDArray[np.int64]
    stderr: Float

    def __len__(self) -> int:
        return len(self.stderr)


@dataclass(frozen=True)
class Frames:
    """The different frames of all scans, and for each the mean of its readings over the repeats.

    Nothing else of the scans is needed to fit the mean of the channel.

    Attributes
    ----------
    slm
        (s, M, K) transmissions of the different SLM patterns [1].
    slm_index
        (F,) which of them a frame shows.
    display
        (F, K) transmissions of the columns [1].
    dn
        (F, M) dark-subtracted readings, averaged over repeats [DN].
    count
        (F,) repeats.
    scan
        (F,) which scan a frame belongs to, an index into ``names``.
    names
        Of the scans.
    entries
        `Entries`
    """

    slm: Float
    slm_index: NDArray[np.int64]
    display: Float
    dn: Float
    count: Float
    scan: NDArray[np.int64]
    names: tuple[str, ...]
    entries: Entries

    def __len__(self) -> int:
        return len(self.slm_index)

    @property
    def shape(self) -> tuple[int, int]:
        """(M, K)"""
        return self.slm.shape[1], self.slm.shape[2]

    def at(self, deviations: Float) -> Frames:
        """The same frames with the entries' transmissions moved by (L,) ``deviations``; an empty one moves none."""
        if not deviations.size:
            return self
        moved = np.append(deviations, 0.0)
        return replace(self, display=self.display + moved[self.entries.display], slm=self.slm + moved[self.entries.slm])

    def entry_slopes(self, members: NDArray[np.intp], gain: Float, bleed: Float, shown: Float) -> Float:
        """(L, n, M): light of frames with one SLM pattern by the entries' transmissions; ``shown`` is their B D."""
        found = np.zeros((len(self.entries), len(members), self.shape[0]))
        s = self.slm_index[members[0]]
        for j in range(len(found)):
            columns, macropixels = self.entries.display[members] == j, self.entries.slm[s] == j
            if columns.any():
                found[j] += apply_bleed(bleed, columns.astype(np.float64)) @ (gain * self.slm[s]).T
            if macropixels.any():
                found[j] += shown @ (gain * macropixels).T
        return found

    def patterns(self) -> list[NDArray[np.intp]]:
        """Frames (indices) of each SLM pattern."""
        return [np.nonzero(self.slm_index == s)[0] for s in range(len(self.slm))]


def stack(scans: Mapping[str, Readings], display: Lut, slm: Lut) -> Frames:
    """Average equal frames within each scan; equal SLM patterns of different scans become one."""
    patterns: dict[bytes, int] = {}
    levels, index, shown, dn, count, origin = [], [], [], [], [], []
    for number, readings in enumerate(scans.values()):
        scan = readings.scan
        pattern_of = []
        for pattern in scan.slm:
            key = pattern.tobytes()
            if key not in patterns:
                patterns[key] = len(patterns)
                levels.append(pattern)
            pattern_of.append(patterns[key])
        groups: dict[tuple[int, bytes], list[int]] = {}
        for i, s in enumerate(scan.slm_index):
            groups.setdefault((pattern_of[s], scan.display[i].tobytes()), []).append(i)
        for (s, _), members in groups.items():
            index.append(s)
            shown.append(scan.display[members[0]])
            dn.append(readings.dn[members].mean(axis=0))
            count.append(float(len(members)))
            origin.append(number)
    return Frames(
        slm.realise(np.stack(levels)),
        np.array(index),
        display.realise(np.stack(shown)),
        np.stack(dn),
        np.array(count),
        np.array(origin),
        tuple(scans),
        _entries(display, slm, np.stack(shown), np.stack(levels)),
    )


def _entries(display: Lut, slm: Lut, shown: Levels, patterns: Levels) -> Entries:
    """An entry for each gray level whose transmission is uncertain, for a panel that shows few levels.

    Where a panel shows many levels, as random patterns do, the errors of single entries average out, and none is kept.
    """
    stderr: list[float] = []
    places = []
    for lut, levels in ((display, shown), (slm, patterns)):
        number = np.full(len(lut.stderr), -1)
        used = np.unique(levels)
        if len(used) <= ENTRIES_MAX:
            for level in used[lut.stderr[used] > 0]:
                number[level] = len(stderr)
                stderr.append(float(lut.stderr[level]))
        places.append(number[levels])
    return Entries(places[0], places[1], np.array(stderr))


def covariance_of_means(noise: Noise, light_dn: Float, offset_dn: Float, count: Float) -> Covariance:
    """Covariance of the frames' means over their repeats.

    Parameters
    ----------
    light_dn
        (F, M) expected light above the offset [DN].
    offset_dn
        (M,) light past the modulators, which flickers with the rest [DN].
    count
        (F,) repeats of each frame.
    """
    own = noise.own_scatter(light_dn)
    return Covariance.of(own / count[:, None], np.maximum(light_dn, 0.0) + offset_dn, noise.flicker**2 / count)

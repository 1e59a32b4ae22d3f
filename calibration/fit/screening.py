"""The channel from probe scans of which some frames are bad: fit, leave out what the fit cannot explain, fit again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calibration.errors import FitError
from calibration.fit.bad_frames import deviance, find_bad_frames
from calibration.fit.channel import ChannelFit, expected_readings, fit_channel
from calibration.fit.structured import UNEXPLAINED, Tell, untold
from calibration.frames.scan import Readings, repeats
from calibration.machine.lut import Lut
from calibration.machine.noise import Noise
from calibration.statistics.bad_frame import BadFrame

Float = NDArray[np.float64]

FEW = 0.05
REPEATS_MIN = 5
CANDIDATES = 4
MISFIT = 2.0
"""χ² per degree of freedom from which a frame that is left out has to explain something of it."""
HOLDOUT = "holdout"


class ScreenedFit:
    """`fit_channel` without the bad frames of its scans.

    1. Frames that differ from the other frames that showed the same are left out first; that needs no model.
    2. Then frames that the fit does not explain are left out, one scan after another in the order given, with a new
       fit in between: a fit that bad frames of one scan have bent cannot judge the frames of the next.
    3. In the gain scan the fit cannot tell which of a pattern and its complement is the bad one, because only their
       sum is known twice. There one frame leaves at a time: the one without which all scans are predicted best.
    4. If the fit explains no scan even without that frame, or if more than a twentieth of a scan is bad, then it is
       not the frames but the model that is wrong: only the frames of step 1 are left out.

    Parameters
    ----------
    display, slm, noise, dark_stderr_dn, tell
        As in `fit_channel`.
    scans
        Dark-subtracted ``gain``, ``crosstalk``, ``noise`` and ``holdout`` of `calibration.frames.probes`.
    saturated_max
        Share of saturated pixels above which a frame is bad [1].

    Attributes
    ----------
    fit
        `ChannelFit`
    bad
        The frames left out, by scan.

    Raises
    ------
    BadScan, FitError
        As `fit_channel`.
    """

    def __init__(
        self,
        display: Lut,
        slm: Lut,
        noise: Noise,
        scans: Mapping[str, Readings],
        saturated_max: float,
        dark_stderr_dn: Float | float = 0.0,
        tell: Tell = untold,
    ) -> None:
        self._display, self._slm, self._noise, self._scans = display, slm, noise, scans
        self._saturated_max, self._dark_stderr_dn, self._tell = saturated_max, dark_stderr_dn, tell
        unlike = {name: self._unlike_repeats(scan) for name, scan in scans.items()}
        few = {name: found if len(found) <= _limit(scans[name]) else [] for name, found in unlike.items()}
        self._left_out: dict[str, set[int]] = _indices(unlike)
        first = None
        try:
            self._require_few()
            first = self._fit(self._left_out)
            self.fit, self.bad = self._screened(first)
        except (FitError, _NotTheFrames):
            self.fit = first if first and _indices(few) == _indices(unlike) else self._fit(_indices(few))
            self.bad = {name: found for name, found in few.items() if found}

    def _screened(self, fit: ChannelFit) -> tuple[ChannelFit, dict[str, list[BadFrame]]]:
        """Leave frames out and fit again until no scan has any that the fit does not explain; steps 2 and 3.

        Raises
        ------
        _NotTheFrames
            When it is the model that is wrong (step 4).
        """
        while True:
            found: dict[str, list[BadFrame]] = {}
            for name in self._scans:
                found[name] = self._find(name, fit)
                fresh = {frame.index for frame in found[name]} - self._left_out[name]
                if fresh:
                    break
            if not fresh:
                break
            if name == "gain":
                before, fit = _unexplained(fit), self._without_the_worst(found[name], fresh, fit)
                after = _unexplained(fit)
                if after > max(before / 2, UNEXPLAINED) or self._explains_too_little(before, after):
                    raise _NotTheFrames
            else:
                self._left_out[name] |= fresh
                self._require_few()
                fit = self._fit(self._left_out)
        bad = {name: [f for f in frames if f.index in self._left_out[name]] for name, frames in found.items()}
        if any(len(bad[name]) < len(self._left_out[name]) for name in bad):  # some are good after all
            self._left_out = {name: {frame.index for frame in frames} for name, frames in bad.items()}
            fit = self._fit(self._left_out)
        return fit, {name: frames for name, frames in bad.items() if frames}

    def _fit(self, left_out: Mapping[str, set[int]]) -> ChannelFit:
        kept = {name: scan.where(_all_but(left_out[name], len(scan))) for name, scan in self._scans.items()}
        holdout = kept.pop(HOLDOUT)
        return fit_channel(self._display, self._slm, self._noise, kept, holdout, self._dark_stderr_dn, self._tell)

    def _unlike_repeats(self, scan: Readings) -> list[BadFrame]:
        """Frames far from the median of frames that showed the same, and saturated ones."""
        over = scan.saturated > self._saturated_max
        unlike = {int(i): BadFrame(int(i), "saturated", np.nan, "pixels at full scale") for i in np.flatnonzero(over)}
        dark = scan.dn[scan.scan.display.sum(axis=1) == scan.scan.display.sum(axis=1).min()]
        for group in repeats(scan):
            if len(group) >= REPEATS_MIN:
                same = np.broadcast_to(np.median(scan.dn[group], axis=0), (len(group), scan.dn.shape[1]))
                offset = np.minimum(np.median(dark, axis=0), same[0])
                found = find_bad_frames(scan.dn[group], same, offset, self._noise, over[group])
                unlike |= {int(group[frame.index]): replace(frame, index=int(group[frame.index])) for frame in found}
        return [unlike[i] for i in sorted(unlike)]

    def _find(self, name: str, fit: ChannelFit) -> list[BadFrame]:
        """Bad frames of a scan under a fit that has not seen those already left out."""
        scan, channel, share = self._scans[name], fit.channel, np.ones(len(self._scans[name]))
        if name == "gain":  # of its n readings an output has spent 1 + p/M on the fit
            chosen = next(c for c in fit.candidates if c.structure == fit.structure["gain"].chosen)
            kept = len(scan) - len(self._left_out[name])
            share[:] = max(1 - (1 + chosen.parameters / len(channel.offset_dn)) / kept, 1 / kept)
            share[list(self._left_out[name])] **= -1
        mean, over = (
            expected_readings(channel, self._display, self._slm, scan.scan),
            scan.saturated > self._saturated_max,
        )
        return find_bad_frames(scan.dn, mean, channel.offset_dn, channel.noise, over, dof_share=share)

    def _without_the_worst(self, found: list[BadFrame], fresh: set[int], fit: ChannelFit) -> ChannelFit:
        """Leave out the frame of the gain scan without which all scans are predicted best; return the new fit."""
        candidates = CANDIDATES if _unexplained(fit) < UNEXPLAINED else 2  # bent, by a frame or by its complement
        worst = sorted((f for f in found if f.index in fresh), key=lambda f: -f.chi2_per_dof)[:candidates]
        best: tuple[float, int, ChannelFit] | None = None
        for frame in worst:
            fit = self._fit({**self._left_out, "gain": self._left_out["gain"] | {frame.index}})
            cost = self._cost(fit)
            if best is None or cost < best[0]:
                best = cost, frame.index, fit
        assert best is not None
        self._left_out["gain"].add(best[1])
        self._require_few()
        return best[2]

    def _explains_too_little(self, before: float, after: float) -> bool:
        """Whether a frame that was left out explains less of a misfit than one of as many as may be bad would.

        Half of its share is enough: they need not be equally bad.
        """
        share = 0.5 / _limit(self._scans["gain"])
        return before > MISFIT and after - 1 > (1 - share) * (before - 1)

    def _cost(self, fit: ChannelFit) -> float:
        """Σ log(1 + χ²/M) over all frames: the logarithm keeps one very bad frame from deciding alone."""
        cost, channel = 0.0, fit.channel
        for scan in self._scans.values():
            mean = expected_readings(channel, self._display, self._slm, scan.scan)
            chi2 = deviance(scan.dn, mean, channel.offset_dn, channel.noise).chi2
            cost += float(np.log1p(chi2 / scan.dn.shape[1]).sum())
        return cost

    def _require_few(self) -> None:
        for name, scan in self._scans.items():
            if len(self._left_out[name]) > _limit(scan):
                raise _NotTheFrames


def _all_but(frames: set[int], n: int) -> NDArray[np.bool_]:
    keep = np.ones(n, np.bool_)
    keep[list(frames)] = False
    return keep


def _unexplained(fit: ChannelFit) -> float:
    """χ² per degree of freedom of the scan that is explained best."""
    return min(fit.chi2_per_dof.values())


def _limit(scan: Readings) -> float:
    return max(FEW * len(scan), 1)


def _indices(bad: Mapping[str, list[BadFrame]]) -> dict[str, set[int]]:
    return {name: {frame.index for frame in frames} for name, frames in bad.items()}


class _NotTheFrames(Exception):
    """Too much is unexplained: the model is wrong, and not single frames."""

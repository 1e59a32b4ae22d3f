"""Which gain map and which crosstalk: forward steps that an F test and a blocked hold-out must both want."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_law

from calibration.response.blocks import CROSSTALK, GAINS, AllOutputs, Estimate, fit_blocks, fit_extra
from calibration.response.model import Choice
from calibration.response.sums import Moments, Sums

Float = NDArray[np.float64]

LEVEL = 1e-4  # of one test; a dozen of them keep the whole selection below 1 % of false structure


@dataclass(frozen=True)
class Candidate:
    """One structure with its estimate.

    Attributes
    ----------
    gain, crosstalk
        Names.
    estimate
        `Estimate`
    held_out
        Log-likelihood of the held-out folds, up to a constant.
    freedom
        Parameters, and how many of them the data determine.
    """

    gain: str
    crosstalk: str
    estimate: Estimate
    held_out: float
    freedom: tuple[int, float]

    @property
    def key(self) -> tuple[str, str]:
        return self.gain, self.crosstalk


@dataclass(frozen=True)
class Step:
    """A test of a larger structure against a smaller one."""

    candidate: Candidate
    subject: str
    f: float
    dof: tuple[int, int]
    p_value: float
    gained: float

    @property
    def statistic(self) -> str:
        return f"F({self.dof[0]}, {self.dof[1]})"

    @property
    def wanted(self) -> bool:
        return self.p_value < LEVEL and self.gained > 0


class Selector:
    """Fits structures to one set of sums.

    Parameters
    ----------
    design
        `AllOutputs` or `OneDetector`.
    sums
        Of residuals against ``reference``.
    reference
        (M, p) gain matrix that the residuals were taken against.
    """

    def __init__(self, design: AllOutputs, sums: Sums, reference: Float) -> None:
        self.design, self.sums, self.reference = design, sums, reference
        self.all = sums.moments()
        self.folds = [k for k in range(len(sums.gram)) if sums.rows[k] > 0]
        self.eigen = np.linalg.eigh(self.all.s)
        self.rank = int((self.eigen[0] > 1e-9 * self.eigen[0][-1]).sum())
        self.dof = max(self.all.rows - 1 - min(self.rank, self.all.rows / 2), 1.0)
        self.found: dict[tuple[str, str], Candidate] = {}
        first = design.start(())
        self.omega = self._omega(self._saturated_loss())
        self.base = fit_blocks(design, first, self.all, self._absolute(self.all), self.omega)

    def _absolute(self, moments: Moments) -> Float:
        return np.asarray(moments.r + self.reference @ moments.s)

    def _saturated_loss(self) -> Float:
        """(M, M) residual products of the unrestricted regression (of the reference, where rows are too few)."""
        if self.all.rows < 2 * self.rank + 20:
            return self.all.rr * self.dof / (self.all.rows - 1)
        return self.all.rr - self._explained(self.all.r)

    def _explained(self, r: Float) -> Float:
        values, vectors = self.eigen
        along = r @ vectors[:, -self.rank :]
        return np.asarray((along / values[-self.rank :]) @ along.T)

    def _omega(self, products: Float) -> Float:
        """Inverse covariance of a row, without the bias that inverting an estimate has."""
        m = len(products)
        covariance = products / self.dof
        if self.dof < 10 * m:
            return np.diag(1 / np.diag(covariance))
        return np.asarray(np.linalg.inv(covariance) * (self.dof - m - 1) / self.dof)

    def candidate(self, gain: str, crosstalk: str) -> Candidate:
        """Fitted to all rows, with the log-likelihood of folds that did not see it."""
        key = gain, crosstalk
        if key not in self.found:
            estimate, known = self._fit(gain, crosstalk, self.all, None)
            lost = 0.0
            for k in self.folds:
                without = self.sums.moments(k)
                other, _ = self._fit(gain, crosstalk, without, estimate)
                step = self.design.gain(other) - self.reference
                lost += Moments(self.sums.gram[k], self.all.features, 0.0).loss(
                    step, without.intercept(step), self.omega
                )
            size = sum(len(v) for v in estimate.values.values())
            size += estimate.extra.size if estimate.extra is not None else 0
            self.found[key] = Candidate(gain, crosstalk, estimate, -0.5 * lost, (size, known))
        return self.found[key]

    def _fit(self, gain: str, crosstalk: str, moments: Moments, about: Estimate | None) -> tuple[Estimate, float]:
        blocks = GAINS.get(gain, ("out", "in")) + CROSSTALK[crosstalk]
        start = about
        if start is None:
            start = self.design.start(blocks)
            start.values["scale"] = self.base.values["scale"].copy()
        absolute = self._absolute(moments)
        plain = Estimate(start.blocks, start.values, start.widths)
        e = fit_blocks(self.design, plain, moments, absolute, self.omega, fixed_widths=about is not None)
        known = 1 + sum(
            len(e.values[b]) - float(np.diag(e.covariance)[s].sum()) / e.widths[b] ** 2
            for b, s in _places(e).items()
            if b in e.widths
        )
        if gain == "full":
            e, more = fit_extra(
                self.design, e, moments, absolute, self.omega, width=None if about is None else about.extra_width
            )
            known += float(more.sum())
        return e, known

    def test(self, small: Candidate, large: Candidate) -> Step:
        """F test of what the unshrunk larger structure explains beyond the unshrunk smaller one."""
        explained_small, rank_small = self._unshrunk(small)
        explained, rank = self._unshrunk(large)
        extra = max(rank - rank_small, 1)
        dof = int(max(self.dof * len(self.omega), 1))
        f = max(explained - explained_small, 0.0) / extra
        p = float(f_law.sf(f, extra, dof))
        if self.all.rows < 2 * self.rank + 20:
            extra, f, p = self._evidence_ratio(small, large)
        subject = "crosstalk" if large.gain == small.gain else "gain"
        return Step(large, subject, f, (extra, dof), p, large.held_out - small.held_out)

    def _unshrunk(self, c: Candidate) -> tuple[float, int]:
        """Loss that the structure's free parameters take away from the base, linearised, and their rank."""
        absolute = self._absolute(self.all)
        if c.gain == "full":
            gain = self.design.gain(self.base)
            return float((self.omega * self._explained(absolute - gain @ self.all.s)).sum()), self.rank * len(gain)
        start = self.design.start(c.estimate.blocks)
        start.values["scale"] = self.base.values["scale"].copy()
        free = fit_free(self.design, start, self.all, absolute, self.omega)
        base = self.design.gain(self.base)
        residual = absolute - base @ self.all.s
        step = self.design.gain(free[0]) - base
        return float((self.omega * (2 * step @ residual.T - step @ self.all.s @ step.T)).sum()), free[1]

    def _evidence_ratio(self, small: Candidate, large: Candidate) -> tuple[int, float, float]:
        """With fewer rows than parameters: the hold-out's log-likelihood in place of F (conservative)."""
        gained = large.held_out - small.held_out
        return 1, max(2 * gained, 0.0), float(np.exp(-max(gained, 0.0)))

    def choose(self) -> tuple[Candidate, list[Step]]:
        """Forward from the scalar gain without crosstalk; the last element of the list decided."""
        current = self.candidate("scalar", "none")
        taken: list[Step] = []
        gains, crosstalks = self.design.gains(), self.design.crosstalks()
        for _ in range(5):
            larger = [self.candidate(g, current.crosstalk) for g in gains if _nested(current.gain, g)]
            larger += [
                self.candidate(current.gain, x)
                for x in crosstalks
                if crosstalks.index(x) > crosstalks.index(current.crosstalk)
            ]
            steps = [self.test(current, c) for c in larger]
            wanted = [s for s in steps if s.wanted]
            if not wanted:
                break
            best = max(wanted, key=lambda s: s.gained)
            taken.append(best)
            current = best.candidate
        return current, taken

    def reasons(self, chosen: Candidate, taken: list[Step]) -> dict[str, Choice]:
        """Why gain and crosstalk are what they are."""
        return {subject: self._reason(subject, chosen, taken) for subject in ("gain", "crosstalk")}

    def _reason(self, subject: str, chosen: Candidate, taken: list[Step]) -> Choice:
        own = [s for s in taken if s.subject == subject]
        name = chosen.gain if subject == "gain" else chosen.crosstalk
        if own:
            s = own[-1]
            before = [t for t in taken[: taken.index(s)] if t.subject == subject]
            first = "scalar" if subject == "gain" else "none"
            runner = (getattr(before[-1].candidate, subject)) if before else first
            what = f"{name} gains" if subject == "gain" else f"crosstalk: {name}"
            reason = (
                f"{what}: {s.statistic} = {s.f:.3g}, p = {s.p_value:.2g} against {runner}; held-out log-likelihood "
                f"+{s.gained:.1f}"
            )
            return Choice(name, s.statistic, s.f, s.p_value, runner, reason)
        names = self.design.gains() if subject == "gain" else self.design.crosstalks()
        other = [n for n in names if (_nested(name, n) if subject == "gain" else n != name)]
        if not other:
            why = "one detector cannot tell crosstalk from gain" if subject == "crosstalk" else "no other to choose"
            return Choice(name, "none", 0.0, 1.0, name, why)
        keys = [(n, chosen.crosstalk) if subject == "gain" else (chosen.gain, n) for n in other]
        tests = [self.test(chosen, self.candidate(*key)) for key in keys]
        runner_up = min(tests, key=lambda s: s.p_value)
        if subject == "gain":
            named = next((s for s in tests if s.candidate.gain == "per output"), runner_up)
            words = f"no evidence for {named.candidate.gain.replace('per output', 'per-output')} gains"
            if named is not runner_up and runner_up.p_value < LEVEL:
                named, words = runner_up, f"{runner_up.candidate.gain} gains do not predict held-out rows better"
        else:
            named, words = runner_up, "no evidence for crosstalk"
            if runner_up.p_value < LEVEL:
                words = f"crosstalk ({runner_up.candidate.crosstalk}) does not predict held-out rows better"
        reason = f"{words} ({named.statistic} = {named.f:.2f}, p = {named.p_value:.2g})"
        return Choice(name, named.statistic, named.f, named.p_value, getattr(named.candidate, subject), reason)


def fit_free(design: AllOutputs, e: Estimate, moments: Moments, absolute: Float, omega: Float) -> tuple[Estimate, int]:
    """Gauss–Newton without priors along the directions that the data determine; ``(estimate, their number)``."""
    rank = 0
    for _ in range(3):
        residual = absolute - design.gain(e) @ moments.s
        h, right = design.quadratic(e, moments, residual, omega)
        unit = 1 / np.sqrt(np.maximum(np.diag(h), 1e-300))
        values, vectors = np.linalg.eigh(h * unit * unit[:, None])
        kept = values > 1e-8 * values[-1]
        rank = int(kept.sum())
        v = vectors[:, kept]
        step = unit * (v @ ((v.T @ (unit * right)) / values[kept]))
        places = _places(e)
        e = Estimate(e.blocks, {b: e.values[b] + step[places[b]] for b in e.blocks}, e.widths)
    return e, rank


def _nested(small: str, large: str) -> bool:
    if small == large or small == "full":
        return False
    if large == "full":
        return True
    below, above = set(GAINS[small]), set(GAINS[large])
    if "in" in above:
        above |= {"smooth", "smooth2"}
    return below < above


def _places(e: Estimate) -> dict[str, slice]:
    found, at = {}, 0
    for b in e.blocks:
        found[b] = slice(at, at + len(e.values[b]))
        at += len(e.values[b])
    return found

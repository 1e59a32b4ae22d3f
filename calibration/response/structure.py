"""Choose the forms of gain map and crosstalk: on to richer ones as long as an F test and held-out rows agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.response.blocks import CROSSTALK, GAINS, AllOutputs, Estimate, fit_blocks, fit_extra
from calibration.response.degenerate import solved_where_determined
from calibration.response.sums import Moments, Sums
from calibration.statistics.choice import Choice
from calibration.statistics.tails import f_sf, p_in_words

Float = NDArray[np.float64]

Key = tuple[str, str]
"""Names of a gain structure and of a crosstalk structure."""

LEVEL = 1e-4  # of one test; a dozen of them keep the whole selection below 1 % of false structure
QUIETEST = 1e-6  # of the mean variance of the outputs, that each has at least


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
class StructureTest:
    """A test of a larger structure against a smaller one."""

    key: Key
    subject: str
    statistic: str
    f: float
    p_value: float
    gained: float

    @property
    def name(self) -> str:
        """Name of the part that the larger structure has and the smaller has not."""
        return self.key[0] if self.subject == "gain" else self.key[1]

    @property
    def wanted(self) -> bool:
        return self.p_value < LEVEL and self.gained > 0


class Selector:
    """Fit any structure to one set of sums, test one against another, and choose.

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
        self.found: dict[Key, Candidate] = {}
        self.explained: dict[Key, tuple[float, int]] = {}
        self.held: dict[int, Moments] = {}
        self.few = self.all.rows < 2 * self.rank + 20
        first = design.start(())
        self.omega = self._omega(self._saturated_loss())
        self.base = fit_blocks(design, first, self.all, self._absolute(self.all), self.omega)

    def _absolute(self, moments: Moments) -> Float:
        return np.asarray(moments.r + self.reference @ moments.s)

    def _saturated_loss(self) -> Float:
        """(M, M) products of the residuals of a regression without structure; of the reference where rows are few."""
        if self.few:
            return self.all.rr * self.dof / (self.all.rows - 1)
        return self.all.rr - self._explained(self.all.r)

    def _explained(self, r: Float) -> Float:
        values, vectors = self.eigen
        along = r @ vectors[:, -self.rank :]
        return np.asarray((along / values[-self.rank :]) @ along.T)

    def _omega(self, products: Float) -> Float:
        """(M, M) inverse covariance of a row, corrected for the bias of inverting an estimate."""
        m = len(products)
        covariance = products / self.dof
        variance = np.diag(covariance)  # rounding may have swallowed the noise of one output
        covariance[np.diag_indices(m)] = np.maximum(variance, QUIETEST * max(float(variance.mean()), 1e-300))
        if self.dof < 10 * m:
            return np.diag(1 / np.diag(covariance))
        return np.asarray(np.linalg.inv(covariance) * (self.dof - m - 1) / self.dof)

    def candidate(self, gain: str, crosstalk: str, *, hold_out: bool = True) -> Candidate:
        """A structure fitted to all rows; with the log-likelihood of held-out folds, or NaN if nobody asks for it."""
        key = gain, crosstalk
        if key not in self.found:
            estimate, known = self._fit(gain, crosstalk, self.all, None)
            size = sum(len(v) for v in estimate.values.values())
            size += estimate.extra.size if estimate.extra is not None else 0
            held_out = self._held_out(key, estimate) if hold_out else np.nan
            self.found[key] = Candidate(gain, crosstalk, estimate, held_out, (size, known))
        return self.found[key]

    def _held_out(self, key: Key, estimate: Estimate) -> float:
        lost = 0.0
        for k in self.folds:
            without = self.without(k)
            other, _ = self._fit(*key, without, estimate)
            step = self.design.gain(other) - self.reference
            moments = Moments(self.sums.gram[k], self.all.features, 0.0)
            lost += moments.loss(step, without.intercept(step), self.omega)
        return -0.5 * lost

    def without(self, k: int) -> Moments:
        """Sums of all folds but one."""
        if k not in self.held:
            self.held[k] = self.sums.moments(k)
        return self.held[k]

    def refitted(self, candidate: Candidate, moments: Moments) -> Estimate:
        """The structure of a candidate fitted to other sums, with the widths of its priors."""
        return self._fit(candidate.gain, candidate.crosstalk, moments, candidate.estimate)[0]

    def _fit(self, gain: str, crosstalk: str, moments: Moments, about: Estimate | None) -> tuple[Estimate, float]:
        start = about
        if start is None:
            start = self.design.start(blocks_of(gain, crosstalk))
            start.values["scale"] = self.base.values["scale"].copy()
        absolute = self._absolute(moments)
        plain = Estimate(start.blocks, start.values, start.widths)
        e = fit_blocks(self.design, plain, moments, absolute, self.omega, fixed_widths=about is not None)
        known = 0.0
        if about is None:
            variance = np.diag(e.covariance)
            known = 1 + sum(
                len(e.values[b]) - float(variance[s].sum()) / e.widths[b] ** 2
                for b, s in _places(e).items()
                if b in e.widths
            )
        if gain == "full":
            e, more = fit_extra(
                self.design, e, moments, absolute, self.omega, width=None if about is None else about.extra_width
            )
            known += float(more.sum())
        return e, known

    def test(self, small: Key, large: Key) -> StructureTest:
        """F test of what the unshrunk larger structure explains beyond the unshrunk smaller one.

        The hold-out is asked only where the F test wants the larger one; with fewer rows than parameters it takes the
        place of the F test (the chance of a likelihood ratio Λ is at most 1/Λ).
        """
        subject = "crosstalk" if large[0] == small[0] else "gain"
        if self.few:
            gained = self.candidate(*large).held_out - self.candidate(*small).held_out
            return StructureTest(
                large, subject, "Λ", float(np.exp(min(gained, 700.0))), float(np.exp(-max(gained, 0.0))), gained
            )
        statistic, f, p = self._f_test(small, large)
        gained = self.candidate(*large).held_out - self.candidate(*small).held_out if p < LEVEL else 0.0
        return StructureTest(large, subject, statistic, f, p, gained)

    def _f_test(self, small: Key, large: Key) -> tuple[str, float, float]:
        explained_small, rank_small = self._unshrunk(small)
        explained, rank = self._unshrunk(large)
        extra, dof = max(rank - rank_small, 1), int(self.dof * len(self.omega))
        f = max(explained - explained_small, 0.0) / extra
        return f"F({extra}, {dof})", f, float(f_sf(f, extra, dof))

    def _superfluous(self, small: Key, large: Key) -> bool:
        """Whether the larger of two structures is no longer needed."""
        return not self.test(small, large).wanted if self.few else self._f_test(small, large)[2] >= LEVEL

    def _unshrunk(self, key: Key) -> tuple[float, int]:
        """By how much a structure without priors lowers the loss of the simplest, and with how many numbers."""
        if key not in self.explained:
            absolute = self._absolute(self.all)
            base = self.design.gain(self.base)
            residual = absolute - base @ self.all.s
            if key[0] == "full":
                found = float((self.omega * self._explained(residual)).sum()), self.rank * len(base)
            else:
                start = self.design.start(blocks_of(*key))
                start.values["scale"] = self.base.values["scale"].copy()
                free, rank = fit_free(self.design, start, self.all, absolute, self.omega)
                step = self.design.gain(free) - base
                loss = self.omega * (2 * step @ residual.T - step @ self.all.s @ step.T)
                found = float(loss.sum()), rank
            self.explained[key] = found
        return self.explained[key]

    def choose(self, start: Key = ("scalar", "none")) -> Candidate:
        """Add what is proven, one part at a time; then drop what later parts (or other data) made superfluous."""
        current = start
        while True:
            wanted = [step for step in (self.test(current, key) for key in self._larger(current)) if step.wanted]
            if not wanted and current[0] != "full" and "full" in self.design.gains() and not self.few:
                # a full map explains whatever a structure does, with more parameters: only what no structure explains
                wanted = [step for step in [self.test(current, ("full", current[1]))] if step.wanted]
            if not wanted:
                break
            current = self._simplest(wanted).key
        while True:
            enough = [key for key in self._smaller(current) if self._superfluous(key, current)]
            if not enough:
                return self.candidate(*current)
            current = enough[0]

    def _larger(self, key: Key) -> list[Key]:
        gain, crosstalk = key
        names = self.design.crosstalks()
        found = [(g, crosstalk) for g in self.design.gains() if g != "full" and _nested(gain, g)]
        # where the hold-out decides every test is dear: one more step at a time
        richer = names[names.index(crosstalk) + 1 :][: 1 if self.few else None]
        return found + [(gain, x) for x in richer]

    def _smaller(self, key: Key) -> list[Key]:
        """Structures that are part of this one, simplest first."""
        gain, crosstalk = key
        names = self.design.crosstalks()
        found = [(g, crosstalk) for g in self.design.gains() if _nested(g, gain)]
        return [(gain, x) for x in names[: names.index(crosstalk)]] + found

    def _simplest(self, wanted: list[StructureTest]) -> StructureTest:
        """Of the steps wanted, the one that predicts held-out rows best, or a simpler one that is as good."""
        best, *others = sorted(wanted, key=lambda step: -step.gained)
        for step in others:
            same = step.key[1] == best.key[1]
            if same and _nested(step.key[0], best.key[0]) and not self.test(step.key, best.key).wanted:
                best = step
        return best

    def reasons(self, chosen: Candidate) -> dict[str, Choice]:
        """Why the gain map and the crosstalk of a candidate have their forms, by subject."""
        return {subject: self._reason(subject, chosen) for subject in ("gain", "crosstalk")}

    def _reason(self, subject: str, chosen: Candidate) -> Choice:
        name = chosen.gain if subject == "gain" else chosen.crosstalk
        own = 0 if subject == "gain" else 1
        simpler = [key for key in self._smaller(chosen.key) if key[own] != name and key in self.found]
        if name not in ("scalar", "none"):
            base = ("scalar", chosen.crosstalk) if subject == "gain" else (chosen.gain, "none")
            s = self.test(max(simpler, key=lambda k: self.found[k].held_out, default=base), chosen.key)
            runner = max(simpler, key=lambda k: self.found[k].held_out, default=base)[own]
            what = f"{name} gains" if subject == "gain" else f"crosstalk: {name}"
            reason = (
                f"{what}: {s.statistic} = {s.f:.3g}, {p_in_words(s.p_value)} against {runner}; held-out log-likelihood "
                f"+{s.gained:.1f}"
            )
            return Choice(name, s.statistic, s.f, s.p_value, runner, reason)
        if subject == "crosstalk" and chosen.key == ("full", "none"):
            why = "crosstalk cannot be told from the full gain, which has it in it if there is any"
            return Choice("in the full gain", "none", 0.0, 1.0, "none", why)
        names = self.design.gains() if subject == "gain" else self.design.crosstalks()
        other = [n for n in names if (_nested(name, n) if subject == "gain" else n != name)]
        if not other:
            alike = "outputs whose weights are in proportion" if len(self.omega) > 1 else "one detector"
            why = f"{alike} cannot tell crosstalk from gain" if subject == "crosstalk" else "no other to choose"
            return Choice(name, "none", 0.0, 1.0, name, why)
        keys = [(n, chosen.crosstalk) if subject == "gain" else (chosen.gain, n) for n in other]
        tests = [self.test(chosen.key, key) for key in keys]
        runner_up = min(tests, key=lambda s: s.p_value)
        if subject == "gain":
            named = next((s for s in tests if s.key[0] == "per output"), runner_up)
            words = f"no evidence for {named.name.replace('per output', 'per-output')} gains"
            if named is not runner_up and runner_up.p_value < LEVEL:
                named, words = runner_up, f"{runner_up.name} gains do not predict held-out rows better"
        else:
            named, words = runner_up, "no evidence for crosstalk"
            if runner_up.p_value < LEVEL:
                words = f"crosstalk ({runner_up.name}) does not predict held-out rows better"
        reason = f"{words} ({named.statistic} = {named.f:.2f}, {p_in_words(named.p_value)})"
        return Choice(name, named.statistic, named.f, named.p_value, named.name, reason)


def blocks_of(gain: str, crosstalk: str) -> tuple[str, ...]:
    """Names of the blocks of a structure; a full gain map is a separable one plus deviations of single gains."""
    return GAINS.get(gain, ("out", "in")) + CROSSTALK[crosstalk]


def fit_free(design: AllOutputs, e: Estimate, moments: Moments, absolute: Float, omega: Float) -> tuple[Estimate, int]:
    """Fit without priors, along the directions that the data determine; return the estimate and their number."""
    rank = 0
    for _ in range(1 if design.linear else 3):
        residual = absolute - design.gain(e) @ moments.s
        h, right = design.quadratic(e, moments, residual, omega)
        unit = 1 / np.sqrt(np.maximum(np.diag(h), 1e-300))
        step, rank = solved_where_determined(h * unit * unit[:, None], unit * right)
        step = unit * step
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

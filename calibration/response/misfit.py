"""What a fit leaves over that is no noise: how much of the residuals follows what was shown, and what of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from calibration.response.following import Followed
from calibration.response.model import Response
from calibration.response.observations import Observations, Rows
from calibration.response.residuals import columns
from calibration.statistics.choice import Choice
from calibration.statistics.tails import f_sf

Float = NDArray[np.float64]

HIGHEST = 12  # order of the polynomials of light and inputs
ROWS_PER_ORDER = 20
LEVEL = 1e-4  # probability of a false misfit
MOST_ROWS = 20000
BLOCK = 64  # neighbours that stay together in a sample
ROWS_PER_TERM = 8  # below, terms of every input would describe noise
MOST_TERMS = 400  # beyond, their products take longer than the fit
ONE_SIDED = 1.645  # standard errors of a 95 % bound

KINDS = {
    "light": "a curve of the light of each output",
    "inputs": "a curve that all inputs have",
    "products": "products of inputs or outputs",
    "row before": "the row before",
    "each input": "gain or curvature of single inputs",
}
"""What a fit may leave over, by name, and in words."""


@dataclass(frozen=True)
class Misfit:
    """How much of the scatter about a fit follows inputs, light or the row before.

    Attributes
    ----------
    share, share_stderr
        Of the residuals' variance, with its standard error [1]; by F statistics unbiased, and therefore below zero now
        and then where there is none.
    rms
        (M,) of the structure that is left over [unit]; zero unless `proven`.
    statistic, f, p_value
        Lack-of-fit test of all terms together.
    kind
        Of `KINDS`, what alone describes most of it.
    freedom
        Numbers that were fitted to find it, of all outputs.
    """

    share: float
    share_stderr: float
    rms: Float
    statistic: str
    f: float
    p_value: float
    kind: str
    unit: str
    freedom: float
    _terms: _Terms
    _coefficients: Float = field(repr=False)

    @property
    def proven(self) -> bool:
        """Whether chance would show as much less than once in ten thousand fits."""
        return self.p_value < LEVEL and self.share > 0

    @property
    def upper95(self) -> float:
        """Share of the variance that is misfit at most [1]."""
        return float(np.clip(max(self.share, 0.0) + ONE_SIDED * self.share_stderr, 0.0, 1.0))

    @property
    def choice(self) -> Choice:
        """What was found, in words."""
        test = f"{self.statistic} = {self.f:.3g}, p = {self.p_value:.2g}"
        if not self.proven:
            words = (
                f"no curve, no product of inputs and no memory of the row before is left over ({test}): at most "
                f"{100 * self.upper95:.2g} % of the scatter about the fit"
            )
            return Choice("none", self.statistic, self.f, self.p_value, self.kind, words)
        words = (
            f"{100 * self.share:.3g} ± {100 * self.share_stderr:.2g} % of the scatter about the fit is no noise "
            f"({test}): rms {np.sqrt(np.mean(self.rms**2)):.3g} {self.unit}, most of it {KINDS[self.kind]}; "
            "it widens the intervals and is not in the noise law"
        )
        return Choice(self.kind, self.statistic, self.f, self.p_value, "none", words)

    def as_json(self) -> dict[str, Any]:
        """JSON types only."""
        return {
            "share_of_variance": round(self.share, 5),
            "share_stderr": round(self.share_stderr, 5),
            "share_upper95": round(self.upper95, 5),
            "rms": [float(f"{v:.4g}") for v in self.rms],
            "kind": self.kind if self.proven else "none",
            "p_value": self.p_value,
        }

    def taken_off(self, response: Response, observations: Observations, followed: Followed) -> Observations:
        """The observations with readings from which the misfit has been taken: what noise and drift are told from."""
        readings = []
        for rows in observations.chunks():
            shared, own, sd, _ = self._terms.of(response, rows, followed)
            q = np.concatenate([np.broadcast_to(shared, (own.shape[0], *shared.shape)), own], axis=2)
            readings.append(columns(rows) - sd * np.einsum("mnp,mp->nm", q, self._coefficients))
        assert observations.readings is not None
        return observations.with_readings(np.concatenate(readings).reshape(observations.readings.shape))


class _Terms:
    """What the residuals of a file may follow: functions of inputs, of light, and of the row before.

    Parameters
    ----------
    rows
        That there are to tell them from noise.
    """

    def __init__(self, response: Response, rows: int) -> None:
        n = response.weights.shape[1]
        wide = 2 * n * ROWS_PER_TERM < rows and 2 * n <= MOST_TERMS
        self._wide = n if wide else 0
        low, high = response.input_range
        self._middle, self._half = (low + high) / 2, max((high - low) / 2, 1e-300)
        names = [] if response.single else ["each input"] * (2 * self._wide)
        self._orders = range(2, int(np.clip(rows // ROWS_PER_ORDER, 3, HIGHEST)) + 1)
        many = len(self._orders)
        own = ["line", "line", *["light"] * many, *["inputs"] * many, *["products"] * 4, "row before"]
        self.names = np.array(["constant", *names, *own])

    def of(self, response: Response, rows: Rows, followed: Followed) -> tuple[Float, Float, Float, Float]:
        """Terms that all outputs share (n, s), terms of each (M, n, t), and (n, M) sd and residuals."""
        at = slice(rows.start, rows.start + len(rows))
        level = followed.level[at]
        found = response.expected(rows, level, followed.covariance[at] + followed.jitter)
        sd = np.sqrt(found.variance)
        u = (rows.inputs - self._middle) / self._half
        shared = [np.ones((len(rows), 1))]
        if self._wide and not response.single:
            shared += [u, u**2]
        # through the weights, as the gains are: of one detector, of the output that the row read
        gain = response.gain if rows.output is None else response.gain[rows.output]
        size = float(np.abs(response.gain).mean()) * np.sqrt(gain.shape[1]) or 1.0
        light = found.light
        reach = np.ptp(response.reading_range) or 1.0

        def through(x: NDArray[np.floating[Any]]) -> Float:
            return np.asarray(x @ gain.T if rows.output is None else (gain * x).sum(1, keepdims=True)) / size

        beside = np.roll(u, 1, axis=1)
        scaled = 2 * light / reach - 1
        own = [through(u), scaled]
        own += [legendre.legval(np.clip(scaled, -1.5, 1.5), [0.0] * k + [1.0]) for k in self._orders]
        own += [through(legendre.legval(u, [0.0] * k + [1.0])) for k in self._orders]
        own += [through(u * beside), np.broadcast_to((u.sum(1) ** 2 / u.shape[1])[:, None], light.shape)]
        own += [np.roll(scaled, step, axis=1) ** 2 for step in (1, -1)]
        own += [np.concatenate([scaled[:1], scaled[:-1]])]
        return np.concatenate(shared, axis=1), np.stack(own, axis=2).swapaxes(0, 1), sd, columns(rows) - found.mean


def find_misfit(response: Response, observations: Observations, followed: Followed) -> Misfit:
    """Test whether what a fit leaves follows anything that was shown, and say how much of it does.

    Residuals over their standard deviations are regressed on functions of the inputs and of the light. Of noise, the
    regression explains what its degrees of freedom do; what it explains beyond that is misfit.
    """
    stride = max(1, observations.count // MOST_ROWS)
    terms = _Terms(response, int((~followed.bad).sum()) // stride)
    gram, cross, size, readings = _sums(terms, response, observations, followed, stride)
    outputs, n = len(gram), gram[0, 0, 0]
    p = len(terms.names)
    solved = [_explained(g, np.arange(1, p)) for g in gram]
    witnesses = outputs**2 / float(((cross / np.sqrt(np.outer(np.diag(cross), np.diag(cross)))) ** 2).sum())
    whole = np.array([g[-1, -1] - g[0, -1] ** 2 / g[0, 0] for g in gram])
    gained, rank = np.array([s.gained for s in solved]), float(np.mean([s.rank for s in solved]))
    dof = max(n - 1 - rank, 1.0)
    left = max(float((whole - gained).sum()), 1e-300)
    f = float(gained.sum()) / rank / (left / dof)
    share = 1 - left / dof * (n - 1) / max(float(whole.sum()), 1e-300)
    error = float(np.sqrt((2 * rank / n**2 + 4 * max(share, 0.0) * (1 - min(share, 1.0)) ** 2 / n) / witnesses))
    extra, beyond = rank * witnesses, dof * witnesses
    chance = float(f_sf(f, extra, beyond))
    single = 1 - (whole - gained) / dof * (n - 1) / np.maximum(whole, 1e-300)
    proven = chance < LEVEL and share > 0
    of_outputs = np.sqrt(np.clip(single, 0.0, 1.0) * size / np.maximum(readings, 1)) if proven else np.zeros(outputs)
    rms = np.broadcast_to(of_outputs, (response.n_outputs,)).copy()
    kind = max(KINDS, key=lambda k: _likelihood(gram, np.nonzero(terms.names == k)[0]))
    name = f"F({extra:.0f}, {beyond:.0f})"
    coefficients = np.stack([s.coefficients for s in solved])
    return Misfit(share, error, rms, name, f, chance, kind, response.unit, rank * outputs, terms, coefficients)


def _likelihood(gram: Float, terms: NDArray[np.intp]) -> float:
    """Twice the log-likelihood that some terms alone gain over a line, less what chance does."""
    if not len(terms):
        return -np.inf
    found = [_explained(g, terms) for g in gram]
    pairs = zip(gram, found, strict=True)
    return float(np.sum([g[0, 0] * np.log1p(s.gained / max(g[-1, -1] - s.gained, 1e-300)) - s.rank for g, s in pairs]))


@dataclass(frozen=True)
class _Solved:
    gained: float
    rank: int
    coefficients: Float


def _explained(gram: Float, terms: NDArray[np.intp]) -> _Solved:
    """What some terms explain of the residuals beside a constant, and by which coefficients (constant first)."""
    h = gram[np.ix_(terms, terms)] - np.outer(gram[terms, 0], gram[0, terms]) / gram[0, 0]
    right = gram[terms, -1] - gram[terms, 0] * gram[0, -1] / gram[0, 0]
    variance = np.diag(h)
    varies = variance > 1e-12 * np.maximum(np.diag(gram)[terms], 1e-300)
    unit = np.where(varies, 1 / np.sqrt(np.maximum(variance, 1e-300)), 0.0)
    values, vectors = np.linalg.eigh(h * unit * unit[:, None])
    kept = values > 1e-8 * max(float(values[-1]), 1e-300)
    along = vectors[:, kept].T @ (unit * right)
    solution = unit * (vectors[:, kept] @ (along / values[kept]))
    coefficients = np.zeros(len(gram) - 1)
    coefficients[terms] = solution
    coefficients[0] = (gram[0, -1] - gram[0, terms] @ solution) / gram[0, 0]
    return _Solved(float((along**2 / values[kept]).sum()), int(kept.sum()), coefficients)


def _sums(
    terms: _Terms,
    response: Response,
    observations: Observations,
    followed: Followed,
    stride: int,
) -> tuple[Float, Float, Float, float]:
    """(M, p + 1, p + 1) products of terms and scaled residuals, (M, M) of the latter, squared residuals and rows."""
    p, outputs = len(terms.names), 1 if response.single else response.n_outputs
    gram, cross = np.zeros((outputs, p + 1, p + 1)), np.zeros((outputs, outputs))
    square, count = np.zeros(outputs), 0
    for rows in observations.chunks():
        at = np.arange(rows.start, rows.start + len(rows))
        kept = ~followed.bad[at] & ((at // BLOCK) % stride == 0)
        shared, own, sd, residual = terms.of(response, rows, followed)
        z = (residual / sd)[kept]
        for m in range(outputs):
            q = np.concatenate([shared[kept], own[m][kept], z[:, m : m + 1]], axis=1)
            gram[m] += q.T @ q
        cross += z.T @ z
        square += (residual[kept] ** 2).sum(0)
        count += int(kept.sum())
    return gram, cross, square, count

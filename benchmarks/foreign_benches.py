"""Benches of somebody else with their truth, written with numpy alone: nothing here is shared with the fit.

Each function makes two sessions of one bench, one to fit and one to predict, with what is true of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Session:
    """What was recorded, and what no file says: mean and standard deviation of each reading, and the wrong rows."""

    inputs: Array
    readings: Array
    mean: Array
    sd: Array
    wrong: frozenset[int] = frozenset()
    output: Array | None = None

    def spoiled(self, rows: Array, readings: Array) -> Session:
        """The same session with other readings in some rows."""
        y = self.readings.copy()
        y[rows] = readings
        return replace(self, readings=y, wrong=self.wrong | {int(r) for r in rows})


@dataclass(frozen=True)
class Case:
    """A bench: weights, a session to fit and one to predict, and the verdict that is right.

    Attributes
    ----------
    verdict
        ``"applied"``, ``"not applied"`` or ``"refused"``; several with ``" or "`` where each is right.
    structure
        What must have been chosen, by subject, where the truth decides it; several names where each is right.
    censored
        Readings at or above which the camera says nothing more; they count neither for rms nor for intervals.
    """

    name: str
    weights: Array
    train: Session
    test: Session
    verdict: str = "applied"
    structure: dict[str, tuple[str, ...]] = field(default_factory=dict)
    censored: float = np.inf


def _session(
    rng: np.random.Generator, x: Array, light: Array, sd: Array | float, *, drift: Array | float = 0.0, tail: int = 0
) -> Session:
    """Readings of offset 100 above ``light`` (n, M), with noise ``sd`` (n, M) of normal law or Student's t."""
    drift = np.broadcast_to(drift, len(x))[:, None]
    mean, sd = 100.0 + light * (1 + drift), np.broadcast_to(sd, light.shape)
    noise = rng.normal(size=light.shape)
    if tail:
        noise = rng.standard_t(tail, light.shape) / np.sqrt(tail / (tail - 2))
    return Session(x, mean + sd * noise, mean, sd)


def _gains(rng: np.random.Generator, m: int, n: int, spread: float = 0.05) -> Array:
    return np.outer(1 + spread * rng.normal(size=m), 1 + spread * rng.normal(size=n))


STILL = {"drift": ("still",)}


def saturating(rng: np.random.Generator, c: float) -> Case:
    """Dense 16 → 8, every detector y = L/(1 + c L/Lmax), noise of 0.2 % of range."""
    w = rng.random((8, 16))
    gain = 1000 * _gains(rng, 8, 16, 0.03) * w
    sd = None

    def record(rows: int) -> Session:
        nonlocal sd
        x = rng.random((rows, 16))
        light = x @ gain.T
        y = light / (1 + c * light / gain.sum(1).max())
        sd = sd or 0.002 * np.ptp(y)  # of one camera: the same in both sessions
        return _session(rng, x, y, sd)

    return Case(f"dense 16 → 8, saturation {c:g}", w, record(800), record(600), structure=STILL)


def identity_saturating(rng: np.random.Generator) -> Case:
    """Identity weights, each output with a saturation of its own."""
    w, gain, c = np.eye(16), 1000 * (1 + 0.05 * rng.normal(size=16)), rng.uniform(0.1, 1.0, 16)

    def record(rows: int) -> Session:
        x = rng.random((rows, 16))
        y = gain * x / (1 + c * x)
        return _session(rng, x, y, 3.0)

    return Case("identity 16, saturation of each output", w, record(800), record(600), structure=STILL)


def identity_plain(rng: np.random.Generator) -> Case:
    """Identity weights, nothing else."""
    w, gain = np.eye(8), 1000 * (1 + 0.05 * rng.normal(size=8))

    def record(rows: int) -> Session:
        x = rng.random((rows, 8))
        return _session(rng, x, x * gain, np.sqrt(2.0 * x * gain + 1))

    return Case("identity 8", w, record(500), record(500), structure=STILL | {"nonlinearity": ("none",)})


def gamma(rng: np.random.Generator, power: float) -> Case:
    """Gray levels 0 … 255 whose light is their power."""
    w = rng.random((6, 20))
    gain = 500 * _gains(rng, 6, 20, 0.03) * w

    def record(rows: int) -> Session:
        x = rng.integers(0, 256, (rows, 20)).astype(float)
        y = (x / 255) ** power @ gain.T
        return _session(rng, x, y, np.sqrt(0.5 * y + 4))

    return Case(
        f"gray levels, gamma {power:g}", w, record(900), record(600), structure=STILL | {"common noise": ("none",)}
    )


def ceiling(rng: np.random.Generator) -> Case:
    """A 12-bit camera that clips 3 % of the readings."""
    w = rng.random((5, 12))
    gain = _gains(rng, 5, 12) * w
    scale = None

    def record(rows: int) -> Session:
        nonlocal scale
        x = rng.random((rows, 12))
        y = x @ gain.T
        scale = scale or 3995 / np.quantile(y, 0.975, axis=0).max()
        s = _session(rng, x, y * scale, np.sqrt(0.5 * y * scale))
        y = np.minimum(np.round(s.readings), 4095.0)
        return replace(s, readings=y, wrong=frozenset(np.nonzero((y == 4095).any(1))[0].tolist()))

    return Case(
        "12 bit, 3 % clipped", w, record(1200), record(800), structure=STILL | {"nonlinearity": ("none",)},
        censored=4000.0,
    )  # fmt: skip


def lamp(rng: np.random.Generator) -> Case:
    """The lamp falls to 45 % in the middle."""
    w = rng.random((6, 16))
    gain = 800 * _gains(rng, 6, 16) * w

    def record(rows: int, drift: Array | float) -> Session:
        x = rng.random((rows, 16))
        return _session(rng, x, x @ gain.T, 8.0, drift=drift)

    fallen = -0.55 * (np.arange(800) >= 400)
    return Case("lamp at 45 % from the middle on", w, record(800, fallen), record(500, -0.55))


def channels(rng: np.random.Generator, rows: int = 60) -> Case:
    """48 channels, 31 % of the light in the neighbours, each pair its own share; 60 rows."""
    w = rng.random((48, 48))
    x48 = np.zeros((48, 48))
    near = np.arange(47)
    x48[near, near + 1], x48[near + 1, near] = rng.uniform(0.08, 0.23, 47), rng.uniform(0.08, 0.23, 47)
    gain = (np.eye(48) + x48) @ (100 * _gains(rng, 48, 48) * w)

    def record(rows: int) -> Session:
        x = rng.random((rows, 48))
        return _session(rng, x, x @ gain.T, 6.0)

    return Case(
        "48 channels, crosstalk of each pair, 60 rows", w, record(rows), record(300),
        structure=STILL | {"nonlinearity": ("none",)},
    )  # fmt: skip


def full_gains(rng: np.random.Generator) -> Case:
    """Every gain its own, and crosstalk of 31 % that nothing tells from them."""
    w = rng.random((6, 12))
    x6 = 0.155 * (np.eye(6, k=1) + np.eye(6, k=-1))
    gain = (np.eye(6) + x6) @ (500 * (1 + 0.1 * rng.normal(size=(6, 12))) * w)

    def record(rows: int) -> Session:
        x = rng.random((rows, 12))
        return _session(rng, x, x @ gain.T, 5.0)

    return Case("full gains and crosstalk of 31 %", w, record(700), record(500), structure=STILL | {"gain": ("full",)})


def heavy_tails(rng: np.random.Generator) -> Case:
    """Student noise of three degrees of freedom."""
    w = rng.random((4, 12))
    gain = 800 * _gains(rng, 4, 12) * w

    def record(rows: int) -> Session:
        x = rng.random((rows, 12))
        return _session(rng, x, x @ gain.T, 20.0, tail=3)

    return Case("Student noise, 3 degrees", w, record(800), record(800), structure=STILL)


def speckle(rng: np.random.Generator) -> Case:
    """Multiplicative noise of 25 %, a gamma law as of 16 speckles."""
    w = rng.random((4, 12))
    gain = 800 * _gains(rng, 4, 12) * w

    def record(rows: int) -> Session:
        x = rng.random((rows, 12))
        y = x @ gain.T
        return Session(x, 100 + y * rng.gamma(16, 1 / 16, y.shape), 100 + y, 0.25 * y)

    return Case("speckle of 25 %", w, record(800), record(800), structure=STILL | {"nonlinearity": ("none",)})


def bent_inputs(rng: np.random.Generator) -> Case:
    """Every input at every output with a curvature of its own."""
    w = rng.random((4, 24))
    gain = 1000 * _gains(rng, 4, 24) * w
    bend = 0.15 * rng.normal(size=(4, 24)) * gain.mean()

    def record(rows: int) -> Session:
        x = rng.random((rows, 24))
        return _session(rng, x, x @ gain.T + x**2 @ bend.T, 10.0)

    return Case("curvature of each input", w, record(1000), record(500), structure=STILL)


def other_session(rng: np.random.Generator) -> Case:
    """A few rows fitted; another session on another day, 4 % and 30 counts off and drifting."""
    w = rng.random((4, 16))
    gain = 800 * _gains(rng, 4, 16, 0.02) * w

    def record(rows: int, drift: Array | float, moved: float) -> Session:
        x = rng.random((rows, 16))
        s = _session(rng, x, x @ gain.T, 6.0, drift=drift)
        return replace(s, readings=s.readings + moved, mean=s.mean + moved)

    course = 0.04 + 0.01 * np.sin(np.arange(600) / 80)
    return Case("another session, drifting", w, record(90, 0.0, 0.0), record(600, course, 30.0))


def knock(rng: np.random.Generator) -> Case:
    """A walk with a knock, and 5 % of the rows wrong: exchanged or garbage."""
    w = rng.random((4, 12))
    gain = 800 * _gains(rng, 4, 12) * w

    def record(rows: int) -> Session:
        x = rng.random((rows, 12))
        drift = np.cumsum(5e-4 * rng.normal(size=rows)) + 0.05 * (np.arange(rows) > 0.6 * rows)
        s = _session(rng, x, x @ gain.T, 6.0, drift=drift)
        rows_wrong = rng.choice(np.arange(5, rows - 5, 3), rows // 20, replace=False)
        low, high = s.readings.min(), s.readings.max()
        return s.spoiled(rows_wrong, rng.uniform(low, high, (len(rows_wrong), 4)))

    return Case("walk, knock and 5 % wrong rows", w, record(1000), record(600))


def flicker(rng: np.random.Generator) -> Case:
    """A source with 1/f noise of 1 %."""
    w = rng.random((6, 12))
    gain = 800 * _gains(rng, 6, 12) * w

    def record(rows: int) -> Session:
        power = 1 / np.maximum(np.arange(rows // 2 + 1), 1)
        covariance = np.fft.irfft(power, rows)
        covariance *= 1e-4 / covariance[0]
        lag = np.abs(np.subtract.outer(np.arange(rows), np.arange(rows)))
        covariance = covariance[lag]
        values, vectors = np.linalg.eigh(covariance)
        course = vectors @ (np.sqrt(np.maximum(values, 0)) * rng.normal(size=rows))
        x = rng.random((rows, 12))
        light = x @ gain.T
        s = _session(rng, x, light, 3.0, drift=course)
        # what the other rows tell of a row's drift, were they without noise: the best that can be predicted
        known = np.linalg.inv(covariance + 1e-9 * np.eye(rows))
        told = course - (known @ course) / np.diag(known)
        return replace(s, mean=100 + light * (1 + told[:, None]))

    return Case("1/f noise of the source, 1 %", w, record(1000), record(600))


def quantised(rng: np.random.Generator) -> Case:
    """Readings in steps of 40 counts, twice the noise."""
    w = rng.random((4, 12))
    gain = 800 * _gains(rng, 4, 12) * w

    def record(rows: int) -> Session:
        x = rng.random((rows, 12))
        s = _session(rng, x, x @ gain.T, 20.0)
        return replace(s, readings=40 * np.round(s.readings / 40), sd=np.sqrt(s.sd**2 + 40**2 / 12))

    return Case("readings in steps of two noises", w, record(800), record(600), structure=STILL)


def signed(rng: np.random.Generator) -> Case:
    """Signed inputs and weights, the sign of the readings turned round."""
    w = rng.normal(size=(5, 14))
    gain = -300 * _gains(rng, 5, 14) * w

    def record(rows: int) -> Session:
        x = rng.normal(size=(rows, 14))
        return _session(rng, x, x @ gain.T, 8.0)

    return Case(
        "signed operands, readings turned round", w, record(800), record(600),
        structure=STILL | {"nonlinearity": ("none",)},
    )  # fmt: skip


def one_detector(rng: np.random.Generator) -> Case:
    """A single detector that looks through 10 sets of weights and saturates."""
    w, u = rng.random((10, 30)), 1 + 0.05 * rng.normal(size=30)

    def record(rows: int) -> Session:
        x, output = rng.random((rows, 30)), rng.integers(0, 10, rows)
        light = 1000 * ((w[output] * x) @ u)
        y = light / (1 + 0.5 * light / 15000)
        s = _session(rng, x, y[:, None], 15.0)
        return replace(s, readings=s.readings[:, 0], mean=s.mean[:, 0], sd=s.sd[:, 0], output=output)

    return Case("one detector, saturation 0.5", w, record(1500), record(800), structure=STILL)


def no_light(rng: np.random.Generator) -> Case:
    """Readings that have nothing to do with the inputs."""
    w = rng.random((4, 12))

    def record(rows: int) -> Session:
        x = rng.random((rows, 12))
        return _session(rng, x, np.zeros((rows, 4)), 3.0)

    return Case("no light", w, record(500), record(100), "refused")


def hardly_any(rng: np.random.Generator) -> Case:
    """A trace of light in noise eight times as large: it follows the inputs, but tells hardly more than the mean."""
    w = rng.random((4, 12))
    gain = 10 * w

    def record(rows: int) -> Session:
        x = rng.random((rows, 12))
        y = x @ gain.T
        return _session(rng, x, y, 8 * y.std())

    # 1.5 % of the variance: chance decides whether the F test sees it, and 2 % is what the gate asks for if it does
    return Case("signal an eighth of the noise", w, record(1500), record(100), "refused or not applied")


def _sound(rng: np.random.Generator) -> tuple[Array, Callable[[int], Session]]:
    """Weights of a bench without any fault, and what records so many rows of it."""
    w = rng.random((4, 12))
    gain = 800 * _gains(rng, 4, 12) * w

    def record(rows: int) -> Session:
        x = rng.random((rows, 12))
        return _session(rng, x, x @ gain.T, 8.0)

    return w, record


def stopped(rng: np.random.Generator) -> Case:
    """The camera stops: the last six rows read zero."""
    w, record = _sound(rng)
    train = record(900)
    last = np.arange(894, 900)
    return Case("the camera stops", w, train.spoiled(last, np.zeros((6, 4))), record(500), structure=STILL)


def doubled(rng: np.random.Generator) -> Case:
    """One frame is delivered twice at row 300: every reading from there on stands one row too late."""
    w, record = _sound(rng)
    train = record(900)
    late = np.concatenate([train.readings[:301], train.readings[300:-1]])
    wrong = frozenset({299, 300, 301, 899})
    return Case("a frame twice", w, replace(train, readings=late, wrong=wrong), record(500), structure=STILL)


BENCHES: dict[str, Callable[[np.random.Generator], Case]] = {
    "saturating 0.3": lambda rng: saturating(rng, 0.3),
    "saturating 0.5": lambda rng: saturating(rng, 0.5),
    "saturating 1": lambda rng: saturating(rng, 1.0),
    "identity saturating": identity_saturating,
    "identity": identity_plain,
    "gamma 2.2": lambda rng: gamma(rng, 2.2),
    "gamma 1.2": lambda rng: gamma(rng, 1.2),
    "gamma 0.45": lambda rng: gamma(rng, 0.45),
    "ceiling": ceiling,
    "lamp": lamp,
    "48 channels": channels,
    "full gains": full_gains,
    "heavy tails": heavy_tails,
    "speckle": speckle,
    "bent inputs": bent_inputs,
    "other session": other_session,
    "knock": knock,
    "flicker": flicker,
    "quantised": quantised,
    "signed": signed,
    "one detector": one_detector,
    "no light": no_light,
    "hardly any": hardly_any,
    "stopped": stopped,
    "doubled": doubled,
}

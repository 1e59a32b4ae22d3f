"""What a bench does to operands and light, as numbers: from a calibration, or one of the presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import OutOfDomain
from calibration.machine.artefact import Calibration
from calibration.machine.channel import Channel
from calibration.machine.encoding import Encoding, encoding
from calibration.machine.layout import Layout
from calibration.response.model import Response
from simulation.light.recent import Recent
from simulation.light.showing import LEVEL_CELLS, Levels, show_operands

Float = NDArray[np.float32]

PAPER_FLOOR = 0.02004  # of the SLM: Optical Transformers (arXiv 2302.10360), finite extinction
PAPER_SPREAD = (0.021, 0.0565)  # the same: σ over the mean reading, linear layers and attention products
PAPER_CLIP = (99.0, 98.0)  # the same: percentile of the weights, and of an attention product's second operand


@dataclass(frozen=True)
class Panel:
    """One modulator: which transmissions it can give.

    Attributes
    ----------
    floor
        Transmission of the darkest level, as the calibration has it [1].
    levels
        What it can show, ready to be looked up.
    """

    floor: float
    levels: Levels

    @classmethod
    def of(cls, transmission: NDArray[np.float64], shown: NDArray[np.float64] | None = None) -> Panel:
        """A panel whose levels are chosen by ``transmission`` (levels,) and really give ``shown``, the same if None."""
        floor = float(transmission[0])
        midpoints = ((transmission[1:] + transmission[:-1]) / 2).astype(np.float32)
        edges = (np.arange(LEVEL_CELLS + 1) / (LEVEL_CELLS - 1)) ** 2
        first = np.searchsorted(midpoints, edges[:-1] * (1 - 1e-6))
        last = np.searchsorted(midpoints, edges[1:] * (1 + 1e-6))
        really = (transmission if shown is None else np.maximum(shown, 0.0)).astype(np.float32)
        steps = np.diff(transmission)
        if shown is None and len(steps) and np.ptp(steps) < 1e-6 * steps.mean():
            return cls(floor, Levels(np.float32(floor), np.empty(0, np.float32), midpoints, really))
        table = np.where(first == last, really[first], -1.0 - first).astype(np.float32)
        return cls(floor, Levels(np.float32(floor), table, np.append(midpoints, np.float32(np.inf)), really))

    @classmethod
    def continuous(cls) -> Panel:
        """A panel that shows any transmission from 0 to 1."""
        empty = np.empty(0, np.float32)
        return cls(0.0, Levels(np.float32(0), empty, empty, np.zeros(1, np.float32)))

    def show(self, operand: Float, factor: Float | None = None) -> Float:
        """Operands 0 … 1, any shape, clipped there, to the transmissions that the panel really gives.

        ``factor`` (…), by the last axes of the operands, multiplies them first.
        """
        each = _NO_FACTOR if factor is None else np.ascontiguousarray(factor, np.float32).reshape(-1)
        rows = np.ascontiguousarray(operand, np.float32).reshape((1, -1) if factor is None else (-1, each.size))
        out = np.empty_like(rows)
        show_operands(rows, each, np.float32(1 - self.floor), self.levels, out)
        return out.reshape(operand.shape)


LEAST_PHOTONS, MOST_PHOTONS = 1e-15, 1e15
"""Per MAC: with less nothing is ever detected, and more are joules for one product of vectors; far beyond them counts
are no numbers of single precision, and noise would be left out."""
_NO_FACTOR = np.empty(0, np.float32)


@dataclass(frozen=True)
class Optics:
    """Everything that a product in light depends on, besides its operands.

    Attributes
    ----------
    name
        For messages and reports.
    encoding
        How signs become light.
    display, slm
        `Panel`: what each can show.
    layout
        Outputs and inputs of one frame; None if a matrix of any size fits.
    channel, actual
        Gain, crosstalk and bleed as calibrated, by which operands are shown and readings decoded, and as the bench
        really has them. None: all ones, none, none.
    electrons, photons
        Of one macropixel at full transmission in one frame of the bench's own light: detected electrons, and photons
        at the weight plane. 0: the preset has no light of its own, and no shot noise unless photons per MAC are given.
    quantum_efficiency
        Detected electrons per photon that leaves the weight plane [e-/photon].
    read_e
        Read noise of one output of one frame [e-].
    flicker
        Common to a frame: standard deviation of the factor by which the source is brighter or darker from one frame to
        the next, and of what reference frames leave of its drift, added in squares [1].
    spread
        σ of a reading over the mean reading of its pass, for linear layers and attention products [1] (paper).
    per_pass
        Each input pass on the scale of its own maximum and with the stated photons (paper), or both in one light.
    clip
        Percentile of the magnitudes that full transmission stands for: weights, second operands of attention.
    drift
        Relative change of the light since the calibration, rms, one for every matrix that is shown [1].
    detectors
        Weight passes that are shown at once, each before a detector of its own.
    """

    name: str
    encoding: Encoding
    display: Panel
    slm: Panel
    layout: Layout | None = None
    channel: Channel | None = None
    actual: Channel | None = None
    electrons: float = 0.0
    photons: float = 0.0
    quantum_efficiency: float = 1.0
    read_e: float = 0.0
    flicker: float = 0.0
    spread: tuple[float, float] = (0.0, 0.0)
    per_pass: bool = False
    clip: tuple[float, float] = PAPER_CLIP
    drift: float = 0.0
    detectors: int = 1

    def __post_init__(self) -> None:
        least = {
            "electrons": self.electrons, "photons": self.photons, "read_e": self.read_e, "flicker": self.flicker,
            "drift": self.drift, "spread of linear layers": self.spread[0], "spread of attention": self.spread[1],
        }  # fmt: skip
        for name, value in least.items():
            if not 0 <= value < np.inf:
                raise _no_such(self.name, name, "a number that is not negative", value)
        if not 0 < self.quantum_efficiency < np.inf:
            raise _no_such(self.name, "quantum_efficiency", "a number above 0", self.quantum_efficiency)
        if self.detectors < 1:
            raise _no_such(self.name, "detectors", "1 or more", self.detectors)
        require_clip(self.clip, self.name)

    @cached_property
    def placements(self) -> Recent[tuple[int, int], Any]:
        """Where matrices of each shape lie, as far as `simulation.light.product.Bench.place` was asked."""
        return Recent()

    @classmethod
    def of(cls, calibration: Calibration, *, device_seed: int | None = None) -> Optics:
        """The calibrated bench.

        Parameters
        ----------
        calibration
            From `calibration.machine.artefact.load`.
        device_seed
            None: the bench is what the calibration says. A number: one of the benches that the calibration could have
            come from, drawn from its standard errors, while operands and decoding keep to the calibration: so what the
            calibration does not know becomes a systematic error, the same in every layer and every run.
        """
        machine, domain = calibration.machine, calibration.domain
        channel = actual = machine.channel
        display, slm = Panel.of(machine.display.transmission), Panel.of(machine.slm.transmission)
        if device_seed is not None:
            rng = np.random.default_rng(np.random.SeedSequence(device_seed))

            def near(value: NDArray[np.float64], stderr: NDArray[np.float64]) -> NDArray[np.float64]:
                return value + stderr * rng.standard_normal(value.shape)

            display, slm = (
                Panel.of(lut.transmission, near(lut.transmission, lut.stderr)) for lut in (machine.display, machine.slm)
            )
            actual = replace(
                channel,
                gain_dn=near(channel.gain_dn, channel.gain_stderr_dn),
                offset_dn=near(channel.offset_dn, channel.offset_stderr_dn),
                crosstalk=near(channel.crosstalk, channel.crosstalk_stderr),
                bleed=near(channel.bleed, channel.bleed_stderr),
            )
            if found := channel.couplings:
                before, after, above, below = near(
                    np.stack([found.before, found.after, found.above, found.below]), found.stderr
                )
                actual = replace(
                    actual,
                    couplings=replace(
                        found,
                        before=before,
                        after=after,
                        above=above,
                        below=below,
                        dark_dn=near(found.dark_dn, found.dark_stderr_dn),
                    ),
                )
        noise = channel.noise
        return cls(
            name=calibration.id,
            encoding=machine.encoding,
            display=display,
            slm=slm,
            layout=machine.layout,
            channel=channel,
            actual=actual,
            electrons=float(channel.gain_dn.min()) / noise.shot_dn,
            photons=float(channel.gain_dn.mean()) / noise.shot_dn / domain.quantum_efficiency,
            quantum_efficiency=domain.quantum_efficiency,
            read_e=noise.read_dn / noise.shot_dn,
            flicker=float(np.hypot(noise.flicker, domain.gain_left or 0.0)),
        )


def ideal() -> Optics:
    """No noise and no quantisation; given photons per MAC, shot noise and nothing else."""
    panel = Panel.continuous()
    return Optics("ideal", encoding("sign-split"), panel, panel, clip=(100.0, 100.0))


def paper() -> Optics:
    """The model of Optical Transformers (arXiv 2302.10360): 8-bit panels, SLM floor, a reading error, shot noise.

    Its measured LUTs are not published as numbers: both panels are taken as linear with 256 levels, the SLM from its
    floor upwards. Decoding knows the floor, as everywhere in the suite.
    """
    ramp = np.linspace(0.0, 1.0, 256)
    slm = Panel.of(PAPER_FLOOR + (1 - PAPER_FLOOR) * ramp)
    return Optics("paper", encoding("sign-split"), Panel.of(ramp), slm, spread=PAPER_SPREAD, per_pass=True)


PRESETS = {"ideal": ideal, "paper": paper}


Source = Calibration | Response | Optics | str
"""What a product in light can be computed on: a calibration, optics, or a preset by its name."""


def optics(source: Source, *, device_seed: int | None = None) -> Optics:
    """Make `Optics` of whatever describes a bench.

    Raises
    ------
    OutOfDomain
        When there is no such preset, or the calibration is one of imported readings.
    """
    if isinstance(source, Calibration):
        return Optics.of(source, device_seed=device_seed)
    if isinstance(source, Optics):
        return source
    if isinstance(source, Response):
        raise OutOfDomain(
            "an imported bench is known by its readings, not by its optics",
            expected=f"a calibration of a bench that labctl drives, or {' or '.join(PRESETS)}",
            seen=f"a response of {source.n_outputs} outputs",
            hint="labctl predict shows what it says about other inputs, labctl simulate what it does to a model",
        )
    if not isinstance(source, str):
        raise OutOfDomain(
            "nothing of this kind describes a bench",
            expected=f"a calibration, its path or name, or {' or '.join(PRESETS)}",
            seen=f"{type(source).__name__}: {source!r}"[:80],
            hint="labctl.load_calibration(PATH) opens one",
        )
    if source not in PRESETS:
        raise OutOfDomain("no such preset", expected=" or ".join(PRESETS), seen=source, hint="or load a calibration")
    return PRESETS[source]()


def require_clip(clip: tuple[float, float], device: str) -> None:
    """Refuse percentiles that are none: at 0 everything would be clipped.

    Raises
    ------
    OutOfDomain
    """
    for each in clip:
        if not 0 < each <= 100:
            raise _no_such(device, "clip", "percentiles above 0, up to 100", each)


def _no_such(device: str, name: str, expected: str, seen: float) -> OutOfDomain:
    return OutOfDomain(
        "no bench can be so", device=device, expected=f"{name}: {expected}", seen=f"{seen:g}", hint=f"state {name} anew"
    )

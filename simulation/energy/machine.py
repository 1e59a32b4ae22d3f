"""What the optical machine is for its bill: how it shows signs, how large its array is, how its matrices stay there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from calibration.errors import OutOfDomain
from simulation.energy.constants import MOST_BITS
from simulation.energy.operations import MatrixProduct, is_digital
from simulation.light.optics import MOST_PHOTONS

Schedule = Literal["pipelined", "in turn"]
STEEPEST = 4
"""Largest exponent of a law of photons."""
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


@dataclass(frozen=True)
class Conversions:
    """How often each part of a machine works for one vector of a product, by the way it shows signs.

    The same counts as those of `simulation.light.accounting.Tally` for the benches of `simulation.benches`.

    Attributes
    ----------
    name
        Of the family of encodings.
    signed_inputs
        Vectors with both signs are shown in one pass.
    shows
        How often the inputs of each pass are converted: twice where W⁺ and W⁻ see them one after the other.
    pixels
        Modulators for each weight.
    readings
        Converted for each output and pass of the inputs.
    light
        Passes of light at the weight plane for each MAC and pass of the inputs.
    corrections
        Digital operations for each output, which need the sum of the inputs once for each vector.
    """

    name: str
    signed_inputs: bool = False
    shows: int = 1
    pixels: int = 2
    readings: int = 2
    light: int = 2
    corrections: int = 0


SIDE_BY_SIDE = Conversions("sign-split")
"""W⁺ and W⁻ lie side by side: each vector that is shown meets both, on outputs of their own."""
CONVERSIONS: dict[str, Conversions] = {
    each.name: each
    for each in (
        SIDE_BY_SIDE,
        Conversions("sign-split-in-turn", shows=2),
        Conversions("sign-split-balanced", readings=1, light=1),
        Conversions("offset", signed_inputs=True, pixels=1, readings=1, light=1, corrections=2),
        Conversions("differential", pixels=1, readings=1, light=1),
        Conversions("coherent", signed_inputs=True, pixels=1, readings=1, light=1),
        Conversions("partial-sums", shows=2),
        Conversions("crossbar", signed_inputs=True, pixels=1, readings=1, light=0),
    )
}
"""By name of the encoding. ``balanced`` reads the difference of two detectors; ``partial-sums`` reads every tile of its
inputs, as all do whose array is finite; in a ``crossbar`` of resistive cells currents have signs, and there is no
light."""


@dataclass(frozen=True)
class Words:
    """Bits of what is shown, of what is held, and of what is read: each converter works at its own.

    Attributes
    ----------
    inputs, weights, outputs
        1 … `MOST_BITS`.
    """

    inputs: int
    weights: int
    outputs: int

    def __post_init__(self) -> None:
        for bits in self.each:
            if not 1 <= bits <= MOST_BITS or bits != int(bits):
                raise OutOfDomain(
                    "not a number of bits", device="the words of the machine", expected=f"1 … {MOST_BITS}",
                    seen=f"{bits}", hint="--bits 8, or --bits 4,4,8",
                )  # fmt: skip

    @property
    def each(self) -> tuple[int, int, int]:
        """Of inputs, weights and outputs."""
        return self.inputs, self.weights, self.outputs

    @property
    def is_one(self) -> bool:
        """All of them have the same number of bits."""
        return len(set(self.each)) == 1

    def __str__(self) -> str:
        return f"{self.inputs}" if self.is_one else ",".join(map(str, self.each))


@dataclass(frozen=True)
class PhotonLaw:
    """Photons at the weight plane per MAC and pass, against the length k of the sum.

    ``photons(k) = per_mac (at_width / k)^exponent``: exponent 1 is the paper's claim, 0 what signed random operands
    need at a fixed relative error.

    Attributes
    ----------
    per_mac
        [photon/MAC] at ``at_width``.
    at_width, exponent
        Reference length and power law [1].
    efficiency
        Electrons per photon of the bench on which they were counted: a machine with other detectors needs as many
        electrons. None: photons of whatever machine it is.
    """

    per_mac: float
    at_width: float = 1.0
    exponent: float = 0.0
    efficiency: float | None = None

    def __post_init__(self) -> None:
        is_one = 0 <= self.per_mac <= MOST_PHOTONS and 0 < self.at_width < math.inf and abs(self.exponent) <= STEEPEST
        if not is_one or not (self.efficiency is None or 0 < self.efficiency <= 1):
            raise OutOfDomain(
                "not a law of photons",
                expected=f"at most {MOST_PHOTONS:g} photons, and an exponent of {-STEEPEST} … {STEEPEST}",
                seen=f"{self.per_mac:g} at {self.at_width:g}, exponent {self.exponent:g}, efficiency {self.efficiency}",
                hint="--photons-per-mac 1 --at-width 12288 --exponent 1",
            )

    def __call__(self, k: int) -> float:
        """[photon/MAC] for a sum of k products."""
        return float(self.per_mac * (self.at_width / k) ** self.exponent)


@dataclass(frozen=True)
class Machine:
    """How the optical machine is used; the encoding of the bench and of the simulation.

    Attributes
    ----------
    photons
        `PhotonLaw`; None for a machine without light, whose cells cost ``array.mac`` for each MAC.
    bits
        Of operands and results: one number, or `Words` where they differ.
    array
        (M, K) macropixels at a time; None: as large as each matrix.
    weights
        ``"held"``: every matrix has its own modulators; ``"reloaded"``: one array is written anew for every matrix of
        every forward pass.
    schedule
        How long a held matrix is charged for. ``"pipelined"``: while its own vectors pass, because other forward passes
        keep all matrices busy at all times, which is the least that holding can cost; ``"in turn"``: the whole forward
        pass, of which it sees its own vectors only, as when one user's tokens are computed one after another.
    digital
        Shell patterns of layers that stay digital; the output head always does in the paper.
    conversions
        `Conversions`
    attention
        ``"optical"``, or ``"digital"`` for a machine whose matrices cannot be written at the rate of tokens.
    cache
        Where keys and values of earlier tokens are. ``"reloaded"``: in memory, from which they are fetched and written
        onto the modulators for every token; ``"held"``: on modulators of their own, to which each token adds its own.
    experts
        Where the experts of a block are, of which each token asks a few: ``"held"`` on modulators of their own, idle
        ones too, or ``"reloaded"`` when they are asked.
    vectors_at_once
        Vectors that meet a matrix that is written for them; the matrix is written again for the next. None: all.
    tile
        Inputs that share a scale, as in `simulation.benches.tiled`: each tile of them is read by itself, and the scales
        of its inputs and of each output's weights go with the readings. None: a vector has one, and so has a matrix.
    """

    photons: PhotonLaw | None
    bits: int | Words = 8
    array: tuple[int, int] | None = None
    weights: str = "held"
    schedule: Schedule = "pipelined"
    digital: tuple[str, ...] = ()
    conversions: Conversions = SIDE_BY_SIDE
    attention: str = "optical"
    cache: str = "reloaded"
    experts: str = "held"
    vectors_at_once: int | None = None
    tile: int | None = None

    def __post_init__(self) -> None:
        _ = self.words
        if self.tile is None:
            return
        if self.tile < 1 or not self.conversions.name.startswith(SIDE_BY_SIDE.name):
            raise OutOfDomain(
                "tiles with scales of their own are priced where signs are split",
                expected=f"one input to a tile at least, and {SIDE_BY_SIDE.name}",
                seen=f"{self.tile} inputs, {self.conversions.name}",
                hint="leave out --tile, or --tile 64 without --machine",
            )

    @property
    def words(self) -> Words:
        """Of inputs, weights and outputs.

        Raises
        ------
        OutOfDomain
            For a number of bits that no word has.
        """
        return self.bits if isinstance(self.bits, Words) else Words(self.bits, self.bits, self.bits)

    def is_digital(self, product: MatrixProduct) -> bool:
        """Whether a product is computed on the chip beside the optics."""
        return is_digital(product, self.digital) or (product.kind == "attention" and self.attention == "digital")

    def signs(self, product: MatrixProduct) -> int:
        """Passes that the vectors of a product take for their signs."""
        return 1 if product.non_negative or self.conversions.signed_inputs else 2

    def tiles(self, product: MatrixProduct) -> tuple[int, int]:
        """How many tiles the outputs of all modulators of a weight, and the inputs, of a matrix need."""
        columns = self._columns(product.k)
        return 1 if self.array is None else -(-self.conversions.pixels * product.m // self.array[0]), columns

    def _columns(self, inputs: int) -> int:
        """Sums that are read one by one: of the inputs of a scale, or of as many of them as the array has columns."""
        at_once = inputs if self.array is None else self.array[1]
        whole, rest = divmod(inputs, self.tile or inputs)
        return whole * -(-(self.tile or inputs) // at_once) + -(-rest // at_once)

    def scales(self, product: MatrixProduct) -> int:
        """Scales of a vector, and of the weights of an output, that are numbers of their own."""
        return 0 if self.tile is None else -(-product.k // self.tile)

    @property
    def holds_cache(self) -> bool:
        """Keys and values stay on modulators: attention is optical, and no matrix is written for some vectors only."""
        return self.cache == "held" and self.attention == "optical" and self.vectors_at_once is None

    def stays(self, product: MatrixProduct) -> bool:
        """Whether the matrix of a product has modulators of its own from one call to the next."""
        if product.kind == "attention":
            return self.holds_cache and product.new is not None
        is_expert = product.stage > 0
        return self.weights == "held" and not (is_expert and self.experts == "reloaded")

    def writings(self, product: MatrixProduct) -> int:
        """How often a matrix is written where it does not stay."""
        return 1 if self.vectors_at_once is None else -(-product.n // self.vectors_at_once)

    def slots(self, product: MatrixProduct) -> int:
        """Periods of the clock that a product takes: vectors, once for each sign that they have.

        Tiles of a held matrix have arrays of their own and see a vector at the same time; a matrix that is reloaded
        has one array for all of them.
        """
        at_once = self.writings(product) if self.vectors_at_once else product.n
        vectors = product.batch * at_once * self.signs(product) * self.conversions.shows
        reloads = product.kind != "attention" and not self.stays(product)
        return vectors * math.prod(self.tiles(product)) if reloads else vectors

    def written(self, product: MatrixProduct) -> int:
        """Elements of each matrix that are written: what a cache adds, or all; a window that moves holds fewer."""
        if self.stays(product):
            return product.new or 0
        return max(product.k * product.m, product.new or 0)

    def patterns(self, product: MatrixProduct) -> int:
        """Arrays that are written for a product, one after another."""
        share = self.written(product) / (product.k * product.m)
        return product.batch * self.writings(product) * math.ceil(math.prod(self.tiles(product)) * share)

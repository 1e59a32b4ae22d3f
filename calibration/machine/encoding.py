"""Signed numbers as light that cannot be negative: strategies behind one interface.

A strategy writes a signed weight as ``W = Σ_i a_i V_i + a`` and a signed input as ``x = Σ_j c_j v_j + c`` with V and
v in 0 … 1, which transmissions can stand for. Each pair (i, j) is one pass of the bench, and the product is

    W·x = Σ_ij a_i c_j (V_i·v_j) + a Σ_j c_j (1·v_j) + c Σ_i a_i (V_i·1) + a c K,

where the bench gives the first term, and all others are sums of one operand that a computer does. A panel rounds V
and v to the nearest of its gray levels (`calibration.machine.lut.Lut.encode`); that is no part of the encoding.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.errors import OutOfDomain
from groundwork.nearest import did_you_mean

Float = NDArray[np.float64]


class Encoding(Protocol):
    """How signs become light.

    Attributes
    ----------
    name
        In station files and artefacts.
    weight_factors, input_factors
        (a_1 …), (c_1 …)
    weight_constant, input_constant
        a, c
    """

    name: str
    weight_factors: tuple[float, ...]
    input_factors: tuple[float, ...]
    weight_constant: float
    input_constant: float

    def split_weight(self, weight: Float) -> Float:
        """The light V_i of each weight pass: (m, k) in −1 … 1 to (P, m, k) in 0 … 1."""

    def split_input(self, vectors: Float) -> Float:
        """The light v_j of each input pass: (n, k) in −1 … 1 to (Q, n, k) in 0 … 1."""


class SignSplit:
    """``W = W⁺ − W⁻`` and ``x = x⁺ − x⁻``: four passes, of which those without any light are skipped."""

    name = "sign-split"
    weight_factors: tuple[float, ...] = (1.0, -1.0)
    input_factors: tuple[float, ...] = (1.0, -1.0)
    weight_constant = 0.0
    input_constant = 0.0

    def split_weight(self, weight: Float) -> Float:
        parts = np.empty((2, *weight.shape), weight.dtype)
        np.maximum(weight, 0.0, out=parts[0])
        np.maximum(-weight, 0.0, out=parts[1])
        return parts

    def split_input(self, vectors: Float) -> Float:
        return np.stack([np.maximum(vectors, 0.0), np.maximum(-vectors, 0.0)])


class Offset:
    """``W = 2V − 1`` and ``x = 2v − 1``: one pass and two digital sums; its price is light, half of it for zeros."""

    name = "offset"
    weight_factors: tuple[float, ...] = (2.0,)
    input_factors: tuple[float, ...] = (2.0,)
    weight_constant = -1.0
    input_constant = -1.0

    def split_weight(self, weight: Float) -> Float:
        return 0.5 * (weight[None] + 1.0)

    def split_input(self, vectors: Float) -> Float:
        return 0.5 * (vectors[None] + 1.0)


ENCODINGS: dict[str, type[SignSplit] | type[Offset]] = {e.name: e for e in (SignSplit, Offset)}


def encoding(name: str) -> Encoding:
    """The strategy of that name.

    Raises
    ------
    OutOfDomain
        When there is none.
    """
    if name not in ENCODINGS:
        hint = did_you_mean(name, ENCODINGS, "labctl station check")
        raise OutOfDomain("unknown encoding", expected=" or ".join(ENCODINGS), seen=name, hint=hint)
    return ENCODINGS[name]()

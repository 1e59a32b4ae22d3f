"""The products that light is prepared for, by names of their own, as long as the model has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import Any, Generic, TypeVar

from torch import Tensor

from simulation.conversion.ledger import Conversion
from simulation.conversion.origins import Origin, key_of

Matrix = TypeVar("Matrix")
Pair = TypeVar("Pair")

REPLICA = " in the replica on "
"""Between a product's name and a device of `torch.nn.DataParallel`, on which it has noise and a tally of its own."""
_NUMBERED = re.compile(r"(?:\.?(?:product|matrix|thread)\d+)+$")
"""What a product without a parameter of its own is called after its module."""


class Prepared(Generic[Matrix, Pair]):
    """Matrices and pairs that have run, or that the model is expected to ask for.

    Parameters
    ----------
    matrix, pair
        Make what multiplies, from a product's name (and the matrix as it is now).
    conversion
        Where their names stand.

    Attributes
    ----------
    matrices
        By parts of parameters, or by modules and numbers → name, and what multiplies.
    pairs
        By names.
    """

    def __init__(
        self, matrix: Callable[[str, Tensor], Matrix], pair: Callable[[str], Pair], conversion: Conversion
    ) -> None:
        self.matrices: dict[Any, tuple[str, Matrix]] = {}
        self.pairs: dict[str, Pair] = {}
        self._matrix, self._pair, self._conversion = matrix, pair, conversion
        self._expected: set[Any] = set()
        self._asked: list[tuple[Any, str, Tensor | None]] = []
        self._ever_expected: set[Any] = set()
        self._places: Container[str] = ()

    def expect_nothing(self) -> None:
        """What is expected is said anew; what has run is not forgotten."""
        self._expected, self._asked = set(), []

    def expect_matrix(self, name: str, parameter: str, weight: Tensor) -> None:
        """A matrix (M, K) that is a whole parameter, or its transpose."""
        self._expect(key_of(Origin(parameter, weight), weight), name, weight)

    def expect_pair(self, name: str) -> None:
        """A module that is a product of two operands."""
        self._expect(name, name, None)

    def _expect(self, key: Any, name: str, weight: Tensor | None) -> None:
        self._expected.add(key)
        self._asked.append((key, name, weight))

    def is_expected(self, origin: Origin, weight: Tensor) -> bool:
        """Is it the matrix of a linear layer?"""
        return origin.parameter is not None and key_of(origin, weight) in self._expected

    def settle(self, places: Container[str]) -> None:
        """All is expected that will be: let go of what the model no longer has, and prepare for what is new.

        Parameters
        ----------
        places
            Names of all modules, parameters and buffers.
        """
        self._places = places
        self._ever_expected |= self._expected
        self.let_go()
        asked, self._asked = self._asked, []  # or a weight would be kept that the model gives up
        for key, name, weight in asked:
            if weight is None:
                self.pair(name)
            elif key not in self.matrices:
                self.matrix(key, name, weight)

    def let_go(self) -> None:
        """Forget the products that the model no longer has, unless they have run: those are counted."""
        ran, optical = self._conversion.ran, self._conversion.optical
        for key, (name, _) in list(self.matrices.items()):
            if name not in ran and self._is_gone(key, str(key[0])):
                del self.matrices[key]
                optical.remove(name)
        for name in list(self.pairs):
            if name not in ran and self._is_gone(name, name.partition(REPLICA)[0]):
                del self.pairs[name]
                optical.remove(name)

    def matrix(self, key: Any, name: str, weight: Tensor) -> tuple[str, Matrix]:
        """Prepare for a matrix."""
        taken, number, unused = set(self._conversion.optical), 1, name
        while unused in taken:  # noise and tally go by the name
            number += 1
            unused = f"{name} ({number})"
        self.matrices[key] = unused, self._matrix(unused, weight)
        self._conversion.optical.append(unused)
        return self.matrices[key]

    def pair(self, name: str) -> None:
        """Prepare for two operands that are new with every call."""
        if name not in self.pairs:
            self.pairs[name] = self._pair(name)
            self._conversion.optical.append(name)

    def _is_gone(self, key: Any, place: str) -> bool:
        if key in self._ever_expected:
            return key not in self._expected
        return _NUMBERED.sub("", place) not in self._places

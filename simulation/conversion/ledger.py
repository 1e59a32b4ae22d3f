"""What is in light and what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field


@dataclass
class Conversion:
    """What is in light and what is not, as far as the model has shown it.

    Attributes
    ----------
    optical
        Names of matrices and pairs. Those of linear layers are known before the model has run.
    digital
        Name of what stays digital → why: layers with parameters that are no product, and products as they occur.
    digital_macs
        Multiply–accumulates of the products that stayed digital, by the same names.
    uncounted
        Names of those whose multiply–accumulates nobody can tell from their operands.
    by_elements
        Of modules: multiplications of two numbers that are summed with no other, as of gates and rotations.
    ran
        Those of ``optical`` that have run.
    """

    optical: list[str] = field(default_factory=list)
    digital: dict[str, str] = field(default_factory=dict)
    digital_macs: Counter[str] = field(default_factory=Counter)
    uncounted: set[str] = field(default_factory=set)
    by_elements: Counter[str] = field(default_factory=Counter)
    ran: set[str] = field(default_factory=set)

    def begin_anew(self, names: Set[str]) -> None:
        """Nothing of these has run."""
        for name in names:
            del self.digital_macs[name], self.by_elements[name]
        self.uncounted -= names
        self.ran -= names

    def let_go(self) -> None:
        """Forget what stays digital and has not run: the model may not have it any more."""
        for name in [name for name in self.digital if not self.digital_macs[name] and name not in self.uncounted]:
            del self.digital[name]

    def leave(self, module: str, why: str, macs: int | None) -> None:
        """Note a product that stays digital, and its multiply–accumulates where they are known.

        What a module has of another reason goes by a name of its own, ``module (2)``.
        """
        name, number = module, 1
        while self.digital.setdefault(name, why) != why:
            number += 1
            name = f"{module} ({number})"
        if macs is None:
            self.uncounted.add(name)
        else:
            self.digital_macs[name] += macs

"""Converters at other bits than their constants are stated for: what is assumed, in words, and the rule itself."""

from __future__ import annotations

from dataclasses import replace

from simulation.energy.constants import OF_BITS, Components
from simulation.energy.pricing import PER_BIT


def in_bits(bits: int) -> str:
    """``1 bit``, ``6 bits``."""
    return f"{bits} bit" if bits == 1 else f"{bits} bits"


def scaled_words(bits: int, components: Components) -> tuple[str, ...]:
    """Two lines; nothing where all converters are stated for these bits."""
    stated = sorted({components.stated_bits(name) for name in OF_BITS} - {bits})
    if not stated:
        return ()
    rule = components[PER_BIT]
    return (
        f"words of {in_bits(bits)}, converters stated for {' and '.join(map(str, stated))}: scaled by assumption",
        f"DAC and ADC {rule.value:.3g} × ({rule.low:.3g} … {rule.high:.3g}) a bit, modulators in proportion to bits",
    )


def with_rule(components: Components, shipped: Components) -> Components:
    """Constants with the rule of the shipped table where a table of one's own has none."""
    return replace(components, constants={PER_BIT: shipped[PER_BIT], **components.constants})

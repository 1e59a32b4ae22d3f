"""Bits as they are typed, and what is assumed of converters at other bits than their constants are stated for."""

from __future__ import annotations

from dataclasses import replace

from labctl.errors import UsageError
from simulation.energy.constants import ADC, DAC, MODULATOR, OF_BITS, Components
from simulation.energy.machine import Words
from simulation.energy.pricing import PER_BIT


def bits_stated(stated: str, least: int, most: int) -> tuple[int, int, int]:
    """Bits of inputs, weights and outputs as stated, ``"4"`` for all of them or ``"4,4,8"``.

    Raises
    ------
    UsageError
        For what is neither one number nor three, of ``least`` to ``most`` bits.
    """
    parts = [part.strip() for part in stated.split(",")]
    each = [int(part) if part.isdecimal() else 0 for part in parts]
    if len(each) not in (1, 3) or not all(least <= bits <= most for bits in each):
        raise UsageError(
            "bits are one number for inputs, weights and outputs, or three",
            expected=f"{least} … {most}",
            seen=stated,
            hint="--bits 4, or --bits 4,4,8",
        )
    inputs, weights, outputs = each if len(each) == 3 else each * 3
    return inputs, weights, outputs


def in_bits(words: Words) -> str:
    """``1 bit``, ``6 bits``, ``4 bits in, 4 of weights, 8 out``."""
    if words.is_one:
        return f"{words} bit" if words.inputs == 1 else f"{words} bits"
    return "{} bits in, {} of weights, {} out".format(*words.each)


def scaled_words(words: Words, components: Components) -> tuple[str, ...]:
    """Two lines; nothing where all converters are stated for these bits."""
    used = {DAC: (words.inputs, words.weights), ADC: (words.outputs,), MODULATOR: (words.inputs, words.weights)}
    bits = {name: components.stated_bits(name) for name in OF_BITS}
    stated = sorted({bits[name] for name in OF_BITS if {*used[name]} != {bits[name]}})
    if not stated:
        return ()
    rule = components[PER_BIT]
    return (
        f"words of {in_bits(words)}, converters stated for {' and '.join(map(str, stated))}: scaled by assumption",
        f"DAC and ADC {rule.value:.3g} × ({rule.low:.3g} … {rule.high:.3g}) a bit, modulators in proportion to bits",
    )


def with_rule(components: Components, shipped: Components) -> Components:
    """Constants with the rule of the shipped table where a table of one's own has none."""
    return replace(components, constants={PER_BIT: shipped[PER_BIT], **components.constants})

"""What a simulation found, in words: for the terminal and the page, which need no torch for that."""

from __future__ import annotations

from labctl.summary import Simulation


def words_of(found: Simulation) -> list[str]:
    """What is said below the table, line by line."""
    lines = [in_light_words(found), conversion_words(found), setting_words(found)]
    if found.drawn is not None:
        lines.append("drawn bench: one that the fit could have come from, with what it does not know of its cells")
    return [*(line for line in lines if line), *(f"not measured: {words}" for words in found.not_measured)]


def in_light_words(found: Simulation) -> str:
    """How much of the model is in light, and what is not."""
    if found.in_light is None:
        return ""
    of = "multiply–accumulates that can be counted" if found.uncounted else "multiply–accumulates"
    words = f"{100 * found.in_light:.4g} % of the {of} in light"
    parts = [f"{part.why} ({100 * part.share:.2g} %)" for part in found.digital]
    words = f"{words}; digital: {', '.join(parts)}" if parts else words
    return f"{words}; digital and not counted: {', '.join(found.uncounted)}" if found.uncounted else words


def setting_words(found: Simulation) -> str:
    """What the numbers depend on, so that they can be made again."""
    clip = " and ".join(f"{percentile:g}" for percentile in dict.fromkeys(found.clip or ()))
    return (
        f"seed {found.seed}, clipped at percentile {clip}, windows of {found.context} tokens, labctl {found.version}; "
        "± is one standard error of reading a text of this length"
    )


def conversion_words(found: Simulation) -> str:
    """How signs became light, and what that took."""
    used = found.light_used
    if used is None or not used.frames or used.input_conversions is None or used.output_conversions is None:
        return f"encoding: {found.encoding}"
    return (
        f"encoding: {found.encoding}; for 1,000 multiply–accumulates {1000 * used.input_conversions:.3g} "
        f"conversions of inputs, {1000 * used.output_conversions:.3g} of outputs, {1000 * used.frames:.3g} frames"
    )

"""What a simulation found, in words: for the terminal and the page, which need no torch for that."""

from __future__ import annotations

from labctl.summary import LightBudget, Simulation, number

PRODUCT_COLUMNS = "product", "kind", "photons per MAC", "× equal"
BUDGET_COLUMNS = "light", "photons per MAC", "KL [nats]", "±", "perplexity", "±"
KIND_NAMES = {"ffn": "feed-forward", "qkvo": "Q, K, V, output", "qk": "Q·Kᵀ", "av": "attention·V"}


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
    if found.by_elements:
        words += f"; besides, {100 * found.by_elements:.2g} % as many multiplications element by element, digital"
    return f"{words}; digital and not counted: {', '.join(found.uncounted)}" if found.uncounted else words


def setting_words(found: Simulation) -> str:
    """What the numbers depend on, so that they can be made again."""
    clip = " and ".join(f"{percentile:g}" for percentile in dict.fromkeys(found.clip or ()))
    bits = "" if found.bits is None else f"{', '.join(map(str, found.bits))} bits of inputs, weights, outputs; "
    is_one = found.context is not None and found.tokens <= found.context
    windows = f"one window of {found.tokens} tokens" if is_one else f"windows of {found.context} tokens"
    p = found.perplexity
    errors = (p.digital_stderr, p.int8_stderr, p.optical_stderr, *(level.stderr for level in found.levels))
    scatter = "; ± is one standard error of reading a text of this length"
    if all(error is None for error in errors):
        scatter = "; of one window no standard error can be told" if is_one else ""
    return f"{bits}seed {found.seed}, clipped at percentile {clip}, {windows}, labctl {found.version}{scatter}"


def conversion_words(found: Simulation) -> str:
    """How signs became light, and what that took."""
    used = found.light_used
    if used is None or not used.frames or used.input_conversions is None or used.output_conversions is None:
        return f"encoding: {found.encoding}"
    scales = f", {1000 * used.scales:.3g} scales" if used.scales else ""
    return (
        f"encoding: {found.encoding}; for 1,000 multiply–accumulates {1000 * used.input_conversions:.3g} "
        f"conversions of inputs, {1000 * used.output_conversions:.3g} of outputs, {1000 * used.frames:.3g} frames"
        f"{scales}"
    )


def product_rows(found: LightBudget) -> list[tuple[str, ...]]:
    """What each product got, in the order in which they run."""
    return [
        (p.name, KIND_NAMES[p.kind], f"{p.photons_per_mac:.3g}", f"{p.photons_per_mac / found.photons_per_mac:.2f}")
        for p in found.products
    ]


def budget_rows(found: LightBudget) -> list[tuple[str, ...]]:
    """Equal light, and as much shared out."""
    return [
        (
            words,
            number(score.photons_per_mac, ".4g"),
            number(score.kl, ".3g"),
            number(score.kl_stderr, ".1g"),
            number(score.perplexity, ".2f"),
            number(score.perplexity_stderr, ".2g"),
        )
        for words, score in (("equal", found.uniform), ("shared out", found.shared_out))
    ]


def budget_words(found: LightBudget) -> str:
    """What sharing out gained, and what was expected of it."""
    a, b = found.uniform.kl, found.shared_out.kl
    seen = f"{a / b:.2f} × less divergence from the digital model" if a and b and a > 0 and b > 0 else "no number"
    expected = number(found.predicted, ".2f")
    return (
        f"shared out: {seen} for the same photons; the second order of the noise, read on {found.tokens:,} tokens, "
        f"expects {expected} ×, or so many times less light for the same divergence"
    )

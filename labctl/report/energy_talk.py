"""The part of the page of `labctl energy` that is about conversations: what a generated token costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from labctl.colours import ACCENT, MEASURED, MODEL
from labctl.report.document import section, table
from labctl.studies.energy import Talk
from labctl.studies.quantities import joules, prefixed, times
from labctl.studies.serving import Served


def conversation_tables(found: Served) -> Iterator[str]:
    """What is paid, along the axes, and by where matrices are."""
    talk = found.conversation
    together = "one sequence alone" if talk.sequences == 1 else f"{talk.sequences} sequences together"
    yield "<h2>A conversation</h2>"
    yield (
        f"<p>A prompt of {talk.prompt} tokens, then {talk.generated} generated ones; {together}; "
        f"keys, values and states at the end: {prefixed(found.cache_bytes, 'B')} for each. Digital: 300 fJ per "
        "MAC, and every matrix and the cache fetched from memory for each step.</p>"
    )
    yield table(
        ("for each sequence", "in light", "digital", "this is better by"),
        [
            (words, joules(light), joules(digital), times(digital / light))
            for words, light, digital in (
                ("the prompt", found.prompt_j, found.prompt_digital_j),
                ("each generated token", found.token_j, found.token_digital_j),
                ("together", found.total_j, found.digital_total_j),
            )
        ],
    )
    yield section(
        "A generated token by prompt and batch",
        "With the cache held on modulators, or fetched from memory and written for each token; and on a digital chip.",
        axes_figure(found),
    )
    yield table(
        ("prompt", "sequences together", "cache held on modulators", "cache from memory", "digital"),
        [
            (f"{a.prompt:,}", a.sequences, joules(a.held_j), joules(a.reloaded_j), joules(a.digital_j))
            for a in found.axes
        ],
    )
    yield "<h2>Where keys, values and experts are</h2>"
    yield table(
        ("cache", "experts", "held matrices are charged", "per token", "macropixels", "a step"),
        [
            (
                p.cache, p.experts if found.has_experts else "–", p.schedule, joules(p.optical_j),
                f"{p.macropixels:.3g}", prefixed(p.seconds, "s"),
            )
            for p in found.places
        ],
    )  # fmt: skip


def axes_figure(found: Served) -> Figure:
    """A panel for each number of sequences, against the length of the prompt."""
    batches = sorted({axis.sequences for axis in found.axes})
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    panels = figure.subplots(1, len(batches), sharey=True, squeeze=False)[0]
    for panel, sequences in zip(panels, batches, strict=True):
        along = [axis for axis in found.axes if axis.sequences == sequences]
        prompts = [axis.prompt for axis in along]
        panel.loglog(prompts, [1e3 * a.digital_j for a in along], "D-", color=ACCENT, label="digital")
        panel.loglog(prompts, [1e3 * a.reloaded_j for a in along], "s--", color=MODEL, label="light, cache from memory")
        panel.loglog(prompts, [1e3 * a.held_j for a in along], "o-", color=MEASURED, label="light, cache held")
        panel.set_title("alone" if sequences == 1 else f"{sequences} sequences together", fontsize=10)
        panel.set_xlabel("tokens of the prompt")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("a generated token [mJ]")
    panels[-1].legend(frameon=False, fontsize=7)
    return figure


def talks_figure(talks: Sequence[Talk]) -> Figure:
    """A dot for each machine and model."""
    figure = Figure(figsize=(9, 0.9 + 0.32 * len(talks)), layout="constrained")
    axes = figure.subplots()
    names = [talk.name for talk in talks]
    axes.semilogx([1e3 * t.digital_j for t in talks], names, "D", color=ACCENT, label="digital, 300 fJ/MAC and memory")
    axes.semilogx([1e3 * t.optical_j for t in talks], names, "o", color=MEASURED, label="this machine")
    if any(t.claimed_j != t.optical_j for t in talks):
        claimed = [1e3 * t.claimed_j for t in talks]
        axes.semilogx(claimed, names, "s", color=MODEL, mfc="none", label="the same, published 1/d of light")
    axes.set_xlabel("energy of a generated token [mJ]")
    axes.grid(alpha=0.3, axis="x", which="both")
    axes.tick_params(axis="y", labelsize=8)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure

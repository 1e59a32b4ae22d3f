"""Few bits for a model that nobody trained for light: whole vectors against tiles with scales of their own.

    python benchmarks/tiled_scales.py MODEL --text TEXT [--tokens 512] [--photons 1000] [--figure tiles.png]

For bits of inputs, weights and outputs, and each tile: perplexity over the digital one without shot noise and in the
stated light, the same for all, and what a token costs in joules on arrays of 1,024 × 1,024 at that light. Whole vectors
show the largest number of each operand at full scale, as tiles do, and are not clipped. Converters are those of
``today``, scaled to the bits, but for 4 bits those of ``future``; for a mixture there is no price.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from labctl.studies.energy import scenario
from labctl.studies.simulate import Setting, TextTokens, bits_of, evaluation_text
from labctl.studies.traced import operations_for
from simulation.conversion.optical import opticalize, set_light
from simulation.energy.machine import Machine, PhotonLaw
from simulation.energy.pricing import price_optical
from simulation.evaluation.perplexity import perplexity
from simulation.models.language import Language
from simulation.models.loading import load_language

TILES = 0, 128, 64, 32
"""Inputs that share a scale; 0: all of a vector."""
BITS = "8", "4,4,8", "4"
"""Of inputs, weights and outputs."""
PRICED = {"4": "future"}
"""Scenario that is stated for so many bits; `OTHERWISE` for all others."""
OTHERWISE = "today"


@dataclass(frozen=True)
class Row:
    """One number of bits and one tile: perplexities over the digital one, and joules of a token where known."""

    bits: str
    tile: int
    levels_alone: float
    in_light: float
    joules: float | None


def main() -> None:
    """Print the table, and draw it if asked."""
    given = _arguments()
    language = load_language(given.model)
    text = evaluation_text(language.encode, given.text, given.tokens)
    context = min(language.context, given.context)
    digital = perplexity(language.model, text.ids, context=context).ppl
    rows = []
    for row in measured(language, given, text, context, digital):
        rows.append(row)
        price = "–" if row.joules is None else f"{1e6 * row.joules:.4g} µJ"
        tile = row.tile or "whole"
        print(
            f"{row.bits:>5} bits {tile:>6}  {row.levels_alone:10.4g} {row.in_light:10.4g} {price:>12}", file=sys.stderr
        )
    if given.figure is not None:
        draw(given.figure, language.name, given.photons, rows)
    document = {"model": language.name, "text": text.name, "tokens": len(text.ids) - 1, "digital": digital,
                "photons": given.photons, "rows": [asdict(row) for row in rows]}  # fmt: skip
    print(json.dumps(document, allow_nan=False))


def _arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("model", help="whatever labctl simulate takes")
    options.add_argument("--text", type=Path, help="what it reads; Python's documentation if left out")
    options.add_argument("--tokens", type=int, default=512)
    options.add_argument("--context", type=int, default=512, help="of a window, at most")
    options.add_argument("--photons", type=float, default=1000.0, help="per MAC and pass at the weight plane")
    options.add_argument("--tiles", type=int, nargs="+", default=list(TILES), help="inputs that share a scale; 0: all")
    options.add_argument("--bits", nargs="+", default=list(BITS), help="of inputs, weights and outputs: 4, or 4,4,8")
    options.add_argument("--figure", type=Path, help="a picture of the table")
    return options.parse_args()


def measured(
    language: Language, given: argparse.Namespace, text: TextTokens, context: int, digital: float
) -> Iterator[Row]:
    """All rows, the whole vectors of each number of bits first."""
    for bits in given.bits:
        for tile in given.tiles:
            encoding = f"tiled-scales:{tile}" if tile else "sign-split"
            setting = Setting(100.0, encoding, bits_of(bits))
            ranges = setting.ranges(language.model, text.ids, context)
            lit = opticalize(language.model, setting.bench("ideal"), encoding=encoding, ranges=ranges)
            alone = perplexity(lit, text.ids, context=context).ppl / digital
            set_light(lit, given.photons)
            in_light = perplexity(lit, text.ids, context=context).ppl / digital
            yield Row(bits, tile, alone, in_light, joules_of(given.model, bits, tile, context, given.photons))


def joules_of(model: str, bits: str, tile: int, context: int, photons: float) -> float | None:
    """Of a token, where inputs, weights and outputs have the same bits."""
    if not bits.isdecimal():
        return None
    components, traced = scenario(None, PRICED.get(bits, OTHERWISE)), operations_for(model, None, context)
    machine = Machine(PhotonLaw(photons), int(bits), (1024, 1024), digital=traced.heads, tile=tile or None)
    return price_optical(traced.operations, machine, components).per_token_j


def draw(path: Path, name: str, photons: float, rows: list[Row]) -> None:
    """Perplexity on the left, price on the right, against the tile."""
    from matplotlib.figure import Figure

    from labctl.colours import ACCENT, MEASURED, MODEL

    figure = Figure(figsize=(8.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for bits, colour in zip(dict.fromkeys(row.bits for row in rows), (MEASURED, ACCENT, MODEL), strict=False):
        own = [row for row in rows if row.bits == bits]
        labels = [str(row.tile or "whole") for row in own]
        left.semilogy(labels, [row.in_light for row in own], "o-", color=colour, label=f"{bits} bits")
        left.semilogy(labels, [row.levels_alone for row in own], "o:", color=colour, mfc="white")
        if own[0].joules:
            price = [1e6 * (row.joules or math.nan) for row in own]
            right.plot(labels, price, "o-", color=colour, label=f"{bits} bits, {PRICED.get(bits, OTHERWISE)!r}")
    left.axhline(1.0, color="#6b7280", lw=0.8)
    left.set_ylabel("perplexity over digital")
    left.set_title(f"{name}: {photons:g} photons (dotted: no shot noise)", fontsize=9)
    right.set_ylabel("µJ per token in light")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xlabel("inputs that share a scale")
        axes.grid(alpha=0.3, which="both", lw=0.4)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()

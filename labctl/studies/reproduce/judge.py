"""What the article says, beside what was computed here: a list of verdicts for each of its figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from labctl.studies.energy_claims import misses
from labctl.studies.quantities import times
from labctl.studies.reproduce.verdict import Judged, Ours, Published, judged
from simulation.scaling.powerlaw import power_law

Part = Mapping[str, Any]
TOLERANCE = 0.05
NEAR = 1 + TOLERANCE
"""Perplexity over that of the 8-bit model up to which a model is at its level: a choice of ours, none is published."""
RESOLUTION = 0.15
"""By which an exponent may be off and still be the published one."""
SAME = Published(1 / 1.1, 1.1)
"""Ratios of two errors that are the same."""
INVERSE = Published(-1 - RESOLUTION, -1 + RESOLUTION)
UNTRAINED = "our models were trained in float, the article's with the rounding in the loop, which makes ours worse"
CONVERTING = ("DAC", "ADC", "modulator", "detector", "memory")
"""Parts of a bill that a vector costs once for all the outputs, or inputs, of a matrix."""


def experiment(part: Part) -> Iterator[Judged]:
    """Products on a bench against the same products simulated."""
    where = f"on a mock bench, station {part['station']!r}; 95 % over products"
    for kind, words in (("linear", "second feed-forward layers"), ("qk", "Q·Kᵀ")):
        rows = [row for row in part["products"] if row["kind"] == kind and "simulated" in row]
        ours = _pooled(rows)
        yield judged(
            f"A simulation with the calibrated errors is as far from the exact product as the bench is: {words}",
            ours,
            SAME,
            ".2f",
            f"rms error measured over simulated, {where}; the mock shares no physics with the simulation",
        )
    for source, words, unlike in (
        ("article", "by the article's noise model, simulated here", ""),
        ("measured", where, "the mock's errors were chosen by us, and no experiment of ours confirms the article's"),
    ):
        bits = [_bits(row[source]) for row in part["products"] if source in row]
        most = max(bits, key=lambda each: each.value, default=Ours.nothing())
        yield judged(
            "Each product has fewer than 8 effective bits",
            most,
            Published(high=8.0),
            ".2f",
            f"the most exact of the products, {words}",
            unlike=unlike,
        )


def _pooled(rows: Sequence[Part]) -> Ours:
    """rms of measured over simulated errors of several products, each the same weight."""
    if not rows:
        return Ours.nothing()

    def mean_square(source: str) -> tuple[float, float]:
        """And half of its 95 % interval, as a share of it."""
        squares = [row[source]["rms"] ** 2 for row in rows]
        halves = [(row[source]["high"] ** 2 - row[source]["low"] ** 2) / 2 for row in rows]
        return sum(squares) / len(rows), math.hypot(*halves) / sum(squares)

    (measured, a), (simulated, b) = mean_square("measured"), mean_square("simulated")
    ratio, spread = math.sqrt(measured / simulated), math.exp(math.hypot(a, b) / 2)
    return Ours(ratio, ratio / spread, ratio * spread)


def _bits(found: Part) -> Ours:
    return Ours(found["effective_bits"], -math.log2(found["high"]), -math.log2(found["low"]))


def levels(part: Part) -> Iterator[Judged]:
    """Float, 8 bit, and in light as bright as computed."""
    best = [{"width": width["width"], **width["curve"][-1]} for width in part["widths"]]
    brightest = best[0]["photons_per_mac"] if best else math.nan
    yield judged(
        "In light the models reach the level of 8 digital bits",
        _farthest(best),
        Published(high=NEAR),
        ".3f",
        f"perplexity over that of the 8-bit model at {brightest:,.0f} photons per MAC on the article's machine, of the "
        f"width that is farthest ({_each(best)}); level: within {TOLERANCE:.0%}",
        handicap=UNTRAINED,
    )


def _farthest(rows: Sequence[Part]) -> Ours:
    """The row of the largest ratio."""
    if not rows:
        return Ours.nothing()
    row = max(rows, key=lambda each: each["over_int8"])
    return Ours(row["over_int8"], row["low"], row["high"])


def _each(rows: Sequence[Part]) -> str:
    return ", ".join(f"d = {row['width']}: {row['over_int8']:.3g}" for row in rows)


def curves(part: Part) -> Iterator[Judged]:
    """Perplexity falls with light for each width."""
    steps = [list(pairwise(width["curve"])) for width in part["widths"]]
    falls = float(sum(all(b["over_int8"] < a["over_int8"] for a, b in each) for each in steps))
    may = float(sum(all(b["low"] <= a["high"] for a, b in each) for each in steps))
    yield judged(
        "More light gives a lower perplexity, at every width",
        Ours(falls, falls, may) if steps else Ours.nothing(),
        Published(low=float(len(steps)), high=float(len(steps))),
        ".0f",
        f"widths, of {len(steps)}, whose perplexity falls from each level to the next on the article's machine, and, "
        "as the upper end, those where no rise is larger than the intervals",
    )


def law(part: Part) -> Iterator[Judged]:
    """Photons for the 8-bit level against width."""
    wanted = [each for each in part["laws"] if each["reference"] == "int8" and each["tolerance"] == TOLERANCE]
    found = wanted[0] if wanted else {}
    yield judged(
        "Optical energy per MAC falls as 1/d: photons for the 8-bit level",
        _exponent(found),
        INVERSE,
        "+.2f",
        f"exponent of d, by the sweep, within {TOLERANCE:.0%} of 8 bit, shot noise alone; 95 % from the scatter of "
        f"{len(part['widths'])} widths" + (f"; {found['reason']}" if found.get("reason") else ""),
    )
    for kind, words in (("all", "all products"), ("ffn", "feed-forward layers alone")):
        trend: Part = next((t for t in part["trends"] if t["kind"] == kind and t["metric"] == "kl"), {})
        yield judged(
            f"Optical energy per MAC falls as 1/d: {words}, at equal divergence from the digital model",
            _exponent(trend),
            INVERSE,
            "+.2f",
            "exponent of d, by the second order of shot noise; 95 % from the scatter of widths",
        )


def _exponent(found: Part) -> Ours:
    limits = found.get("scatter")
    if found.get("exponent") is None or limits is None:
        return Ours.nothing()
    return Ours(found["exponent"], *limits)


def breakdown(part: Part) -> Iterator[Judged]:
    """What the joules go into, by size."""
    for array, words in (("unlimited", "arrays as large as each matrix"), (None, "arrays that can be bought")):
        bills = [b for b in part["bills"] if b["scenario"] == "today" and (b["array"] == "unlimited") == bool(array)]
        size = bills[0]["array"] if bills else "none"
        yield judged(
            f"Converters and memory cost 1/d per MAC: {words}",
            _slope(bills),
            INVERSE,
            "+.2f",
            f"exponent of d of their joules per MAC over {len(bills)} published shapes ({size} macropixels), "
            "components of today; attention, whose operands are new for every token, amortises over a head only",
        )
    yield Judged(
        "The light itself costs 1/d per MAC",
        "−1, put in",
        "cannot say",
        "the bills take the article's law of photons as an assumption; the law is judged above",
    )


def _slope(bills: Sequence[Part]) -> Ours:
    if len(bills) < 3:
        return Ours.nothing()
    widths = np.array([b["width"] for b in bills], float)
    per_mac = np.array([sum(b["parts_j"].get(name, 0.0) for name in CONVERTING) / b["macs"] for b in bills])
    found = power_law(widths, per_mac)
    assert found.scatter is not None
    return Ours(found.exponent, *found.scatter)


def advantage(part: Part) -> Iterator[Judged]:
    """Digital over optical energy against model size, with both scenarios."""
    for claim in part["claims"]:
        low, high = claim["published"][0], claim["published"][1] or math.inf
        yield judged(
            f"Light is better by {claim['words']}{LIGHT_WORDS[claim['light']]}",
            Ours(claim["advantage"], claim["low"], claim["high"]),
            Published(low, high),
            times,
            f"{_at_the_table(claim['advantage'], low, high)}; against 300 fJ/MAC, components of {claim['scenario']}, "
            f"{claim['bits']} bits, arrays without limit, every matrix busy; 90 % with each "
            "constant anywhere in its range",
            handicap=CARRIED_ON if claim["light"] == "measured" else "",
        )


CARRIED_ON = "no model that light was measured on is near this size, and a law that is carried on so far may bend"
LIGHT_WORDS = {
    "claimed": ": with the light that the article claims",
    "measured": ": with the light that the shipped family needs, carried on to this size",
}


def _at_the_table(found: float, low: float, high: float) -> str:
    """Where the table's own constants lie, whatever their ranges."""
    missed = misses(found, low, high)
    return f"the table's own values give {missed}" if missed else "the table's own values agree"


def four_bits(part: Part) -> Iterator[Judged]:
    """Whether models still work with the 4 bits that the largest claim takes for granted."""
    rows = [row for row in part["rows"] if row["bits"] == 4]
    trained = [row for row in rows if row["trained"] == "4 bits"]
    shown = trained or rows
    yield judged(
        "Models can do with 4 bits",
        _farthest(shown),
        Published(high=NEAR),
        ".3f",
        "perplexity over that of 8 digital bits, in light without shot noise, of the width that is farthest "
        f"({_each(shown)}); trained {'with 4 bits' if trained else 'in float'}; level: within {TOLERANCE:.0%}",
        handicap="" if trained else "the article assumes models made for 4 bits, these were trained in float",
    )

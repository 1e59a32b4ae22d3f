"""What became optical and what did not, as an object that a terminal and a notebook show as a table."""

from __future__ import annotations

import html
import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

from simulation.light.accounting import Tally

COLUMNS = ("layer", "share of MACs", "photons", "photons per MAC and pass", "why digital")
BY_ELEMENTS = "element by element: nothing is summed"
"""Why a multiplication stays digital that is no multiply–accumulate."""
LONGEST = 60
"""Rows that a terminal gets; a notebook gets all."""
WIDTH, NARROWEST = 100, 60
"""Columns of a terminal of unknown width, and the fewest that a table is broken into."""
GAP = "  "

Row = tuple[str, str, str, str, str]


@dataclass(frozen=True, repr=False)
class OpticalReport:
    """What became optical, what did not and why, and the light that it has used so far.

    Printed, it is a table of layers as wide as the terminal: their share of all multiply–accumulates, the light they
    took, and why they stayed digital. Names and reasons that are longer than there is room for go on in the next line.

    Attributes
    ----------
    optical
        Names of matrices and attention products.
    digital
        Names of other modules that hold parameters, and of products → why they stayed digital. Products that no layer
        stands for are found when the model runs.
    digital_macs
        Multiply–accumulates of the products that stayed digital so far, by their names in ``digital``.
    uncounted
        Names of those in ``digital`` whose multiply–accumulates nobody can tell from their operands: a singular value
        decomposition, say, or a function that somebody has compiled.
    layers
        Photons and electrons of each optical one.
    total
        Of all of them.
    not_measured
        Of an imported bench: what is taken and was never measured, in words.
    batch
        How rows of a batch change each other's answer, in words.
    by_elements
        Names of modules → how often they multiplied two numbers that are summed with no other: gates, rotations of
        positions, gains. They are digital, and no multiply–accumulates: in no share.
    part
        Name of the part of the model that this is of; empty: of the whole.
    """

    optical: tuple[str, ...]
    digital: Mapping[str, str]
    digital_macs: Mapping[str, int]
    uncounted: tuple[str, ...]
    layers: Mapping[str, Tally]
    total: Tally
    not_measured: tuple[str, ...] = ()
    batch: str = ""
    by_elements: Mapping[str, int] = field(default_factory=dict)
    part: str = ""

    @property
    def share(self) -> float:
        """Of all multiply–accumulates that have run and can be counted, the part in light; nan before anything ran."""
        macs = self.macs
        return self.total.macs / macs if macs else float("nan")

    @property
    def macs(self) -> int:
        """All multiply–accumulates that have run."""
        return self.total.macs + sum(self.digital_macs.values())

    @property
    def rows(self) -> list[Row]:
        """One for each layer as `COLUMNS` says: those in light in the model's order, then the digital ones.

        Last what multiplies element by element, as so much more than all multiply–accumulates.
        """
        lit = [self._lit(name, self.layers.get(name, Tally())) for name in self.optical]
        return (
            lit
            + [
                (
                    name,
                    "not known" if name in self.uncounted else _share(self.digital_macs.get(name, 0), self.macs),
                    "",
                    "",
                    why,
                )
                for name, why in self.digital.items()
            ]
            + [
                (name, f"+ {_share(count, self.macs)}" if self.macs else "", "", "", BY_ELEMENTS)
                for name, count in self.by_elements.items()
                if count
            ]
        )

    def __repr__(self) -> str:
        width = max(shutil.get_terminal_size((WIDTH, 24)).columns, NARROWEST)
        rows = self.rows
        lines = _table([COLUMNS, *rows[:LONGEST]], width)
        if (more := len(rows) - LONGEST) > 0:
            lines.append(f"… and {more} more: .rows has all")
        return "\n".join([*lines, *textwrap.wrap(self.words, width)])

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        head = _cells("th", COLUMNS)
        body = "".join(f"<tr>{_cells('td', row)}</tr>" for row in self.rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{html.escape(self.words)}</p>"

    @property
    def words(self) -> str:
        """How much is in light, in one line."""
        many, single = len(self.uncounted), sum(self.by_elements.values())
        more = f"; beside them what nobody can count, digital, in {many} place{'s' if many > 1 else ''}" if many else ""
        more += f"; and {single:.3g} multiplications element by element, digital" if single else ""
        more += f"; in {self.part} alone, a part of the model" if self.part else ""
        if not self.macs:
            ran = f"nothing that can be counted has run{more}" if more else "nothing has run yet"
            return f"{len(self.optical)} in light, {len(self.digital)} digital; {ran}"
        light = f"{self.total.photons:.3g} photons" if self.total.photons else "no shot noise"
        return f"{100 * self.share:.4g} % of {self.macs:.3g} multiply–accumulates in light, {light}{more}"

    def _lit(self, name: str, tally: Tally) -> Row:
        if not tally.products:
            return name, "", "", "", "" if not self.macs else "has not run"
        photons = (f"{tally.photons:.3g}", f"{tally.photons_per_mac:,.4g}") if tally.photons else ("–", "–")
        return name, _share(tally.macs, self.macs), *photons, ""


def _share(macs: int, of: int) -> str:
    return f"{100 * macs / of:.2f} %" if macs and of else ""


def _table(rows: list[Row], width: int) -> list[str]:
    """Lines of a table, no longer than ``width``; what there is no room for goes on below, in its own column."""
    numbers = rows[1:]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    room = width - len(GAP) * (len(COLUMNS) - 1)
    if sum(widths) > room:  # the words above numbers are broken first
        for i in (1, 2, 3):
            words = [len(word) for word in COLUMNS[i].split()]
            widths[i] = max([len(row[i]) for row in numbers] + words)
        left = room - sum(widths[1:4])
        widths[0] = min(widths[0], max(left // 2, left - widths[4]))
        widths[4] = min(widths[4], left - widths[0])
    return [line for row in rows for line in _lines(row, widths)]


def _lines(row: Row, widths: list[int]) -> Iterable[str]:
    """Of one row, numbers to the right."""
    name, *cells = row
    columns = [_broken_name(name, widths[0])]
    columns += [textwrap.wrap(cell, width) for cell, width in zip(cells, widths[1:], strict=True)]
    for parts in zip_longest(*columns, fillvalue=""):
        aligned = [
            part.rjust(width) if i in (1, 2, 3) else part.ljust(width)
            for i, (part, width) in enumerate(zip(parts, widths, strict=True))
        ]
        yield GAP.join(aligned).rstrip()


def _broken_name(name: str, width: int) -> list[str]:
    """A name in lines, behind its dots where there are any."""
    lines = [""]
    for part in re.findall(r"[^.]*\.|[^.]+", name):
        if len(lines[-1]) + len(part) > width and lines[-1]:
            lines.append("")
        lines[-1] += part
    return [piece for line in lines for piece in textwrap.wrap(line, width)]


def _cells(tag: str, row: Iterable[str]) -> str:
    return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)

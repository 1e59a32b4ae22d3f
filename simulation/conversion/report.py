"""What became optical and what did not, as an object that a terminal and a notebook show as a table."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from simulation.light.accounting import Tally

COLUMNS = ("layer", "share of MACs", "photons", "photons per MAC and pass", "why digital")
BY_ELEMENTS = "element by element: nothing is summed"
"""Why a multiplication stays digital that is no multiply–accumulate."""
LONGEST = 60
"""Rows that a terminal gets; a notebook gets all."""

Row = tuple[str, str, str, str, str]


@dataclass(frozen=True, repr=False)
class OpticalReport:
    """What became optical, what did not and why, and the light that it has used so far.

    Printed, it is a table of layers: their share of all multiply–accumulates, the light they took, and why they stayed
    digital.

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
        rows = [COLUMNS, *self.rows[:LONGEST]]
        widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
        lines = [_line(row, widths) for row in rows]
        if (more := len(self.rows) - LONGEST) > 0:
            lines.append(f"… and {more} more: .rows has all")
        return "\n".join([*lines, self.words])

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


def _line(row: Iterable[str], widths: list[int]) -> str:
    """Numbers to the right."""
    cells = enumerate(zip(row, widths, strict=True))
    parts = [cell.rjust(width) if i in (1, 2, 3) else cell.ljust(width) for i, (cell, width) in cells]
    return "  ".join(parts).rstrip()


def _cells(tag: str, row: Iterable[str]) -> str:
    return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)

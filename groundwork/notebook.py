"""What an object says of itself: a line where it is printed, a small table in a notebook.

The table has no script and no style sheet, and its text has the colours of the notebook around it, light or dark. Only
the bar at its side has a colour of its own, which is told from white and from black; what it says stands in words, too.
"""

from __future__ import annotations

import html
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

State = Literal["", "good", "bad"]

BARS: dict[State, str] = {"": "#808890", "good": "#1f9d63", "bad": "#d9480f"}
"""Colour of the bar: nothing is judged, all is well, look here."""
LONGEST = 200
"""Characters of a value that are shown."""

_CELL = "background:transparent;border:0;text-align:left;vertical-align:top;white-space:normal"


@dataclass(frozen=True)
class Card:
    """What is shown of an object.

    Attributes
    ----------
    title
        What it is, and which one.
    words
        What somebody wants to know first, in a line.
    rows
        More, by name; what is empty or None is left out.
    state
        Whether the words are good news.
    notes
        Sentences below.
    """

    title: str
    words: str
    rows: Mapping[str, object] = field(default_factory=dict)
    state: State = ""
    notes: Sequence[str] = ()

    @property
    def line(self) -> str:
        """``<calibration cal-1a2b…: 24 × 20, 5.1 effective bits>``"""
        return f"<{self.title}: {_short(self.words)}>" if self.words else f"<{self.title}>"

    @property
    def html(self) -> str:
        """The table, complete in itself."""
        shown = [(name, value) for name, value in self.rows.items() if value is not None and value != ""]
        rows = "".join(
            f'<tr style="background:transparent"><th scope="row" style="{_CELL};font-weight:normal;opacity:.75;'
            f'padding:.1em 1.2em .1em 0">{_escaped(name)}</th>'
            f'<td style="{_CELL};padding:.1em 0">{_escaped(value)}</td></tr>'
            for name, value in shown
        )
        table = f'<table style="border-collapse:collapse;margin:.3em 0">{rows}</table>' if rows else ""
        notes = "".join(f'<p style="margin:.3em 0">{_escaped(note)}</p>' for note in self.notes)
        words = f": {_escaped(self.words)}" if self.words else ""
        return (
            f'<div style="border-left:4px solid {BARS[self.state]};padding:.2em .8em;margin:.3em 0;max-width:50em;'
            f'line-height:1.45"><div><strong>{_escaped(self.title)}</strong>{words}</div>{table}{notes}</div>'
        )


class Carded:
    """An object that shows its `Card`: a dataclass that is one is made with ``repr=False``."""

    @abstractmethod
    def card(self) -> Card:
        """What a notebook shows of it."""

    def __repr__(self) -> str:
        try:
            return self.card().line
        except Exception:  # one that is being made, or damaged, still has a name
            return object.__repr__(self)

    def _repr_html_(self) -> str | None:
        """The table in a notebook; None, and so the line, where there is nothing to be said."""
        try:
            return self.card().html
        except Exception:
            return None


def joined(parts: Mapping[str, object]) -> str:
    """``"gain separable, crosstalk none"``"""
    return ", ".join(f"{name} {value}" for name, value in parts.items())


def figures(values: Mapping[str, object], names: Mapping[str, str]) -> str:
    """Those of ``names`` that there are and that are numbers, with three digits, each followed by what it is called."""
    known = ((values.get(key), words) for key, words in names.items())
    return ", ".join(f"{value:.3g} {words}" for value, words in known if isinstance(value, int | float))


def _escaped(value: object) -> str:
    return html.escape(_short(str(value)))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"

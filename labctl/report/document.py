"""What every page shares: one self-contained HTML file, its style, and sections that hold their figures."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from labctl.archive import atomic_path, atomic_write_text
from labctl.archive.outputs import PICTURE_MARK
from labctl.report.glossary import words_section
from labctl.report.log_axes import plain_numbers

SHORT = 24
"""Characters of a table cell that stay on one line."""

LONG = 60
"""Characters from which one is given room on a telephone, where the table scrolls sideways."""

FEW_HEADINGS = 3
"""With no more of them a page needs no list of contents."""

DOTS_PER_INCH = 150
"""Of figures: sharp on a page of 1080 pixels, and still so when one of them is enlarged."""

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; color: #1f2937;
--ground: #fff; --shade: #0004; --soft: #4b5563; }
body { max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { scroll-margin-top: 1rem; font-size: 1.1rem; margin: 2.2rem 0 .3rem; border-top: 1px solid #e5e7eb;
padding-top: 1rem; } p.what { color: #4b5563; margin: .2rem 0 .6rem; } img { max-width: 100%; }
table { border-collapse: collapse; font-size: .9rem; } td, th { padding: .2rem .8rem .2rem 0; text-align: left;
border-bottom: 1px solid #f3f4f6; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
td.short { white-space: nowrap; }
.verdict { display: inline-block; padding: .15rem .7rem; border-radius: 1rem; color: #fff; font-weight: 600; }
.ok { background: #15803d; } .bad { background: #b91c1c; } .open { background: #6b7280; }
.out { color: #b91c1c; font-weight: 600; }
.big { display: flex; flex-wrap: wrap; gap: 1.4rem; margin: 1.2rem 0; } .big div { min-width: 8rem; }
.big b { display: block; font-size: 1.5rem; } code { background: #f3f4f6; padding: .1rem .3rem; border-radius: .2rem; }
nav.contents ul { columns: 15rem; column-gap: 2rem; padding-left: 1.1rem; margin: .3rem 0 0; }
nav.contents { border: 1px solid #e5e7eb; border-radius: .4rem; padding: .7rem 1rem; margin: 1.4rem 0 0; }
label.figure { display: block; position: relative; cursor: zoom-in; }
label.figure input { position: absolute; opacity: 0; }
label.figure input:focus-visible + span { outline: 3px solid #2563eb; }
label.figure span { display: block; } label.figure input:checked + span { position: fixed; inset: 0; z-index: 1;
overflow: auto; background: #fff; cursor: zoom-out; }
input:checked + span img { max-width: none; width: max(100%, 1300px); }
div.wide { overflow-x: auto; background:
linear-gradient(to right, var(--ground) 1rem, transparent) left / 3rem 100% no-repeat local,
linear-gradient(to left, var(--ground) 1rem, transparent) right / 3rem 100% no-repeat local,
linear-gradient(to right, var(--shade), transparent) left / .8rem 100% no-repeat scroll,
linear-gradient(to left, var(--shade), transparent) right / .8rem 100% no-repeat scroll; }
@media screen and (max-width: 640px) {
  label.figure { overflow-x: auto; } label.figure span { width: 640px; }
  label.figure::before { content: "↔ goes on to the side; a tap enlarges it"; color: var(--soft); font-size: .85rem; }
  label.figure input:checked + span { width: auto; } td.long { min-width: 16rem; }
}
@media print {
  :root { color-scheme: light; font-size: 11px; } body { max-width: none; margin: 0; } nav.contents { display: none; }
  h2 { break-after: avoid; } section, tr { break-inside: avoid; } .verdict { print-color-adjust: exact; }
}
@media screen and (prefers-color-scheme: dark) {
  :root { background: #111827; color: #e5e7eb; --ground: #111827; --shade: #fff5; --soft: #9ca3af; }
  p.what { color: #9ca3af; } a { color: #93c5fd; }
  h2, td, th, nav.contents { border-color: #374151; } code { background: #1f2937; } .out { color: #f87171; }
  img { background: #fff; border-radius: .3rem; filter: brightness(.92); }
}
"""


def write_page(path: Path, title: str, body: Iterable[str]) -> Path:
    """Write a page, all of it or nothing; it holds its figures, ends with the words it uses, and needs no network.

    What stands before the first heading is seen first; then comes the list of what else there is.
    """
    atomic_write_text(
        path,
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{text(title)}</title>"
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style>"
        f"<body><main>{_with_contents(''.join(body))}{words_section()}</main></body></html>\n",
    )
    return path


def _with_contents(body: str) -> str:
    """The body with a place at each heading, and a list of them before the first."""
    titles: list[str] = []

    def placed(found: re.Match[str]) -> str:
        titles.append(found[1])
        return f"<h2 id=part-{len(titles)}>{found[1]}</h2>"

    body = re.sub("<h2>(.*?)</h2>", placed, body)
    if len(titles) <= FEW_HEADINGS:
        return body
    items = "".join(f"<li><a href='#part-{k}'>{title}</a>" for k, title in enumerate(titles, 1))
    first, heading, rest = body.partition("<h2 id=part-1>")
    return f"{first}<nav class=contents aria-label=Contents><b>On this page</b><ul>{items}</ul></nav>{heading}{rest}"


def section(title: str, what: str, figure: Figure) -> str:
    """A heading, a sentence that says what is seen, and the figure, which a click or the space bar enlarges."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    plain_numbers(figure)
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    image = base64.b64encode(buffer.getvalue()).decode()
    return (
        f"<section><h2>{text(title)}</h2><p class=what>{text(what)}</p>"
        f"<label class=figure><input type=checkbox aria-label='{text(title)}: enlarge'>"
        f"<span><img alt='{text(title)}' src='data:image/png;base64,{image}'></span></label></section>"
    )


def save_figure(path: Path, figure: Figure, ending: str, dpi: int = 130) -> None:
    """A figure as a file of its own, ``.png``, ``.svg`` or ``.pdf``, known again by `labctl.archive.outputs`."""
    plain_numbers(figure)
    name = "Software" if ending == ".png" else "Creator"
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=ending[1:], dpi=dpi, metadata={name: PICTURE_MARK})


def headline(cells: Sequence[tuple[str, str]]) -> str:
    """Large numbers, each with what it is."""
    return "<div class=big>" + "".join(f"<div><b>{text(a)}</b>{text(b)}</div>" for a, b in cells) + "</div>"


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; only sentences are broken into lines."""
    head = "".join(f"<th>{text(header)}" if header else "<td>" for header in headers)
    body = "".join("<tr>" + "".join(_cell(str(cell)) for cell in row) for row in rows)
    return wide(f"<tr>{head}</tr>{body}")


def wide(rows: str) -> str:
    """Rows as a table that scrolls sideways, by keyboard too, where the page is narrower than it."""
    return f"<div class=wide tabindex=0><table>{rows}</table></div>"


def _cell(value: str) -> str:
    kind = " class=short" if len(value) <= SHORT else " class=long" if len(value) > LONG else ""
    return f"<td{kind}>{text(value)}"


def text(value: Any) -> str:
    """Escaped for HTML."""
    return html.escape(str(value), quote=True)

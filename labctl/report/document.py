"""What every page shares: one self-contained HTML file, its style, and sections that hold their figures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from labctl.archive import atomic_path, atomic_write_text
from labctl.archive.outputs import PICTURE_MARK
from labctl.report.glossary import words_section

SHORT = 24
"""Characters of a table cell that stay on one line."""

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; color: #1f2937; }
body { max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .3rem; border-top: 1px solid #e5e7eb;
padding-top: 1rem; } p.what { color: #4b5563; margin: .2rem 0 .6rem; } img { max-width: 100%; }
table { border-collapse: collapse; font-size: .9rem; } td, th { padding: .2rem .8rem .2rem 0; text-align: left;
border-bottom: 1px solid #f3f4f6; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
td.short { white-space: nowrap; }
.verdict { display: inline-block; padding: .15rem .7rem; border-radius: 1rem; color: #fff; font-weight: 600; }
.ok { background: #15803d; } .bad { background: #b91c1c; } .open { background: #6b7280; }
.out { color: #b91c1c; font-weight: 600; }
.big { display: flex; flex-wrap: wrap; gap: 1.4rem; margin: 1.2rem 0; } .big div { min-width: 8rem; }
.big b { display: block; font-size: 1.5rem; } code { background: #f3f4f6; padding: .1rem .3rem; border-radius: .2rem; }
@media (prefers-color-scheme: dark) {
  :root { background: #111827; color: #e5e7eb; } p.what { color: #9ca3af; } a { color: #93c5fd; }
  h2, td, th { border-color: #374151; } code { background: #1f2937; } .out { color: #f87171; }
  img { background: #fff; border-radius: .3rem; filter: brightness(.92); }
}
"""


def write_page(path: Path, title: str, body: Iterable[str]) -> Path:
    """Write a page, all of it or nothing; it holds its figures, ends with the words it uses, and needs no network."""
    atomic_write_text(
        path,
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{text(title)}</title>"
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style>"
        f"<body>{''.join(body)}{words_section()}</body></html>\n",
    )
    return path


def section(title: str, what: str, figure: Figure) -> str:
    """A heading, a sentence that says what is seen, and the figure."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=130)
    image = base64.b64encode(buffer.getvalue()).decode()
    return (
        f"<h2>{text(title)}</h2><p class=what>{text(what)}</p>"
        f"<img alt='{text(title)}' src='data:image/png;base64,{image}'>"
    )


def save_figure(path: Path, figure: Figure, ending: str, dpi: int = 130) -> None:
    """A figure as a file of its own, ``.png``, ``.svg`` or ``.pdf``, known again by `labctl.archive.outputs`."""
    name = "Software" if ending == ".png" else "Creator"
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=ending[1:], dpi=dpi, metadata={name: PICTURE_MARK})


def headline(cells: Sequence[tuple[str, str]]) -> str:
    """Large numbers, each with what it is."""
    return "<div class=big>" + "".join(f"<div><b>{text(a)}</b>{text(b)}</div>" for a, b in cells) + "</div>"


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; only sentences are broken into lines."""
    head = "".join(f"<th>{text(header)}" for header in headers)
    body = "".join("<tr>" + "".join(_cell(str(cell)) for cell in row) for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: str) -> str:
    return f"<td{' class=short' if len(value) <= SHORT else ''}>{text(value)}"


def text(value: Any) -> str:
    """Escaped for HTML."""
    return html.escape(str(value), quote=True)

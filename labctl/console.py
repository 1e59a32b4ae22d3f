"""One place for output: what a person reads, what a program reads, and how long it will take.

Standard output carries results. With ``--json`` it carries exactly one JSON document, and everything else goes to
standard error. A reader that has gone ends no command: what nobody reads is dropped.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from labctl.hints import completed
from labctl.osal import write_line

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH_MAX = 100
LAST_MIN = 24
"""Columns that the last column of a table has at least."""
_UNITS = "%|‰|s|ms|µs|min|h|d|DN|e-|px|GB|MB|kB|B|σ|Hz|K|°C|nm|V|A|W|frames?|nights?|days?|of|times"
_TOGETHER = re.compile(
    rf"(?<=\d) (?=(?:{_UNITS})(?![a-z]))| (?=± )|(?<=±) |(?<=[≤≥=<>]) |(?<=\d) (?=[≤≥=<>…–] )|(?<=…) "
)
"""Spaces at which no line ends."""
_COPIED = re.compile(r"\blabctl [a-z-]|[\w.]{2,} = ")
"""In a line that may be copied: a command, and no version of this program; a setting, and no ``d = 64``."""
PLAIN_EVERY_S = 30.0


class Progress(Protocol):
    """What `Console.progress` yields."""

    def advance(self, n: float = 1, note: str = "") -> None:
        """``n`` more are done; ``note`` replaces the text after the label."""

    def expect(self, label: str, total: float | None) -> None:
        """What is counted from now on, and how many there are in all; both replace what was said before."""


class Console:
    """Where a command speaks.

    Parameters
    ----------
    json_mode
        One JSON document on stdout; `say` goes to stderr.
    quiet
        Nothing but results, warnings and errors.
    options
        What the command was called with, as `labctl.hints.given` has it: what is to be typed next repeats it.
    """

    def __init__(
        self, *, json_mode: bool = False, quiet: bool = False, options: Mapping[str, str] | None = None
    ) -> None:
        self.json_mode, self.quiet, self.options = json_mode, quiet, options or {}
        self._result_given = False

    @property
    def result_given(self) -> bool:
        """Whether the one document is out."""
        return self._result_given

    @property
    def interactive(self) -> bool:
        """Whether stderr, where progress goes, is a terminal that can redraw a line."""
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def width(self) -> int:
        """Columns that a line may take: those of the terminal it goes to, and `WIDTH_MAX` at most."""
        stream = sys.stderr if self.json_mode else sys.stdout
        return min(shutil.get_terminal_size().columns, WIDTH_MAX) if stream.isatty() else WIDTH_MAX

    def completed(self, text: str) -> str:
        """The text, in which each command that is to be typed means the bench and the archive of this one."""
        return completed(text, self.options)

    def say(self, text: str = "") -> None:
        """One line, or a few, for a person."""
        if not self.quiet:
            self._write(text, sys.stderr if self.json_mode else sys.stdout)

    def warn(self, text: str) -> None:
        """Something that a person should see even with ``--quiet``."""
        self._write(text, sys.stderr)

    def _write(self, text: str, stream: TextIO) -> None:
        """Words, in lines that a terminal need not break; what may be copied stays whole: a command, a setting."""
        text = self.completed(text)
        if stream.isatty():
            text = "\n".join(self._fitted(line) for line in text.split("\n"))
        write_line(text, stream)

    def _fitted(self, line: str) -> str:
        if len(line) <= self.width or _COPIED.search(line):
            return line
        return wrapped(line, self.width, " " * (len(line) - len(line.lstrip()) + 2))

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Aligned columns, without lines around them, as wide as their contents; words of the last go on below.

        Columns that do not fit go below the others, beside the first column once more.
        """
        self.say(self.laid_out(headers, rows))

    def laid_out(self, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
        """The lines of a table."""
        cells = [[str(cell) for cell in row] for row in [headers, *rows]]
        widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
        blocks = _blocks(widths, self.width)
        parts = [
            self._block([[row[i] for i in block] for row in cells], [widths[i] for i in block]) for block in blocks
        ]
        return "\n\n".join(parts)

    def _block(self, cells: Sequence[Sequence[str]], widths: Sequence[int]) -> str:
        before = sum(widths[:-1]) + 2 * (len(widths) - 1)
        lines = []
        for *row, last in cells:
            line = "".join(f"{cell:<{width}}  " for cell, width in zip(row, widths, strict=False))
            first, *more = wrapped(last, max(self.width - before, LAST_MIN)).split("\n")
            lines += [(line + first).rstrip(), *(" " * before + words for words in more)]
        return "\n".join(lines)

    def show(self, renderable: RenderableType) -> None:
        """A table or a text of rich, coloured on a terminal, wrapped at its width and at 100 columns at most."""
        from rich.console import Console as RichConsole

        if self.quiet:
            return
        stream = sys.stderr if self.json_mode else sys.stdout
        console = RichConsole(file=stream, highlight=False, markup=False, emoji=False)
        console.width = min(console.width, WIDTH_MAX) if console.is_terminal else WIDTH_MAX
        with console.capture() as captured:
            console.print(renderable)
        write_line("\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n")), stream)

    def result(self, document: Any, text: str | None = None) -> None:
        """The command's result, once: JSON with ``--json``, otherwise ``text``, also with ``--quiet``.

        Parameters
        ----------
        document
            A pydantic model, a data class, or JSON types.
        text
            For a person; None when `say` and `table` have said it all.
        """
        if self._result_given:
            raise RuntimeError("a command has one result")
        self._result_given = True
        if self.json_mode:
            write_line(json.dumps(plain(document), indent=2, allow_nan=False), sys.stdout)
        elif text is not None:
            write_line(self.completed(text), sys.stdout)

    @contextmanager
    def progress(self, label: str, total: float | None = None) -> Iterator[Progress]:
        """A bar on a terminal, otherwise one plain line per 30 s, both on stderr; silent with ``--quiet``."""
        if self.quiet:
            yield _Silent()
        elif self.interactive:
            with _bar(label, total) as progress:
                yield progress
        else:
            yield PlainProgress(label, total, lambda line: write_line(line, sys.stderr))


class PlainProgress:
    """Progress where nothing can be redrawn: ``measuring 120/500 (24 %), 1:35 left``, at most every 30 s.

    Parameters
    ----------
    label, total
        What is counted, and how many there are, if known.
    write
        Takes one line.
    clock
        Monotonic seconds.
    """

    def __init__(
        self, label: str, total: float | None, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.label, self.total, self.done = label, total, 0.0
        self._write, self._clock = write, clock
        self._started = self._last = clock()

    def advance(self, n: float = 1, note: str = "") -> None:
        """Count, and write a line when the last one is 30 s old."""
        self.done += n
        now = self._clock()
        if now - self._last >= PLAIN_EVERY_S:
            self._last = now
            self._write(self._line(now - self._started) + (f"  {note}" if note else ""))

    def expect(self, label: str, total: float | None) -> None:
        """Say this instead from the next line on."""
        self.label, self.total = label, total

    def _line(self, elapsed_s: float) -> str:
        if not self.total:
            return f"{self.label} {self.done:g}, {_minutes(elapsed_s)} so far"
        left_s = elapsed_s * (self.total - self.done) / max(self.done, 1e-9)
        return f"{self.label} {self.done:g}/{self.total:g} ({self.done / self.total:.0%}), {_minutes(left_s)} left"


class _Silent:
    def advance(self, n: float = 1, note: str = "") -> None:
        pass

    def expect(self, label: str, total: float | None) -> None:
        pass


@contextmanager
def _bar(label: str, total: float | None) -> Iterator[Progress]:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with RichProgress(*columns, console=RichConsole(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, note="")

        class Bar:
            def advance(self, n: float = 1, note: str = "") -> None:
                bar.update(task, advance=n, note=note)

            def expect(self, label: str, total: float | None) -> None:
                bar.tasks[0].total = total
                bar.update(task, description=label)

        yield Bar()


def _blocks(widths: Sequence[int], width: int) -> list[list[int]]:
    """The columns of each part of a table, the first column in every one; words of the last may be cut into lines."""
    blocks = [[0]]
    used = widths[0]
    for column in range(1, len(widths)):
        is_last = column == len(widths) - 1
        needed = 2 + (min(widths[column], LAST_MIN) if is_last else widths[column])
        if used + needed > width and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(column)
        used += needed
    return blocks if len(widths) > 1 else [[0]]


def wrapped(text: str, width: int, indent: str = "") -> str:
    """The text in lines of at most ``width`` columns; a number stays with its unit, its error and its limit.

    Parameters
    ----------
    indent
        Begins every line but the first.
    """
    glued = _TOGETHER.sub("\u00a0", text)
    lines = textwrap.wrap(glued, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\u00a0", " ")


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def plain(document: Any) -> Any:
    """A document in JSON types; a number that is none is null."""
    if hasattr(document, "model_dump"):
        return document.model_dump(mode="json", by_alias=True)
    if dataclasses.is_dataclass(document) and not isinstance(document, type):
        return plain({f.name: getattr(document, f.name) for f in dataclasses.fields(document)})
    if isinstance(document, dict):
        return {str(key): plain(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [plain(value) for value in document]
    if hasattr(document, "tolist"):  # numpy, without importing it
        return plain(document.tolist())
    if isinstance(document, float):
        return document if math.isfinite(document) else None
    return document if isinstance(document, str | int | bool | None) else str(document)


def tolerate_narrow_encodings(*streams: TextIO) -> None:
    """Let a terminal that lacks ``≥`` or ``·`` show ``?`` instead of failing."""
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")

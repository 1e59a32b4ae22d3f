"""What somebody is told to type next works when typed: it repeats the ``--bench`` and ``--runs`` of the command before.

Nothing here is slow to import: errors of the supervisor are completed, too.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

RUNS = "runs"
"""The archive of a command that names none."""


@dataclass(frozen=True)
class Takes:
    """What a command takes of the one before: ``Takes(1, runs=True)``.

    Attributes
    ----------
    words
        How many words follow its name at most, before the options.
    runs
        It looks into an archive.
    bench
        It means the bench of a station.
    """

    words: int = 0
    runs: bool = False
    bench: bool = False


_MANY = 99
COMMANDS: Mapping[str, Takes] = {
    "adapt": Takes(1, runs=True),
    "align": Takes(bench=True),
    "calib diff": Takes(2, runs=True),
    "calib list": Takes(runs=True),
    "calibrate": Takes(_MANY, runs=True, bench=True),
    "demo": Takes(runs=True, bench=True),
    "devices live": Takes(1, bench=True),
    "devices show": Takes(_MANY, bench=True),
    "devices test": Takes(1, bench=True),
    "doctor": Takes(runs=True, bench=True),
    "drift ack": Takes(1, runs=True, bench=True),
    "drift rebaseline": Takes(1, runs=True, bench=True),
    "drift show": Takes(1, runs=True, bench=True),
    "export": Takes(1, runs=True),
    "fit": Takes(1, runs=True),
    "import": Takes(1, runs=True),
    "index rebuild": Takes(runs=True),
    "measure": Takes(1, runs=True, bench=True),
    "nightly run": Takes(runs=True, bench=True),
    "nightly status": Takes(runs=True, bench=True),
    "nightly test-notify": Takes(bench=True),
    "plan": Takes(1, runs=True, bench=True),
    "predict": Takes(2, runs=True),
    "report": Takes(1, runs=True),
    "run compare": Takes(2, runs=True),
    "run gc": Takes(runs=True, bench=True),
    "run list": Takes(runs=True),
    "run pin": Takes(1, runs=True),
    "run recover": Takes(1, runs=True),
    "run resume": Takes(1, runs=True),
    "run show": Takes(1, runs=True),
    "run tail": Takes(1, runs=True),
    "run unpin": Takes(1, runs=True),
    "run verify": Takes(1, runs=True),
    "scaling": Takes(_MANY, runs=True),
    "serve": Takes(runs=True),
    "service install": Takes(runs=True, bench=True),
    "service show": Takes(runs=True, bench=True),
    "service status": Takes(bench=True),
    "service uninstall": Takes(bench=True),
    "simulate": Takes(2, runs=True),
    "station check": Takes(bench=True),
    "station show": Takes(bench=True),
    "train": Takes(1, runs=True, bench=True),
    "validate": Takes(1, runs=True),
}
"""Every command that looks into an archive or means a bench."""

_BEGINS = re.compile(r"(?:^[ ]*|: +|· +|, +|\b(?:or|then|and|type|try) +)labctl(?= [a-z])", re.MULTILINE)
"""Where a command is what to type, and no word of a sentence."""
_ENDS = re.compile(r"   ·   |\n|; ")
_WORD = re.compile(r" +(?:'[^']*'|\"[^\"]*\"|[^-\s][^\s]*)")
_GIVEN = {"--bench": r" (--bench|-b)\b", "--runs": r" --runs\b"}
_STOP = (",", ";", ")", ".")


def given(bench: str | None, runs: Path | None) -> dict[str, str]:
    """The options that the next command needs in order to mean the same: those that differ from what it takes anyway.

    Parameters
    ----------
    bench, runs
        What the command was called with; None where it takes no such option, or was given none.
    """
    options = {}
    if bench is not None and bench != os.environ.get("LABCTL_BENCH"):
        options["--bench"] = bench
    if runs is not None and not _same(runs, Path(os.environ.get("LABCTL_RUNS") or RUNS)):
        options["--runs"] = str(runs)
    return options


def _same(one: Path, other: Path) -> bool:
    try:
        return one.absolute() == other.absolute()
    except OSError:  # the working folder is gone
        return one == other


def completed(text: str, options: Mapping[str, str]) -> str:
    """The text, in which each command that is to be typed has those of the options that it takes and does not have.

    Examples
    --------
    >>> completed("go on: labctl run resume k7f2   ·   labctl drift show", {"--runs": "../runs", "--bench": "a.toml"})
    'go on: labctl run resume k7f2 --runs ../runs   ·   labctl drift show --bench a.toml --runs ../runs'
    """
    if not options or "labctl " not in text:
        return text
    parts, done = [], 0
    for begin in _BEGINS.finditer(text):
        end = _ENDS.search(text, begin.end())
        segment = text[begin.end() : end.start() if end else len(text)]
        at, takes = _command(segment)
        if takes is None or segment[at : at + 1] == ":":  # a name before words of its own
            continue
        missing = [
            f" {name} {shlex.quote(value)}"
            for name, value in sorted(options.items())
            if getattr(takes, name.removeprefix("--")) and not re.search(_GIVEN[name], segment)
        ]
        parts += [text[done : begin.end() + at], *missing]
        done = begin.end() + at
    return "".join([*parts, text[done:]])


def _command(segment: str) -> tuple[int, Takes | None]:
    """Where options of the command at the beginning may stand, and what it takes; None where there is none."""
    words = re.match(r" ([a-z-]+)(?: ([a-z-]+))?", segment)
    if words is None:
        return 0, None
    two, one = f"{words[1]} {words[2]}", words[1]
    takes = COMMANDS.get(two) or COMMANDS.get(one)
    at = len(two) + 1 if two in COMMANDS else len(one) + 1
    for _ in range(takes.words if takes else 0):
        if segment[at : at + 1] in _STOP or (word := _WORD.match(segment, at)) is None:
            break
        at = word.end() - len(word[0]) + len(word[0].rstrip(",;)."))
    return at, takes

"""``labctl run tail``: follow a run that another process writes."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from labctl.cli.handler import LATEST, RUNS, NewestRun, RunsOption, can_go_on
from labctl.console import PLAIN_EVERY_S, WIDTH_MAX
from labctl.lab import Lab
from labctl.osal import write_line

if TYPE_CHECKING:
    from labctl.archive import RunReader
    from labctl.console import Console

POLL_S = 0.3


def tail(
    lab: Lab,
    run: NewestRun = LATEST,
    runs: RunsOption = RUNS,
) -> None:
    """Follow a run until it ends, event by event. Reads its folder from any process, and touches nothing.

    A run that has ended is told from its beginning. The exit code says nothing of the run.
    """
    from labctl.archive import RunReader, find_run
    from labctl.archive.progress import read_progress
    from labctl.archive.tail import Folded, Tail, where

    folder = find_run(runs, run)
    follower, folded, line, events = Tail(folder), Folded(), _LastLine(lab.console), 0
    lab.console.say(f"run {folder.name}")
    while True:
        is_over = follower.is_over()  # asked first: what is journalled before the end is told
        for event in follower.news():
            events += 1
            for words in folded.lines(event):
                line.clear()
                lab.console.say(words)
        progress = read_progress(folder)
        if is_over:
            break
        if progress is not None:
            line.show(where(progress))
        time.sleep(POLL_S)
    line.clear()
    for words in folded.rest():
        lab.console.say(words)
    reader = RunReader(folder)
    document = {
        "run_id": reader.run_id,
        "status": reader.status,
        "exit_code": reader.seal.exit_code if reader.seal else None,
        "finished": reader.seal.finished if reader.seal else None,
        "events": events,
        "progress": progress,
    }
    lab.console.result(document, _closing(reader))


def _closing(reader: RunReader) -> str:
    from labctl.archive.tail import exit_words

    named = reader.run_id.rpartition("-")[2]
    if reader.seal is None:
        goes_on = f"   ·   or go on with it: labctl run resume {named}" if can_go_on(reader.path) else ""
        return f"{reader.run_id} has crashed: it has no seal   ·   seal it: labctl run recover {named}{goes_on}"
    return f"{reader.run_id} ended: {reader.status}{exit_words(reader.seal.exit_code)}   ·   labctl run show {named}"


class _LastLine:
    """The line below all others that says where the run is: redrawn on a terminal, elsewhere one every 30 s."""

    def __init__(self, console: Console) -> None:
        self._console, self._shown, self._told_s = console, "", time.monotonic()

    def show(self, text: str) -> None:
        """Put this there."""
        if self._console.quiet:
            return
        if not self._console.interactive:
            if time.monotonic() - self._told_s >= PLAIN_EVERY_S:
                self._told_s = time.monotonic()
                write_line(text, sys.stderr)
            return
        text = text[: WIDTH_MAX - 1]
        sys.stderr.write("\r" + text.ljust(len(self._shown)))
        sys.stderr.flush()
        self._shown = text

    def clear(self) -> None:
        """Take it away, for a line that stays."""
        if self._shown:
            sys.stderr.write("\r" + " " * len(self._shown) + "\r")
            sys.stderr.flush()
            self._shown = ""

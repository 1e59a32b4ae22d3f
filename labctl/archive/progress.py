"""``progress.json``: where a run is now, for whoever looks from outside; replaced about twice a second.

It is no part of what a run has found: no seal covers it, nothing rests on it, and where it cannot be written the run
goes on without it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from groundwork.opening.json_text import read_json
from labctl.archive.ids import timestamp

PROGRESS = "progress.json"
SCHEMA = "labctl.progress/1"
SPACING_S = 0.5

State = Literal["opening", "measuring", "suspended", "fitting", "closing", "done"]


@dataclass(frozen=True)
class Frames:
    """Frames that were read, and how many there will be; None where nobody knows yet."""

    done: int = 0
    total: int | None = None


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Attributes
    ----------
    run_id
        Of the run.
    state
        What it does.
    node, step
        The node that it takes, and the kind of the step that is read; empty where there is none.
    node_frames, run_frames
        Of the node, and of all nodes.
    frames_per_s
        How fast frames have come lately; None before the first ones.
    left_s
        How long the frames that are left will take [s]; None where nobody knows.
    """

    run_id: str
    state: State
    node: str = ""
    step: str = ""
    node_frames: Frames = Frames()
    run_frames: Frames = Frames()
    frames_per_s: float | None = None
    left_s: float | None = None


class ProgressFile:
    """The file of a run folder, replaced at most twice a second.

    Parameters
    ----------
    run
        The folder.
    clock
        Monotonic seconds.
    """

    def __init__(self, run: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock, self._written_s = run / PROGRESS, clock, -math.inf

    def write(self, progress: Callable[[], Progress], *, at_once: bool = False) -> None:
        """Replace the file, unless that was done a moment ago; on a full disk it stays as it is.

        Parameters
        ----------
        progress
            Asked only where the file is replaced.
        at_once
            Whether a moment ago does not matter.
        """
        now_s = self._clock()
        if not at_once and now_s - self._written_s < SPACING_S:
            return
        self._written_s = now_s
        document = {"schema": SCHEMA, "at": timestamp(), "pid": os.getpid(), **asdict(progress())}
        temporary = self._path.with_name(f".{PROGRESS}.tmp")
        try:
            temporary.write_text(json.dumps(document) + "\n", encoding="utf-8")
            temporary.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def read_progress(run: Path) -> dict[str, Any] | None:
    """The document of a run folder; None where there is none that can be read."""
    try:
        document = read_json(run / PROGRESS)
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and document.get("schema") == SCHEMA else None

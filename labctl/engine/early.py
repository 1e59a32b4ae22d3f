"""The lock of the bench, taken before anything is started or imported: of two commands one hears at once of the other.

Only where the command line says for certain which bench it is about; where it does not, the worker takes the lock, as
it also does for who waits.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from groundwork.opening.toml_text import read_toml
from labctl.engine import fresh
from labctl.errors import BenchBusy, LabError
from labctl.locks import PATIENCE_S, BenchFiles, Holder, KernelLock, file_system_without_locks, take
from labctl.resources import data_path

HELD = "LABCTL_BENCH_HELD"
"""In the environment of a worker: the bench that its supervisor holds for it."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_COMMANDS = frozenset({("demo",), ("measure",), ("calibrate",), ("align",), ("nightly", "run")})
_SERVICE = ("INVOCATION_ID", "NOTIFY_SOCKET")
"""Whoever sets one of these ends what a command leaves running."""


@dataclass(frozen=True)
class Wish:
    """What a command line says of its bench, as far as that can be told without the rest of the program.

    Attributes
    ----------
    purpose
        ``"labctl measure"``
    bench
        Name of the bench.
    station
        Its file.
    words
        The command line.
    """

    purpose: str
    bench: str
    station: Path
    words: tuple[str, ...]


@dataclass(frozen=True)
class Early:
    """A lock that was taken early, and who holds it."""

    lock: KernelLock
    holder: Holder


def wish_of(argv: Sequence[str]) -> Wish | None:
    """The bench that a command will hold; None where that is not certain."""
    purpose = next((words for words in _COMMANDS if tuple(argv[: len(words)]) == words), None)
    if (
        purpose is None
        or any(_is(word, "--wait") for word in argv)
        or any("bench" in v for v in _values(argv, "--set"))
    ):
        return None
    named = _values(argv, "--bench", "-b") or [os.environ.get("LABCTL_BENCH", "")]
    try:
        station = _station(named[-1])
        about = read_toml(station).get("bench", {})
        bench = about.get("name", "mock") if isinstance(about, dict) else None
    except (OSError, ValueError, LabError):
        return None
    if not isinstance(bench, str) or not _NAME.fullmatch(bench):
        return None
    return Wish(f"labctl {purpose[0]}", bench, station, tuple(argv))


def hold(wish: Wish) -> Early | None:
    """Take the lock of the bench, and say by whom it is held.

    None where only the worker can say what is wrong: the folder of locks cannot be made, or is not to be trusted.

    Raises
    ------
    BenchBusy
        When another process holds it.
    """
    files = BenchFiles(wish.bench)
    try:
        files.lock.parent.mkdir(parents=True, exist_ok=True)
        if file_system_without_locks(files.lock.parent):
            return None
        lock = take(files.lock, PATIENCE_S)
        if lock is None:
            from labctl.bench.lock import busy  # takes long to import

            raise busy(wish.bench)
    except OSError:
        return None
    holder = Holder.now(wish.bench, os.getpid(), wish.purpose)
    try:
        holder.write_down()
    except OSError:
        lock.release()
        return None
    return Early(lock, holder)


def refused(wish: Wish, error: BenchBusy) -> int:
    """Say who has the bench, as the worker would; returns the exit code.

    A night that finds its bench in use counts as one. Its ending needs nobody to wait for it, unless a service manager
    ends what a command leaves behind.
    """
    from labctl.console import Console
    from labctl.errors import render
    from labctl.summary import Summary, failure
    from labctl.verdicts import Verdict

    console = Console(json_mode="--json" in wish.words)
    summary = failure(error, error.exit_code, Summary(bench=wish.bench, verdict=Verdict.CRASHED))
    console.warn(render(error))
    if console.json_mode:
        console.result(summary)
    if wish.words[0] == "nightly":
        _end_night(wish, summary.model_dump_json(by_alias=True), error.exit_code)
    return error.exit_code


def _end_night(wish: Wish, summary: str, code: int) -> None:
    runs = (_values(wish.words, "--runs") or [os.environ.get("LABCTL_RUNS", "") or "runs"])[-1]
    words = (str(code), "", str(Path(runs).absolute()), str(wish.station.absolute()), summary)
    process = subprocess.Popen(
        fresh.python("labctl.night.ending", *words, *_values(wish.words, "--set")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    if any(name in os.environ for name in _SERVICE):
        process.wait()


def _station(named: str) -> Path:
    if not named:
        return data_path("stations/mock.toml")
    return Path(named) if Path(named).is_file() else data_path(f"stations/{named}.toml")


def _is(word: str, option: str) -> bool:
    return word.partition("=")[0] == option


def _values(argv: Sequence[str], *options: str) -> list[str]:
    """What the command line gives to an option, in its order."""
    found = []
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        for option in options:
            if word == option:
                found.append(following)
            elif word.startswith(f"{option}=") or (len(option) == 2 and word.startswith(option)):
                found.append(word.removeprefix(option).removeprefix("="))
    return found

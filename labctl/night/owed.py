"""What a night owes its bench until its ending is done, and what is known of a bench whose station cannot be read.

Both lie in this user's state folder, beside the locks of the benches: a full or absent archive does not take them away.
``nights/BENCH.json`` holds how the bench's nights end, as its last good station said it, and ``nights/owed/BENCH/`` one
file for each night that had the bench, until its ending is done. Beside each lies a lock of the kernel, which whoever
will do that ending holds from before the file is written: the supervisor of the night. While it lives nobody else does
the ending for it, although the bench is free before. Addresses stand in no file: only the names of the environment
variables that hold them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from groundwork.opening.json_text import parse_json, read_json
from groundwork.opening.regular import MOST_TEXT_BYTES, read_regular
from labctl.archive.atomic import atomic_write_bytes, storage
from labctl.archive.ids import timestamp
from labctl.locks import KernelLock, is_taken, take
from labctl.osal import absolute, state_directory
from labctl.station.loading import LoadedStation
from labctl.station.model import Nightly
from labctl.summary import Summary

INVOCATION = "INVOCATION_ID"
"""systemd's name of one start of a service, in the environment of all that it starts."""
TURN_S = 55.0
"""How long one waits for another process that does the same ending: it needs less than that."""


@dataclass(frozen=True)
class NightBench:
    """A bench, as far as the ending of its nights goes.

    Attributes
    ----------
    name
        Of the bench.
    nightly
        Who hears of its nights, and where their metrics go.
    station
        Its station file; absolute.
    said
        systemd's name of the start whose ending was done last; empty where none was.
    """

    name: str
    nightly: Nightly = field(default_factory=Nightly)
    station: str = ""
    said: str = ""

    @classmethod
    def of(cls, loaded: LoadedStation) -> NightBench:
        """The bench of a station."""
        return cls(loaded.bench, loaded.station.nightly, str(absolute(loaded.path)))


@dataclass(frozen=True)
class Owed:
    """A night, as its ending has to know it.

    Attributes
    ----------
    bench, runs
        Of the night; the archive is an absolute path.
    run
        The folder of its run; None before there is one.
    summary
        How a night without a run ended, as far as it could say so itself.
    token
        Tells this night from any other; empty for one that never had the bench, and owes nothing.
    began
        When; ISO 8601.
    start
        systemd's name of the start of the service; empty where no service started it.
    """

    bench: NightBench
    runs: Path
    run: Path | None = None
    summary: Summary | None = None
    token: str = ""
    began: str = field(default_factory=timestamp)
    start: str = field(default_factory=lambda: os.environ.get(INVOCATION, ""))

    def to_json(self) -> str:
        """All of it, as `owed_from` reads it."""
        return _text(_OWED, self)


_OWED = TypeAdapter(Owed)
_BENCH = TypeAdapter(NightBench)


def _text(form: TypeAdapter[Any], about: Owed | NightBench) -> str:
    """JSON in ASCII: names of files that are no text in any encoding are escapes, which the reader undoes."""
    return json.dumps(form.dump_python(about, mode="json", by_alias=True))


def owed_from(text: str | bytes) -> Owed:
    """What `Owed.to_json` wrote.

    Raises
    ------
    ValueError
        When it is something else.
    """
    return _OWED.validate_python(parse_json(text))


def remember(bench: NightBench) -> None:
    """Keep how the nights of a bench end, for one that cannot read its station.

    Raises
    ------
    StorageError
        When the disk does not take it.
    """
    before = known(bench.name)
    _write(_bench_file(bench.name), _text(_BENCH, replace(bench, said=before.said if before else "")).encode())


def remember_said(bench: str, start: str) -> None:
    """Note that this start of the service has told how it ended; nothing where no service started it."""
    before = known(bench)
    if before is not None and start:
        _write(_bench_file(bench), _text(_BENCH, replace(before, said=start)).encode())


def known(bench: str) -> NightBench | None:
    """What is remembered of a bench; None where nothing is, or it cannot be read."""
    return _read_bench(_bench_file(bench))


def known_by_station(station: Path) -> NightBench | None:
    """What was remembered last of the bench of a station file, which need not exist any more."""
    found = map(_read_bench, sorted(_folder().glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True))
    return next((bench for bench in found if bench is not None and bench.station == str(absolute(station))), None)


def owe(owed: Owed) -> None:
    """Note that the night has the bench, and its ending is to be done.

    Raises
    ------
    StorageError
        When the disk does not take it.
    """
    _write(_owed_file(owed), owed.to_json().encode())


def owed_by(bench: str) -> list[Owed]:
    """The nights of a bench whose ending is to be done, in their order; what cannot be read is left out."""
    found = []
    for path in (_folder() / "owed" / bench).glob("*.json"):
        with suppress(OSError, ValueError):
            found.append(owed_from(read_regular(path, MOST_TEXT_BYTES)))
    return sorted(found, key=lambda owed: owed.began)


def is_owed(owed: Owed) -> bool:
    """Whether the ending is still to be done."""
    return _owed_file(owed).exists()


def claim(owed: Owed, wait_s: float = 0.0) -> KernelLock | None:
    """Take it on to do this ending; None where another process has done so, and lives for longer than ``wait_s``.

    Raises
    ------
    StorageError
        When the lock cannot be made.
    """
    path = _claim_file(owed)
    with storage(path, "writing down who does the ending of a night"):
        path.parent.mkdir(parents=True, exist_ok=True)
        return take(path, wait_s)


def is_claimed(owed: Owed) -> bool:
    """Whether a living process will do this ending."""
    return is_taken(_claim_file(owed))


def paid(owed: Owed) -> None:
    """The ending is done."""
    for path in (_owed_file(owed), _claim_file(owed)):
        path.unlink(missing_ok=True)


@contextmanager
def turn(bench: str, wait_s: float = TURN_S) -> Iterator[bool]:
    """One process at a time does an ending of this bench; whether it is this one, after ``wait_s`` at most."""
    try:
        _folder().mkdir(parents=True, exist_ok=True)
        lock = take(_folder() / f"{bench}.ending", wait_s)
    except OSError:  # the folder cannot be written: better told twice than not at all
        yield True
        return
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.release()


def _read_bench(path: Path) -> NightBench | None:
    try:
        return _BENCH.validate_python(read_json(path))
    except (OSError, ValueError):
        return None


def _write(path: Path, data: bytes) -> None:
    with storage(path, "writing down what a night owes"):
        path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, data)


def _folder() -> Path:
    return state_directory() / "nights"


def _bench_file(bench: str) -> Path:
    return _folder() / f"{bench}.json"


def _owed_file(owed: Owed) -> Path:
    return _folder() / "owed" / owed.bench.name / f"{owed.token}.json"


def _claim_file(owed: Owed) -> Path:
    return _owed_file(owed).with_suffix(".lock")

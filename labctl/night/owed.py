"""What a night owes its bench until its ending is done, and what is known of a bench whose station cannot be read.

Both lie in this user's state folder, beside the locks of the benches: a full or absent archive does not take them away.
``nights/BENCH.json`` holds how the bench's nights end, as its last good station said it, and ``nights/owed/BENCH.json``
the night that had the bench last, until its ending is done. Addresses stand in neither: only the names of the
environment variables that hold them.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from groundwork.opening.regular import read_regular
from labctl.archive.atomic import atomic_write_bytes, storage
from labctl.archive.ids import timestamp
from labctl.locks import take
from labctl.osal import state_directory
from labctl.station.loading import LoadedStation
from labctl.station.model import Nightly
from labctl.summary import Summary

INVOCATION = "INVOCATION_ID"
"""systemd's name of one start of a service, in the environment of all that it starts."""
TURN_S = 50.0
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
        return cls(loaded.bench, loaded.station.nightly, str(loaded.path.absolute()))


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
        return _OWED.dump_json(self, by_alias=True).decode()


_OWED = TypeAdapter(Owed)
_BENCH = TypeAdapter(NightBench)


def owed_from(text: str | bytes) -> Owed:
    """What `Owed.to_json` wrote.

    Raises
    ------
    ValueError
        When it is something else.
    """
    return _OWED.validate_json(text)


def remember(bench: NightBench) -> None:
    """Keep how the nights of a bench end, for one that cannot read its station.

    Raises
    ------
    StorageError
        When the disk does not take it.
    """
    before = known(bench.name)
    _write(_bench_file(bench.name), _BENCH.dump_json(replace(bench, said=before.said if before else "")))


def remember_said(bench: str, start: str) -> None:
    """Note that this start of the service has told how it ended; nothing where no service started it."""
    before = known(bench)
    if before is not None and start:
        _write(_bench_file(bench), _BENCH.dump_json(replace(before, said=start)))


def known(bench: str) -> NightBench | None:
    """What is remembered of a bench; None where nothing is, or it cannot be read."""
    return _read_bench(_bench_file(bench))


def known_by_station(station: Path) -> NightBench | None:
    """What was remembered last of the bench of a station file, which need not exist any more."""
    found = map(_read_bench, sorted(_folder().glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True))
    return next((bench for bench in found if bench is not None and bench.station == str(station.absolute())), None)


def owe(owed: Owed) -> Owed:
    """Note that the night has the bench, and its ending is to be done; gives it with its token.

    Raises
    ------
    StorageError
        When the disk does not take it.
    """
    owed = replace(owed, token=owed.token or secrets.token_hex(8))
    _write(_owed_file(owed.bench.name), owed.to_json().encode())
    return owed


def owed_by(bench: str) -> Owed | None:
    """The night of a bench whose ending is to be done; None where there is none, or it cannot be read."""
    try:
        return owed_from(read_regular(_owed_file(bench)))
    except (OSError, ValidationError):
        return None


def paid(owed: Owed) -> None:
    """The ending is done; that of a night which has begun meanwhile stays owed."""
    kept = owed_by(owed.bench.name)
    if kept is not None and kept.token == owed.token:
        _owed_file(owed.bench.name).unlink(missing_ok=True)


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
        return _BENCH.validate_json(read_regular(path))
    except (OSError, ValidationError):
        return None


def _write(path: Path, data: bytes) -> None:
    with storage(path, "writing down what a night owes"):
        path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, data)


def _folder() -> Path:
    return state_directory() / "nights"


def _bench_file(bench: str) -> Path:
    return _folder() / f"{bench}.json"


def _owed_file(bench: str) -> Path:
    return _folder() / "owed" / f"{bench}.json"

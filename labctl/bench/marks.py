"""A mark beside the bench's lock from before its devices are opened until they have been made safe.

Whoever finds the mark of a process that is gone knows that the light may be on; what the mark says is enough to make
the bench safe.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from groundwork.opening.json_text import read_json
from labctl.archive.atomic import atomic_write_json, storage
from labctl.bench.bench import make_safe, says_unsafe
from labctl.clock import utc_now
from labctl.errors import BenchBusy, LockGone
from labctl.locks import BenchFiles, Holder, KernelLock, benches, holder_of, identity_of, is_taken, take
from labctl.osal import process_lives
from labctl.station import toml_text
from labctl.station.loading import load_station
from labctl.station.model import Station

TOUCH_WAIT_S = 30.0
_SAFE_WAIT_S = 10.0


@dataclass(frozen=True)
class Mark:
    """Devices of a bench are open, or were when their process was killed.

    Attributes
    ----------
    process
        That opened them.
    since
        ISO date, UTC.
    run
        Folder of the run; empty where there is none.
    station
        The effective station, as TOML.
    devices
        Names of those that were opened; empty for all.
    """

    process: int
    since: str
    run: str
    station: str
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class BenchLook:
    """A bench as somebody sees it who only looks.

    Attributes
    ----------
    bench
        Its name.
    held
        The lock is taken.
    holder
        Who has written that he holds it.
    devices_open
        A process has its devices open.
    unsafe
        Its devices were opened by a process that is gone, and have not been made safe since.
    """

    bench: str
    held: bool
    holder: Holder | None
    devices_open: bool
    unsafe: bool

    @property
    def words(self) -> str:
        """What a person has to know."""
        left = "   ·   LEFT UNSAFE: look at the light, then: labctl bench safe " + self.bench if self.unsafe else ""
        if self.held:
            return (f"held by {self.holder.words}" if self.holder else "held by a process that left no name") + left
        if self.holder is not None:
            return f"free   ·   its last holder was killed: {self.holder.words}{left}"
        return f"free{left}"


def look_at(bench: str) -> BenchLook:
    """The bench as it is now."""
    files = BenchFiles(bench)
    with storage(files.lock, "looking who holds the bench"):
        held, devices_open = is_taken(files.lock), is_taken(files.touch)
    mark = mark_of(bench)
    unsafe = files.mark.exists() and not devices_open and not (mark and process_lives(mark.process) and held)
    return BenchLook(bench, held, holder_of(bench), devices_open, unsafe)


def known_benches() -> list[str]:
    """Every bench that somebody of this computer has ever held."""
    return sorted(path.name.removesuffix(".lock") for path in benches().glob("*.lock"))


def mark_of(bench: str) -> Mark | None:
    """The mark of a bench; None where its devices were made safe, or the mark cannot be read."""
    try:
        about = read_json(BenchFiles(bench).mark)
        devices = tuple(str(name) for name in about.get("devices", ()))
        return Mark(int(about["process"]), str(about["since"]), str(about["run"]), str(about["station"]), devices)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_mark(station: Station, run: Path | None = None, devices: Collection[str] = ()) -> None:
    """The devices of this bench are opened from now on; the mark is on the disk at return."""
    text = toml_text.dumps(station.model_dump())
    mark = Mark(os.getpid(), f"{utc_now():%FT%TZ}", str(run or ""), text, tuple(sorted(devices)))
    files = BenchFiles(station.bench.name)
    with storage(files.mark, "marking the bench as open"):
        files.mark.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_json(files.mark, asdict(mark))


@contextmanager
def alone(bench: str) -> Iterator[Callable[[], None]]:
    """Only this process opens devices of the bench inside the block, for as long as the files of its locks are there.

    Yields
    ------
    A function that raises `LockGone` where one of them is not the file any more that was locked: whoever removes the
    state folder frees the bench for the next command, which makes files of its own.

    Raises
    ------
    BenchBusy
        When a process that ought to be gone still has them open.
    """
    files = BenchFiles(bench)
    touch = _touched(files)
    held = {files.lock: identity_of(files.lock), files.touch: identity_of(touch.descriptor)}

    def require_held() -> None:
        for path, identity in held.items():
            if identity is None or identity_of(path) != identity:
                raise _lock_gone(bench, path)

    try:
        yield require_held
    finally:
        touch.release()


@contextmanager
def marked_open(station: Station, run: Path | None = None, devices: Collection[str] = ()) -> Iterator[None]:
    """The mark is there inside the block; it stays where the process is killed, or says that the bench is not safe."""
    write_mark(station, run, devices)
    try:
        yield
    except BaseException as error:
        if not says_unsafe(error):
            _remove_own_mark(station.bench.name)
        raise
    _remove_own_mark(station.bench.name)


def _remove_own_mark(bench: str) -> None:
    """Where the state folder was removed meanwhile, the mark may be that of the next command."""
    mark = mark_of(bench)
    if mark is None or mark.process == os.getpid():
        BenchFiles(bench).mark.unlink(missing_ok=True)


def make_marked_safe(bench: str, process: int | None = None) -> bool:
    """Make a bench safe whose mark was left behind; whether it is safe now.

    Parameters
    ----------
    process
        Only where this one has left it.
    """
    files = BenchFiles(bench)
    touch = take(files.touch, _SAFE_WAIT_S)
    if touch is None:
        return False
    try:
        mark = mark_of(bench)
        if not files.mark.exists() or (process is not None and mark is not None and mark.process != process):
            return True
        if mark is None or make_safe(station_of(mark), mark.devices or None):
            return False
        files.mark.unlink(missing_ok=True)
        return True
    finally:
        touch.release()


def station_of(mark: Mark) -> Station:
    """The station as it was when the devices were opened."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "station.toml"
        path.write_text(mark.station, encoding="utf-8")
        return load_station(path).station


def _lock_gone(bench: str, path: Path) -> LockGone:
    return LockGone(
        "the file of its lock was removed or replaced in mid-use: another command could take the bench",
        device=bench,
        action="asking whether the bench is still held",
        expected=f"{path}, the file that is locked",
        seen="another file" if path.exists() else "no such file",
        safe="the light is switched off and the devices are closed; what was sealed before is intact",
        hint=f"leave {path.parent} alone while a bench is in use; who has the bench now: labctl bench who {bench}",
    )


def _touched(files: BenchFiles) -> KernelLock:
    with storage(files.touch, "opening devices"):
        files.touch.parent.mkdir(parents=True, exist_ok=True)
        lock = take(files.touch, TOUCH_WAIT_S)
    if lock is None:
        mark = mark_of(files.bench)
        raise BenchBusy(
            "another process has devices of the bench open",
            device=files.bench,
            action="opening devices",
            seen=f"process {mark.process}, since {mark.since}" if mark else "a process that left no name",
            safe="nothing was touched",
            hint=f"end that process, then look: labctl bench who {files.bench}",
        )
    return lock
